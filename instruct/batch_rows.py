"""Rows of the batch command: sequences of tables and FASTA files, checked and cropped as the task's card says."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from data_convert.cards import TaskCard
from data_convert.examples import InputReader, Rejected
from data_convert.rows import LONGEST_FIELD, Row, read_rows
from sequences.readers import blocks, fasta_records, numbered_lines

SINGLE_IDS = ("seq_id", "id")
PAIR_IDS = ("seq_id_a", "seq_id_b")


@dataclass(frozen=True, slots=True)
class Sample:
    """One row to predict."""

    ids: tuple[str, ...]
    """One, or of a pair the two of `seq_id_a` and `seq_id_b`."""
    raw: tuple[str, ...]
    """Sequences as they stand in the file."""
    inputs: dict[str, str]
    """Input name -> letters, upper case, cropped."""
    truth: str | None
    where: str
    """file:line."""


class Rows:
    """Usable rows of the files in their order; the others are counted, and kept with their reasons in `rejected`.

    A table (CSV, or TSV by its name) has a header. Sequences stand in the card's columns, or in `seq` or `sequence`, of pairs
    `seq_a` and `seq_b`; ids in `seq_id` or `id`, of pairs also `seq_id_a` and `seq_id_b`; without any a row is `line2`, or of
    several files `FILE:line2`.

    Raises:
        UserError: missing or damaged file, no column of a sequence or of the ground truth, FASTA for a task of pairs, tables of
            pairs with one id and with two.
    """

    def __init__(self, card: TaskCard, files: list[Path], ground_truth: str | None) -> None:
        if len(card.inputs) > 2:
            raise UserError(f"task {card.id}: {len(card.inputs)} sequences a row; one or two can be predicted in batches")
        self.card, self.ground_truth = card, ground_truth
        self.ledger, self.rejected = Ledger(examples=0), list[tuple[str, str, str]]()
        """Place, id, reason."""
        self._plans = [self._plan(path) for path in files]
        if len({len(ids) for _, _, ids in self._plans}) > 1:
            raise UserError("some of the tables have one id a row and others seq_id_a and seq_id_b; predict them apart")
        self.two_ids = len(self._plans[0][2]) == 2

    def read(self) -> Iterator[Sample]:
        """Raises UserError for damage that shows only on the way."""
        seen: dict[tuple[str, ...], str] = {}
        for path, card, ids in self._plans:
            reader = InputReader(card, {})
            for row in _fasta_rows(path, card) if card.format == "fasta" else read_rows(card, path):
                self.ledger.read += 1
                place, key = at(path, row.line), tuple(str(row.values.get(name, "")).strip() for name in ids)
                if not ids:
                    key = (f"{path}:line{row.line}" if len(self._plans) > 1 else f"line{row.line}",)
                try:
                    sample = self._sample(row, card, key, reader, seen, place)
                except Rejected as problem:
                    self.ledger.reject(problem.reason, place)
                    self.rejected.append(
                        (place, "#".join(key), f"{problem.reason} ({problem.detail})" if problem.detail else problem.reason)
                    )
                    continue
                self.ledger.written += 1
                yield sample

    def set_aside(self, sample: Sample, reason: str, detail: str) -> None:
        """Take back a sample that was read."""
        self.ledger.written -= 1
        self.ledger.reject(reason, "#".join(sample.ids))
        self.rejected.append((sample.where, "#".join(sample.ids), f"{reason} ({detail})"))

    def _sample(
        self, row: Row, card: TaskCard, key: tuple[str, ...], reader: InputReader, seen: dict[tuple[str, ...], str], place: str
    ) -> Sample:
        if row.problem:
            raise Rejected(row.problem)
        if not all(key):
            raise Rejected("no id")
        if key in seen:
            raise Rejected("duplicated id", f"also at {seen[key]}")
        raw = tuple(str(row.values[item.column]).strip() for item in card.inputs)
        # letters may be broken by blanks, as in FASTA
        inputs, _ = reader.read({**row.values, **{item.column: "".join(str(row.values[item.column]).split()) for item in card.inputs}})
        seen[key] = place
        truth = None if self.ground_truth is None else str(row.values.get(self.ground_truth, ""))
        return Sample(key, raw, inputs, truth, place)

    def _plan(self, path: Path) -> tuple[Path, TaskCard, tuple[str, ...]]:
        """The file, the card as its columns have it, and its columns of ids."""
        card = self.card
        head = next(blocks(path), b"")
        if head.lstrip().startswith(b">"):
            if len(card.inputs) > 1 or self.ground_truth is not None:
                what = "pairs" if len(card.inputs) > 1 else "a ground truth"
                raise UserError(f"{path}: {what} cannot be read from FASTA; give a CSV file")
            item = card.inputs[0].model_copy(update={"column": "seq", "type_column": None, "sequences": None})
            return path, card.model_copy(update={"format": "fasta", "inputs": [item], "columns": []}), ("seq_id",)
        form = "tsv" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".txt")) else "csv"
        header = _header(path, "\t" if form == "tsv" else ",")
        inputs = []
        for item, name, kind in zip(card.inputs, *_names(card), strict=True):
            column = next((column for column in (item.column, *name) if column in header), None)
            if column is None:
                wanted = " or ".join(dict.fromkeys((item.column, *name)))
                raise UserError(
                    f"{at(path, 1)}: no column {wanted} for the {item.modality} of {card.id}; found: {', '.join(header) or 'none'}"
                )
            types = item.type_column if item.type_column in header else kind if kind in header else None
            inputs.append(item.model_copy(update={"column": column, "type_column": types, "sequences": None}))
        if self.ground_truth is not None and self.ground_truth not in header:
            raise UserError(f"{at(path, 1)}: no column '{self.ground_truth}' for the ground truth; found: {', '.join(header)}")
        ids = PAIR_IDS if len(inputs) == 2 and set(PAIR_IDS) <= set(header) else tuple([n for n in SINGLE_IDS if n in header][:1])
        plain = {"columns": [], "header": True, "where": {}, "row_id": [], "label": None, "label_key": None}
        return path, card.model_copy(update={"format": form, "inputs": inputs, **plain}), ids


def _names(card: TaskCard) -> tuple[list[tuple[str, ...]], list[str]]:
    """LucaOne's columns of each input: letters, and type."""
    if len(card.inputs) == 1:
        return [("seq", "sequence")], ["seq_type"]
    return [("seq_a",), ("seq_b",)], ["seq_type_a", "seq_type_b"]


def _header(path: Path, separator: str) -> list[str]:
    csv.field_size_limit(LONGEST_FIELD)
    _, raw = next(numbered_lines(path), (1, b""))
    text = raw.decode("utf-8", "replace").rstrip("\r\n")
    fields = next(csv.reader([text]), []) if separator == "," else text.split(separator)
    return [name.strip() for name in fields]


def _fasta_rows(path: Path, card: TaskCard) -> Iterator[Row]:
    for line, header, body in fasta_records(path):
        name = header.split()[0] if header.split() else ""
        yield Row(line, {"seq_id": name, card.inputs[0].column: b"".join(body).decode("latin-1")})
