"""The ids that an extension added, read back from the folder it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from artefacts.errors import UserError

NEW_IDS = "new_ids.json"


def new_ids(folder: Path) -> list[int]:
    """Ids the extension added, from new_ids.json: explicit, since matrices may be padded beyond them.

    Raises:
        UserError: the folder was not extended by `tokenizer extend`.
    """
    path = folder / NEW_IDS
    if not path.is_file():
        raise UserError(f"{folder}: no {NEW_IDS}, so its new rows are unknown; extend it with `llama-gene tokenizer extend`, or rows=all")
    found = json.loads(path.read_text(encoding="utf-8"))
    ids = [found["pad"], *found["tags"].values(), *found["glue"]]
    return sorted({*ids, *(number for first, last in found["pieces"].values() for number in range(first, last + 1))})
