"""A training sample as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

LONGEST = 600
"""Characters shown of a sample."""


def marked(tokenizer: Any, ids: Sequence[int], silent: Sequence[bool]) -> str:
    """The text of the ids, tokens without loss in brackets; the middle of a long one is left out."""
    parts = []
    for without_loss, run in groupby(range(len(ids)), key=lambda place: bool(silent[place])):
        text = tokenizer.decode([ids[place] for place in run], skip_special_tokens=False)
        parts.append(f"[{text}]" if without_loss else text)
    whole = "".join(parts)
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST // 2]} ... {whole[-LONGEST // 2 :]}"
