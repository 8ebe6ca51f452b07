"""Rows of the batch command: sequences of tables and FASTA files, checked and cropped as the task's card says."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.examples import InputReader
from data_convert.tasks.kinds import Rejected
from sequences.formats import FASTA
from sequences.readers import fasta_records, sequence_format
from sequences.tables import Table

SINGLE_IDS = ("seq_id", "id")
PAIR_IDS = ("seq_id_a", "seq_id_b")
LETTERS_THEMSELVES = {"sequences": None, "inside": None, "region": None}
"""An input's column holds letters, whatever it holds in the benchmark's files."""


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

    A table has a header, which shows its delimiter. Sequences stand in the card's columns, or in `seq` or `sequence`, of pairs
    `seq_a` and `seq_b`; ids in `seq_id` or `id`, of pairs also `seq_id_a` and `seq_id_b`; without any a row is `line2`, or of
    several files `FILE:line2`.

    Raises:
        UserError: missing or damaged file, no column of a sequence or of the ground truth, FASTA for a task of pairs, tables of
            pairs with one id and with two.
    """

    def __init__(self, card: TaskCard, files: list[Path], ground_truth: str | None) -> None:
        if not 1 <= len(card.inputs) <= 2 or card.texts or card.options:
            texts = f" and the texts {', '.join([*card.texts, *card.options])}" if card.texts or card.options else ""
            raise UserError(f"task {card.id}: {len(card.inputs)} sequences{texts} a row; one or two sequences can be predicted in batches")
        self.card, self.ground_truth = card, ground_truth
        self.ledger, self.rejected = Ledger(), list[tuple[str, str, str]]()
        """Place, id, reason."""
        self._plans = [self._plan(path) for path in files]
        if len({len(ids) for _, _, ids in self._plans}) > 1:
            raise UserError("some of the tables have one id a row and others seq_id_a and seq_id_b; predict them apart")
        self.two_ids = len(self._plans[0][2]) == 2

    def read(self, max_broken: float | None = None) -> Iterator[Sample]:
        """Raises UserError for damage that shows only on the way, and for a file of which more than `max_broken` is broken."""
        seen: dict[tuple[str, ...], str] = {}
        for path, card, ids in self._plans:
            reader, before = InputReader(card, {}), self.ledger.mark()
            for line, values, broken in _fasta_rows(path) if card.format == "fasta" else self._table_rows(path, card, ids):
                self.ledger.read += 1
                place, key = at(path, line), tuple(values.get(name, "") for name in ids)
                if not ids:
                    key = (f"{path}:line{line}" if len(self._plans) > 1 else f"line{line}",)
                try:
                    if broken or not all(key):
                        raise Rejected(broken or "no id")
                    if key in seen:
                        raise Rejected("duplicated id", f"also at {seen[key]}")
                    inputs, _ = reader.read(values)
                except Rejected as problem:
                    self._reject(place, "#".join(key), problem)
                    continue
                seen[key] = place
                self.ledger.written += 1
                raw = tuple(values[item.column] for item in card.inputs)
                truth = None if self.ground_truth is None else values[self.ground_truth]
                yield Sample(key, raw, inputs, truth, place)
            if max_broken is not None:
                self.ledger.max_broken = max_broken
                self.ledger.close(path, before, "row")

    def set_aside(self, sample: Sample, reason: str, detail: str) -> None:
        """Take back a sample that was read."""
        self.ledger.written -= 1
        self._reject(sample.where, "#".join(sample.ids), Rejected(reason, detail, on_purpose=True))

    def _reject(self, place: str, name: str, problem: Rejected) -> None:
        self.ledger.reject(problem.reason, place, on_purpose=problem.on_purpose)
        self.rejected.append((place, name, f"{problem.reason} ({problem.detail})" if problem.detail else problem.reason))

    def _table_rows(self, path: Path, card: TaskCard, ids: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str], str]]:
        table = Table(path)
        table.one_line = [table.names.index(name) for name in [*ids, *(item.column for item in card.inputs)]]
        for row in table:
            yield row.line, dict(zip(table.names, row.cells, strict=False)), row.problem

    def _plan(self, path: Path) -> tuple[Path, TaskCard, tuple[str, ...]]:
        """The file, the card as its columns have it, and its columns of ids."""
        card = self.card
        if sequence_format(path) == FASTA:
            if len(card.inputs) > 1 or self.ground_truth is not None:
                what = "pairs" if len(card.inputs) > 1 else "a ground truth"
                raise UserError(f"{path}: {what} cannot be read from FASTA; give a CSV file")
            item = card.inputs[0].model_copy(update={"column": "seq", "type_column": None, **LETTERS_THEMSELVES})
            return path, card.model_copy(update={"format": "fasta", "inputs": [item], "columns": []}), ("seq_id",)
        table = Table(path)
        header, where = table.names, at(path, table.header_line)
        inputs = []
        for item, name, kind in zip(card.inputs, *_names(card), strict=True):
            column = next((column for column in (item.column, *name) if column in header), None)
            if column is None:
                wanted = " or ".join(dict.fromkeys((item.column, *name)))
                raise UserError(f"{where}: no column {wanted} for the {item.modality} of {card.id}; found: {', '.join(header)}")
            types = item.type_column if item.type_column in header else kind if kind in header else None
            inputs.append(item.model_copy(update={"column": column, "type_column": types, **LETTERS_THEMSELVES}))
        if self.ground_truth is not None and self.ground_truth not in header:
            raise UserError(f"{where}: no column '{self.ground_truth}' for the ground truth; found: {', '.join(header)}")
        ids = PAIR_IDS if len(inputs) == 2 and set(PAIR_IDS) <= set(header) else tuple([n for n in SINGLE_IDS if n in header][:1])
        beside = [item.type_column for item in inputs if item.type_column]
        table.check_once([*ids, *beside, *(item.column for item in inputs), *filter(None, [self.ground_truth])])
        return path, card.model_copy(update={"format": "csv", "inputs": inputs, "label": None, "label_key": None}), ids


def _names(card: TaskCard) -> tuple[list[tuple[str, ...]], list[str]]:
    """LucaOne's columns of each input: letters, and type."""
    if len(card.inputs) == 1:
        return [("seq", "sequence")], ["seq_type"]
    return [("seq_a",), ("seq_b",)], ["seq_type_a", "seq_type_b"]


def _fasta_rows(path: Path) -> Iterator[tuple[int, dict[str, str], str]]:
    for line, header, letters in fasta_records(path):
        yield line, {"seq_id": [*header.split(), ""][0], "seq": letters}, ""
