"""Sample chats for the report: drawn by the seed, not chosen by merit."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_convert.tasks.card_fields import ITEM_SEPARATOR, NO_ITEM
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.records import answer_of
from eval.judge.probability import probabilities
from sequences.spans import sequences

HEAD, TAIL = 36, 18
"""Letters shown of a long sequence."""
MOST_CHOICES = 6


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt: plain text, or a sequence between its tags with the middle left out."""

    text: str
    tags: tuple[str, str] | None = None
    hidden: int = 0
    tail: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Bar:
    """Probability of one choice."""

    choice: str
    share: float
    gold: bool


@dataclass(frozen=True)
class Chat:
    """One test record with what the model made of it."""

    id: str
    prompt: list[Piece]
    gold: str
    predicted: str
    written: str | None
    status: str | None
    right: bool | None
    """Whether the prediction is the gold label; None for numbers and texts, which are near or far."""
    bars: list[Bar]
    more_choices: int


def draw(lines: Sequence[dict[str, Any]], records: dict[str, dict[str, Any]], count: int, seed: int) -> list[Chat]:
    """`count` of a task's prediction lines at random, in file order."""
    # the task's name is part of the seed, or every task of equal size would show the same rows
    rng = np.random.default_rng([seed, zlib.crc32(lines[0]["task"].encode())])
    chosen = rng.choice(len(lines), size=min(count, len(lines)), replace=False)
    return [_chat(lines[i], records[lines[i]["id"]]) for i in sorted(chosen)]


def pieces(prompt: str) -> list[Piece]:
    """Split a prompt at its sequence spans and shorten long ones in the middle."""
    found, end = [], 0
    for span in sequences(prompt):
        letters = prompt[span.start : span.end]
        if span.tag > end:
            found.append(Piece(prompt[end : span.tag]))
        hidden = len(letters) - HEAD - TAIL
        tags = (span.alphabet.open_tag, span.alphabet.close_tag)
        # leaving out a letter or two would cost more room than it saves
        if hidden > TAIL:
            found.append(Piece(letters[:HEAD], tags, hidden, letters[-TAIL:], span.alphabet.unit))
        else:
            found.append(Piece(letters, tags, unit=span.alphabet.unit))
        end = span.past
    return found + ([Piece(prompt[end:])] if end < len(prompt) else [])


def _chat(line: dict[str, Any], record: dict[str, Any]) -> Chat:
    bars: list[Bar] = []
    if line["logprobs"]:
        shares = probabilities(np.array([line["logprobs"]], dtype=float))[0]
        gold = answer_of(record)
        bars = [Bar(choice, float(p), choice == gold) for choice, p in zip(line["choices"], shares, strict=True)]
        bars.sort(key=lambda bar: -bar.share)
    return Chat(
        id=line["id"],
        prompt=pieces(record["prompt"][-1]["content"]),
        gold=_show(line["gold"]),
        predicted=_show(line["predicted"]),
        written=line["text"],
        status=line["status"],
        right=line["predicted"] == line["gold"] if KINDS[line["kind"]].one_label else None,
        bars=bars[:MOST_CHOICES],
        more_choices=max(0, len(bars) - MOST_CHOICES),
    )


def _show(value: str | float | list[str] | None) -> str:
    if value is None:
        return "no answer"
    if isinstance(value, list):
        return ITEM_SEPARATOR.join(value) or NO_ITEM
    return value if isinstance(value, str) else f"{value:.3g}"
