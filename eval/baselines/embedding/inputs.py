"""Sequences to embed: tables and FASTA, plain or gz, by content, every mistake found before a model is loaded.

Not supported: Excel files, several sequences per row (embed each column in a run of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from artefacts.errors import Ledger, UserError, at
from eval.baselines.lucaone.letters import GENE, SEQ_TYPES
from sequences.alphabets import NUCLEOTIDES, PROTEIN, Alphabet, BadSequence, guess
from sequences.formats import FASTA
from sequences.readers import fasta_records, sequence_format
from sequences.tables import Table

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
    where: str


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
    if text.isdigit() and int(text) < len(header):
        return int(text)
    raise UserError(f"{table.path}: no column '{given}'; the header has {', '.join(f'{i} {name}' for i, name in enumerate(header))}")


def read_inputs(
    path: Path, seq_type: str, id_idx: int | str | None, seq_idx: int | str | None, on_bad: OnBad, max_broken: float = 0.1
) -> tuple[list[Item], Ledger]:
    """All sequences, each id once.

    Args:
        id_idx: column index or name; None: the first.
        seq_idx: None: the third column where there are more than two, else the second, as upstream has it.
        on_bad: `refuse` stops at a bad record, `set_aside` counts it in the ledger, up to a share of `max_broken`.

    Raises:
        UserError: a bad record (file:line), an id with two sequences, nothing to embed.
    """
    check_seq_type(seq_type, "seq_type")
    ledger = Ledger(max_broken)
    items: dict[str, Item] = {}
    for line, name, raw, problem in _fasta(path) if sequence_format(path) == FASTA else _table(path, id_idx, seq_idx):
        ledger.read += 1
        try:
            if problem or not name:
                raise BadSequence(problem or "no id")
            modality, letters = read_letters(raw, seq_type)
        except BadSequence as bad:
            if on_bad == "refuse":
                raise UserError(
                    f"{at(path, line)}: {name or 'record'}: {bad}; mend it, or pass on_bad=set_aside to go on without it"
                ) from None
            ledger.reject(bad.reason, at(path, line))
            continue
        if name not in items:
            items[name] = Item(name, modality, letters, at(path, line))
            ledger.written += 1
        elif items[name].letters == letters:
            ledger.reject("id and sequence stand in the file before", at(path, line), on_purpose=True)
        else:
            raise UserError(f"{at(path, line)}: id '{name}' also stands for another sequence at {items[name].where}; make ids unique")
    ledger.close(path, Ledger(), "sequence to embed")
    return list(items.values()), ledger


def _fasta(path: Path) -> Iterator[tuple[int, str, str, str]]:
    yield from ((line, header, letters, "") for line, header, letters in fasta_records(path))


def _table(path: Path, id_idx: int | str | None, seq_idx: int | str | None) -> Iterator[tuple[int, str, str, str]]:
    table = open_table(path)
    name = column(table, 0 if id_idx is None else id_idx)
    letters = column(table, (2 if len(table.names) > 2 else 1) if seq_idx is None else seq_idx)
    table.one_line = [name, letters]
    for row in table:
        yield row.line, *((row.cells[name].lstrip(">"), row.cells[letters]) if row.cells else ("", "")), row.problem
