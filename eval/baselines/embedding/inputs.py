"""Sequences to embed: CSV, TSV and FASTA, plain or gz, every mistake found before a model is loaded.

Not supported: Excel files, several sequences per row (embed each column in a run of its own).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from artefacts.errors import Ledger, UserError, at
from eval.baselines.lucaone.letters import GENE, SEQ_TYPES
from sequences.alphabets import PROTEIN, RNA
from sequences.readers import fasta_records, open_bytes

LONGEST_FIELD = 1 << 30
SURELY_GENE = 50
"""A 'protein' of so many letters, all of them A, C, G, T, U or N, is a gene."""
SURELY_PROTEIN = 10
"""A 'gene' of so many letters, fewer than half of them A, C, G, T, U or N, is a protein spelled with ambiguity codes."""
OnBad = Literal["refuse", "set_aside"]


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence."""

    id: str
    modality: str
    """dna or protein; RNA is read as DNA."""
    letters: str
    where: str


def problem(letters: str, seq_type: str) -> str | None:
    """What is wrong with a sequence, or None."""
    if not letters:
        return "empty sequence"
    alphabet = RNA if SEQ_TYPES[seq_type] == GENE else PROTEIN
    place = alphabet.first_foreign(letters)
    if place >= 0:
        return f"'{letters[place]}' at position {place + 1} is no letter of a {seq_type} sequence"
    plain = sum(letter in "ACGTUNacgtun" for letter in letters)
    if alphabet is RNA and len(letters) >= SURELY_PROTEIN and plain < len(letters) / 2:
        return f"given as {seq_type}, but most of its letters are no nucleotides"
    if alphabet is PROTEIN and len(letters) >= SURELY_GENE and plain == len(letters):
        return f"given as {seq_type}, but all its letters are nucleotides"
    return None


def normalised(letters: str, seq_type: str) -> tuple[str, str]:
    """Modality, and letters in capitals without blanks and final stop, U of a gene as T."""
    letters = "".join(letters.split()).upper()
    return ("dna", letters.replace("U", "T")) if SEQ_TYPES[seq_type] == GENE else ("protein", letters.removesuffix("*"))


def check_seq_type(seq_type: str, where: str) -> str:
    """Raise UserError unless it names a molecule."""
    if seq_type not in SEQ_TYPES:
        raise UserError(f"{where}: seq_type '{seq_type}' is not known; write one of {', '.join(SEQ_TYPES)}")
    return seq_type


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of a CSV or (by its name) TSV file, header included; blank lines left out.

    Raises:
        UserError: missing, not UTF-8, not CSV.
    """
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = "\t" if ".tsv" in path.name else ","
    line = 0
    with open_bytes(path) as handle:
        reader = csv.reader(io.TextIOWrapper(handle, encoding="utf-8-sig", newline=""), delimiter=delimiter)
        try:
            for fields in reader:
                line = reader.line_num
                if fields:
                    yield line, fields
        except (UnicodeDecodeError, csv.Error, EOFError, OSError) as error:
            raise UserError(f"{at(path, line + 1)}: cannot be read as a table ({error}); save it as UTF-8 {path.suffix}") from None


def column(header: list[str], given: int | str, path: Path) -> int:
    """The place of a column given by index from 0 or by name."""
    text = str(given)
    if text in header:
        return header.index(text)
    if text.isdigit() and int(text) < len(header):
        return int(text)
    raise UserError(f"{path}: no column '{given}'; the header has {', '.join(f'{i} {name}' for i, name in enumerate(header))}")


def is_fasta(path: Path) -> bool:
    """By the name: .fasta, .fa, .faa, .fna, .fas, with or without .gz."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[-1] in ("fasta", "fa", "faa", "fna", "fas")


def read_inputs(path: Path, seq_type: str, id_idx: int | str | None, seq_idx: int | str | None, on_bad: OnBad) -> tuple[list[Item], Ledger]:
    """All sequences, each id once.

    Args:
        id_idx: column index or name; None: the first.
        seq_idx: None: the third column where there are more than two, else the second, as upstream has it.
        on_bad: `refuse` stops at a bad record, `set_aside` counts it in the ledger.

    Raises:
        UserError: a bad record (file:line), an id with two sequences, nothing to embed.
    """
    check_seq_type(seq_type, "seq_type")
    ledger = Ledger()
    items: dict[str, Item] = {}
    for line, name, raw in _fasta(path) if is_fasta(path) else _table(path, id_idx, seq_idx):
        ledger.read += 1
        modality, letters = normalised(raw, seq_type)
        wrong = "no id" if not name else problem(letters, seq_type)
        if wrong is None and name in items:
            if items[name].letters != letters:
                raise UserError(f"{at(path, line)}: id '{name}' also stands for another sequence at {items[name].where}; make ids unique")
            wrong = "id and sequence stand in the file before"
        elif wrong is not None and on_bad == "refuse":
            raise UserError(f"{at(path, line)}: {name or 'record'}: {wrong}; mend it, or pass on_bad=set_aside to go on without it")
        if wrong is not None:
            ledger.reject(wrong if name in items or "'" not in wrong else "unknown letter", at(path, line))
            continue
        items[name] = Item(name, modality, letters, at(path, line))
        ledger.written += 1
    if not items:
        raise UserError(f"{path}: no sequence to embed ({ledger.rejected} set aside: {dict(ledger.reasons)})")
    return list(items.values()), ledger


def _fasta(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, header, body in fasta_records(path):
        yield line, header.strip(), b"".join(body).decode("latin-1")


def _table(path: Path, id_idx: int | str | None, seq_idx: int | str | None) -> Iterator[tuple[int, str, str]]:
    rows = rows_of(path)
    _, header = next(rows, (0, []))
    if len(header) < 2:
        raise UserError(f"{path}: a header with an id and a sequence column is needed; found {header}")
    name = column(header, 0 if id_idx is None else id_idx, path)
    letters = column(header, (2 if len(header) > 2 else 1) if seq_idx is None else seq_idx, path)
    for line, fields in rows:
        if len(fields) <= max(name, letters):
            raise UserError(f"{at(path, line)}: {len(fields)} fields where the header has {len(header)}; mend the line")
        yield line, fields[name].strip().lstrip(">"), fields[letters]
