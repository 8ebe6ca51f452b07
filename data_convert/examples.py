"""Rows -> examples: every check a row must pass, and the ledger of those that did not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.errors import Ledger, UserError, at
from data_convert.cards import CLASSIFICATION, TaskCard
from data_convert.prompts import answer
from data_convert.rows import Row, read_rows
from tokenizer.alphabets import ALPHABETS


@dataclass(frozen=True, slots=True)
class Example:
    """A row that passed every check."""

    row: str
    place: str
    """`file:line`, the file relative to the task's source folder."""
    inputs: dict[str, str]
    label: str | float
    answer: str

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self.inputs.values())


def read_examples(card: TaskCard, path: Path, name: Path) -> tuple[list[Example], dict[str, Any]]:
    """Usable rows of one file, and its ledger with the numbers of cropped inputs and of values beyond the grid.

    Args:
        name: how the file is called in the records: its path relative to the task's source folder.

    Raises:
        UserError: no row at all, or more than half of them unusable.
    """
    ledger, examples, seen = Ledger(), list[Example](), set[str]()
    changes: dict[str, int] = {"cropped": 0, "beyond_grid": 0}
    for row in read_rows(card, path):
        ledger.read += 1
        place = at(path, row.line)
        try:
            if row.id in seen:
                raise _Unusable("duplicated id", f"'{row.id}'")
            example = _example(card, row, at(name.as_posix(), row.line), changes)
        except _Unusable as problem:
            ledger.reject(problem.reason, f"{place} ({problem.detail})" if problem.detail else place)
            continue
        seen.add(row.id)
        ledger.written += 1
        examples.append(example)
    if ledger.written * 2 < ledger.read or not ledger.read:
        reasons = "; ".join(f"{reason}: {count}, first {ledger.examples[reason][0]}" for reason, count in ledger.reasons.most_common(3))
        raise UserError(
            f"{path}: {ledger.rejected} of {ledger.read} rows cannot be used for {card.id} ({reasons or 'the file has no rows'}); "
            "is this the right file?"
        )
    return examples, {**ledger.as_dict(), **changes}


class _Unusable(Exception):
    """A row to be set aside."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


def _example(card: TaskCard, row: Row, place: str, changes: dict[str, int]) -> Example:
    if not row.whole:
        raise _Unusable("another number of fields than the header")
    label, text, beyond = _label(card, row.label)
    inputs, cropped = {}, False
    for item in card.inputs:
        letters, alphabet = row.letters[item.name], ALPHABETS[item.modality]
        if not letters:
            raise _Unusable("empty sequence", item.name)
        if (position := alphabet.first_foreign(letters)) >= 0:
            raise _Unusable(f"letter outside {item.modality}", f"'{letters[position]}' in {item.name}")
        if len(letters) > card.max_letters:
            if card.crop == "refuse":
                raise _Unusable(f"longer than {card.max_letters} letters", f"{item.name}: {len(letters)}")
            start = (len(letters) - card.max_letters) // 2
            letters, cropped = letters[start : start + card.max_letters], True
        inputs[item.name] = alphabet.clean(letters)
    changes["cropped"] += cropped
    changes["beyond_grid"] += beyond
    return Example(row.id, place, inputs, label, text)


def _label(card: TaskCard, raw: str) -> tuple[str | float, str, bool]:
    """The record's label, its answer, and whether the value lay beyond the grid."""
    if not raw:
        raise _Unusable("no label")
    if card.kind in CLASSIFICATION:
        if raw not in card.labels:
            raise _Unusable("unknown label", f"'{raw}'")
        return card.labels[raw].name, card.labels[raw].name, False
    if card.kind == "text":
        return raw, raw, False
    assert card.grid is not None, "the card's own check"
    try:
        value = float(raw)
        half = card.grid.step / 2
        return value, answer(card, value), not card.grid.low - half <= value <= card.grid.high + half
    except ValueError:  # UserError, for a value that is not finite, is one
        raise _Unusable("label is no finite number", f"'{raw}'") from None
