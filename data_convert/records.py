"""Instruction records, read back: the JSON lines that `tasks.convert` writes, each checked before any of them is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read and check instruction records.

    Raises:
        UserError: file:line of a line that is not JSON, lacks a field, has no answer, answers outside its choices, or
            repeats an id.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such records; run `llama-gene convert tasks` first")
    records: list[dict[str, Any]] = []
    seen: set[str] = set()
    with Path(path).open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{at(path, number)}: not a JSON line ({error}); convert the tasks again") from None
            if problem := _problem(record):
                raise UserError(f"{at(path, number)}: {problem}; mend the line or convert the tasks again")
            if record["id"] in seen:
                raise UserError(f"{at(path, number)}: id '{record['id']}' stands in the file twice; ids must be unique")
            seen.add(record["id"])
            records.append(record)
    return records


def _problem(record: Any) -> str | None:
    """What is wrong with a record, or None."""
    if not isinstance(record, dict):
        return "not a record"
    for field in ("id", "task", "split", "kind", "prompt", "completion", "choices", "inputs"):
        if field not in record:
            return f"no '{field}'"
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        messages = record[field]
        well_formed = isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)
        text = messages[-1].get("content") if well_formed else None
        if not isinstance(text, str) or not text.strip():
            return "the record has no answer (completion)" if field == "completion" else "the record has no prompt"
        if messages[-1].get("role") != role:
            return f"the {field} does not end with the {role}'s words"
    if record.get("label") in (None, ""):
        return "the record has no answer (label)"
    given = record["completion"][-1]["content"]
    if record["choices"] and given not in record["choices"]:
        return f"its answer '{given}' is not one of its choices"
    return None
