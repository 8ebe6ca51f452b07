"""Sequences to embed: tables and FASTA, plain or gz, by content, every mistake found before a model is loaded.

Not supported: Excel files, several sequences per row (embed each column in a run of its own).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from artefacts.errors import Ledger, UserError, at
from eval.baselines.lucaone.letters import GENE, SEQ_TYPES
from sequences.alphabets import NUCLEOTIDES, PROTEIN, Alphabet, BadSequence, guess
from sequences.formats import FASTA
from sequences.readers import fasta_records, sequence_format
from sequences.tables import Table, whole_number

NUCLEIC = Alphabet("gene", NUCLEOTIDES, "base", {"U": "T"})
"""DNA or RNA."""
SHORTEST_HEADERLESS = {"dna": 6, "rna": 6, "protein": 10}
"""Capital letters from which the name of a column is a sequence, so that the table has no header."""
OnBad = Literal["refuse", "set_aside"]


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence."""

    id: str
    modality: str
    """dna or protein; RNA is read as DNA."""
    letters: str
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row as it stands in a file: a sequence, or the two of a pair."""

    where: str
    ids: list[str]
    types: list[str]
    texts: list[str]
    cells: list[str] = field(default_factory=list)
    """All of the row."""
    problem: str = ""

    @property
    def name(self) -> str:
        return "#".join(self.ids)

    def items(self) -> tuple[Item, ...]:
        """Its sequences. Raises BadSequence with what is wrong, UserError for a type that is none."""
        if self.problem or not all(self.ids):
            raise BadSequence(self.problem or "no id")
        read = [read_letters(text, check_seq_type(kind, self.where)) for text, kind in zip(self.texts, self.types, strict=True)]
        return tuple(Item(name, *found, self.where) for name, found in zip(self.ids, read, strict=True))


def usable(
    rows: Iterable[InputRow], ledger: Ledger, on_bad: OnBad, rejected: list[list[str]]
) -> Iterator[tuple[InputRow, tuple[Item, ...]]]:
    """The rows that can be used with their sequences; who takes them counts them as written.

    Args:
        on_bad: `refuse` stops at another one, `set_aside` counts it in the ledger and adds reason, place and cells to `rejected`.
    """
    for row in rows:
        ledger.read += 1
        try:
            items = row.items()
        except BadSequence as bad:
            if on_bad == "refuse":
                name = f"{row.name or 'record'}: " if row.cells else ""
                raise UserError(f"{row.where}: {name}{bad}; mend it, or pass on_bad=set_aside to go on without it") from None
            ledger.reject(bad.reason, row.where)
            rejected.append([str(bad), row.where, *row.cells])
        else:
            yield row, items


def read_letters(raw: str, seq_type: str) -> tuple[str, str]:
    """Modality (dna or protein), and letters in capitals: U of a gene as T, a protein without its final stop.

    Raises:
        BadSequence: see `Alphabet.read`.
    """
    if SEQ_TYPES[seq_type] == GENE:
        return "dna", NUCLEIC.read(raw)
    return "protein", PROTEIN.read(raw.strip().removesuffix("*"))


def check_seq_type(seq_type: str, where: str) -> str:
    """Raise UserError unless it names a molecule."""
    if seq_type not in SEQ_TYPES:
        raise UserError(f"{where}: seq_type '{seq_type}' is not known; write one of {', '.join(SEQ_TYPES)}")
    return seq_type


def open_table(path: Path) -> Table:
    """A table with a header of two columns or more.

    Raises:
        UserError: fewer columns, or a first line that holds a sequence.
    """
    table = Table(path)
    where = at(path, table.header_line)
    if len(table.names) < 2:
        raise UserError(f"{where}: a header with an id and a sequence column is needed; found {table.names}")
    for name in table.names:
        alphabet = guess(name)
        if name.isupper() and len(name) >= SHORTEST_HEADERLESS[alphabet.name] and alphabet.first_foreign(name) < 0:
            raise UserError(f"{where}: '{name[:30]}' is a sequence, not the name of a column; put a header line above, such as id,seq")
    return table


def column(table: Table, given: int | str) -> int:
    """The place of a column given by index from 0 or by name."""
    header, text = table.names, str(given)
    if text in header and not isinstance(given, int):
        table.check_once([text])
        return header.index(text)
    if (place := whole_number(text)) is not None and place < len(header):
        return place
    raise UserError(f"{table.path}: no column '{given}'; the header has {', '.join(f'{i} {name}' for i, name in enumerate(header))}")


def read_inputs(
    path: Path, seq_type: str, id_idx: int | str | None, seq_idx: int | str | None, on_bad: OnBad, max_broken: float = 0.1
) -> tuple[list[Item], Ledger]:
    """All sequences, each id once.

    Args:
        id_idx: column index or name; None: the first.
        seq_idx: None: the third column where there are more than two, else the second, as upstream has it.
        on_bad: see `usable`; at most a share of `max_broken` may be set aside.

    Raises:
        UserError: a bad record (file:line), an id with two sequences, nothing to embed.
    """
    check_seq_type(seq_type, "seq_type")
    ledger = Ledger(max_broken)
    items: dict[str, Item] = {}
    fasta = sequence_format(path) == FASTA
    if fasta and (id_idx, seq_idx) != (None, None):
        raise UserError(f"{path}: a FASTA file has no columns; leave out id_idx and seq_idx")
    rows = fasta_rows(path, seq_type) if fasta else _rows(path, seq_type, id_idx, seq_idx)
    for _, (item,) in usable(rows, ledger, on_bad, []):
        if item.id not in items:
            items[item.id] = item
            ledger.written += 1
        elif items[item.id].letters == item.letters:
            ledger.reject("id and sequence stand in the file before", item.where, on_purpose=True)
        else:
            raise UserError(f"{item.where}: id '{item.id}' also stands for another sequence at {items[item.id].where}; make ids unique")
    ledger.close(path, Ledger(), "sequence to embed")
    return list(items.values()), ledger


def fasta_rows(path: Path, seq_type: str) -> Iterator[InputRow]:
    """The records of a FASTA file."""
    for line, header, letters in fasta_records(path):
        yield InputRow(at(path, line), [header.strip()], [seq_type], [letters], [header])


def paired_rows(path: Path, count: int, types: list[str] | None = None) -> Iterator[InputRow]:
    """Rows of a table by position: ids, types, sequences, `count` of each; then whatever the row has.

    Args:
        types: of a table without columns of types.

    Raises:
        UserError: a row of another form (file:line).
    """
    for row in open_table(path):
        if row.problem:
            raise UserError(f"{at(path, row.line)}: {row.problem}; mend the line")
        ids, second, third = (row.cells[i * count : (i + 1) * count] for i in range(3))
        ids = [name.strip().lstrip(">") for name in ids]
        yield InputRow(at(path, row.line), ids, types or second, second if types else third, row.cells)


def _rows(path: Path, seq_type: str, id_idx: int | str | None, seq_idx: int | str | None) -> Iterator[InputRow]:
    table = open_table(path)
    name = column(table, 0 if id_idx is None else id_idx)
    letters = column(table, (2 if len(table.names) > 2 else 1) if seq_idx is None else seq_idx)
    table.one_line = [name, letters]
    for row in table:
        own, text = (row.cells[name].lstrip(">"), row.cells[letters]) if row.cells else ("", "")
        yield InputRow(at(path, row.line), [own], [seq_type], [text], row.cells or [""], row.problem)
