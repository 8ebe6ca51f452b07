"""Rows -> examples: every check a row must pass, the length policy, and the ledger of the rows that did not pass."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.errors import Ledger, at
from data_convert.tasks.card_fields import Input
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.kinds import Rejected
from data_convert.tasks.labels import resolve_labels
from data_convert.tasks.rows import Row, read_rows, read_sequences_by_id
from sequences.alphabets import ALPHABETS, BadSequence

TYPES = {"gene": ("dna", "rna"), "prot": ("protein",)}
"""LucaOne's `seq_type`, and the modalities that it may stand for."""


@dataclass(slots=True)
class Example:
    """A row that passed every check."""

    row: str
    """What names the row inside its file."""
    line: int
    inputs: dict[str, str]
    """Input name -> letters, upper case, cropped."""
    label: str | float | list[str]
    answer: str
    meta: dict[str, Any] | None


class TaskLedger(Ledger):
    """A ledger that knows rows which are left out on purpose (another task's, too long for the card) from broken ones."""

    def __init__(self, max_broken: float = 1.0) -> None:
        super().__init__(max_broken)
        self.changes = {"cropped": 0, "beyond_grid": 0}

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "left_out": self.left_out, **self.changes}


class Reader:
    """Reads the files of one task, as often as wanted, one row in memory at a time.

    Raises:
        UserError: a label file or a file of sequences that is missing or does not fit the card.
    """

    def __init__(self, card: TaskCard, source: Path) -> None:
        self.source = source
        labels, self.note = resolve_labels(card, source)
        self.card = card.model_copy(update={"labels": labels})
        self._row_id = card.row_id or ["id"]
        files = {item.sequences for item in card.inputs if item.sequences}
        self._inputs = InputReader(card, {file: read_sequences_by_id(source / file) for file in sorted(files)})

    def read(self, file: str, ledger: TaskLedger) -> Iterator[Example]:
        """Usable rows of a file, relative to the source folder; the others go to the ledger with file, line and reason."""
        seen: set[int] = set()
        path = self.source / file
        for row in read_rows(self.card, path):
            ledger.read += 1
            try:
                example = self._example(row, seen, ledger)
            except Rejected as problem:
                place = at(path, row.line)
                where = f"{place} ({problem.detail})" if problem.detail else place
                ledger.reject(problem.reason, where, on_purpose=problem.on_purpose)
                continue
            ledger.written += 1
            yield example

    def _example(self, row: Row, seen: set[int], ledger: TaskLedger) -> Example:
        if row.problem:
            raise Rejected(row.problem)
        card, values = self.card, row.values
        for column, pattern in card.where.items():
            if not fnmatch.fnmatchcase(str(values.get(column, "")), pattern):
                raise Rejected("of another task", on_purpose=True)
        name = "+".join([str(values.get(column, "")).strip() for column in self._row_id])
        # eight bytes a row; two ids that share them are one chance in millions of millions
        if name and (identity := hash(name)) in seen:
            raise Rejected("duplicated id", f"'{name[:60]}'")
        label, answer, beyond = card.answers.read(card, self._raw_label(values))
        inputs, cropped = self._inputs.read(values)
        ledger.changes["cropped"] += cropped
        ledger.changes["beyond_grid"] += beyond
        if name:
            seen.add(identity)
        return Example(name or str(row.line), row.line, inputs, label, answer, row.meta)

    def _raw_label(self, values: dict[str, Any]) -> Any:
        card = self.card
        raw = values.get(card.label or "label", "")
        if card.format == "uniprot" and not raw:
            raise Rejected("entry without this annotation", on_purpose=True)
        if card.label_key is not None:
            try:
                found = json.loads(raw)
            except (TypeError, ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise Rejected("label is no JSON object", f"'{str(raw)[:60]}'")
            if (raw := found.get(card.label_key)) is None:
                raise Rejected("of another task", on_purpose=True)
        return raw


class InputReader:
    """The sequences of a row: found by the card's columns, checked, and cropped as the card says.

    Args:
        sequences: file named by an input -> its letters by id.
    """

    def __init__(self, card: TaskCard, sequences: dict[str, dict[str, str]]) -> None:
        self.card, self._sequences = card, sequences
        self._items = [
            (item, item.max_letters or card.max_letters, ALPHABETS[item.modality].read, item.type_column or item.sequences)
            for item in card.inputs
        ]

    def read(self, values: dict[str, Any]) -> tuple[dict[str, str], bool]:
        """Input name -> letters, and whether one was cropped. Raises Rejected with the reason."""
        inputs, cropped = {}, False
        for item, most, clean, elsewhere in self._items:
            raw = str(values.get(item.column, ""))
            try:
                letters = clean(self._found(raw.strip(), values, item) if elsewhere else raw)
            except BadSequence as problem:
                raise Rejected(problem.reason, f"{item.name}: {problem.detail}" if problem.detail else item.name) from None
            if len(letters) > most:
                letters, cropped = self._crop(letters, most, item.name, values), True
            inputs[item.name] = letters
        return inputs, cropped

    def _found(self, raw: str, values: dict[str, Any], item: Input) -> str:
        """The letters that a cell names, where it is an id, after checking what the type column says."""
        if item.type_column is not None:
            said = str(values.get(item.type_column, "")).strip()
            if item.modality not in TYPES.get(said, ()):
                raise Rejected("type column disagrees with the card", f"'{said[:20]}' for {item.name}, which is {item.modality}")
        if raw and item.sequences is not None:
            found = self._sequences[item.sequences].get(raw)
            if not found:
                raise Rejected("no sequence of this id", f"{item.name}: '{raw[:60]}'")
            raw = found
        return raw

    def _crop(self, letters: str, most: int, name: str, values: dict[str, Any]) -> str:
        crop = self.card.crop
        if crop == "refuse":
            raise Rejected(f"longer than {most} letters", f"{name}: {len(letters)}", on_purpose=True)
        last = len(letters) - most
        if crop == "column":
            said = str(values.get(self.card.crop_column or "", "")).strip()
            if not (said.isascii() and said.isdigit()) or int(said) >= len(letters):
                raise Rejected("no position inside the sequence to crop around", f"'{said[:20]}'")
            start = min(max(int(said) - most // 2, 0), last)
        else:
            start = {"start": 0, "centre": last // 2, "end": last}[crop]
        return letters[start : start + most]
