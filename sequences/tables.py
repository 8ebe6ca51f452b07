"""Sequences in a table: CSV or TSV with a header row, plain or gz, one row per line, known by the file's name.

Columns are found by their names, in either case: `sequence` or `seq`, and for ids `id`, `seq_id`, `accession`, `entry` or
`name`, the first that is there. Fields of a CSV file may stand in double quotes.

Not supported: line breaks inside a field; files without a header.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from sequences.alphabets import Alphabet
from sequences.readers import Sequence, numbered_lines, reasons_since

LETTERS = ("sequence", "seq")
IDS = ("id", "seq_id", "accession", "entry", "name")
WITHOUT_BLANKS = {ord(blank): None for blank in " \t\r\n\f\v"}
LONGEST_FIELD = 1 << 30
"""The csv module stops at 131,072 letters by default."""


def is_table(path: str | Path) -> bool:
    return str(path).lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def read_table(path: str | Path, alphabet: Alphabet, ledger: Ledger) -> Iterator[Sequence]:
    """Sequences of one file; a row that is broken, empty, or has a letter outside the alphabet is set aside with file:line.

    Raises:
        UserError: missing or damaged file, no header with a column of sequences, or not one usable row.
    """
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = "\t" if str(path).lower().removesuffix(".gz").endswith(".tsv") else ","
    lines = numbered_lines(path)
    number, first = next(((number, line) for number, line in lines if line.strip()), (1, b""))
    header = [name.strip().lower() for name in _fields(first, delimiter) or []]
    letters_at = next((header.index(name) for name in LETTERS if name in header), None)
    id_at = next((header.index(name) for name in IDS if name in header), None)
    if letters_at is None:
        found = ", ".join(header)[:200] or "none"
        raise UserError(f"{at(path, number)}: a table of sequences has a column {' or '.join(LETTERS)}; found {found}. Name the columns")
    before, written = ledger.reasons.copy(), 0
    for number, line in lines:
        if not line.strip():
            continue
        ledger.read += 1
        fields = _fields(line, delimiter)
        letters = fields[letters_at].translate(WITHOUT_BLANKS) if fields and len(fields) == len(header) else ""
        if fields is None:
            ledger.reject(f"not UTF-8, or not {'TSV' if delimiter != ',' else 'CSV'}", at(path, number))
        elif len(fields) != len(header):
            ledger.reject("more or fewer fields than the header has", at(path, number))
        elif not letters:
            ledger.reject("empty sequence", at(path, number))
        elif (place := alphabet.first_foreign(letters)) >= 0:
            ledger.reject(f"letter outside {alphabet.name}", f"{at(path, number)} ('{letters[place]}')")
        else:
            written += 1
            ledger.written += 1
            name = " ".join(fields[id_at].split()) if id_at is not None else ""
            yield Sequence(name or f"line{number}", "", alphabet.clean(letters), number)
    if not written:
        raise UserError(f"{path}: not one usable {alphabet.name} row: {reasons_since(ledger, before)}. Is this file {alphabet.name}?")


def _fields(line: bytes, delimiter: str) -> list[str] | None:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        # a TSV file has no quotes: 5'-end is no quotation
        return text.split("\t") if delimiter == "\t" else next(csv.reader([text], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None
