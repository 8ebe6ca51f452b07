"""Rows of a benchmark file as its card describes them, before anything in them is judged."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import UserError, at
from data_convert.cards import TaskCard
from tokenizer.readers import fasta_records, open_bytes

ID_COLUMN = "id"
LONGEST_FIELD = 1 << 30
"""The csv module stops at 131,072 letters by default; a genome in one field is longer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file."""

    id: str
    """The `id` column where the file has one, else the line number."""
    line: int
    label: str
    letters: dict[str, str]
    """Input name -> raw letters."""
    whole: bool
    """False where the row has more or fewer fields than the header."""


def read_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    """Rows of a CSV file, or records of a FASTA file whose headers are the labels.

    Raises:
        UserError: missing, empty, damaged or undecodable file, or a CSV file without the card's columns.
    """
    return _fasta_rows(card, path) if card.format == "fasta" else _csv_rows(card, path)


def _fasta_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    for line, header, body in fasta_records(path):
        letters = b"".join(body).decode("latin-1")
        yield Row(str(line), line, header, {card.inputs[0].name: "".join(letters.split())}, True)


def _csv_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    assert card.label is not None, "the card's own check"
    line = 0
    with open_bytes(path) as handle:
        # utf-8-sig: spreadsheets put a byte-order mark in front of the first column's name
        reader = csv.reader(io.TextIOWrapper(handle, encoding="utf-8-sig", newline=""))
        try:
            header = next(reader, [])
            columns = _columns(card, path, header)
            for fields in reader:
                line = reader.line_num
                if not fields:
                    continue
                whole = len(fields) == len(header)
                values = dict(zip(header, fields, strict=False))
                letters = {name: values.get(column, "").strip() for name, column in columns.items()}
                yield Row(values.get(ID_COLUMN, "") or str(line), line, values.get(card.label, "").strip(), letters, whole)
        except UnicodeDecodeError as error:
            raise UserError(f"{at(path, line + 1)}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
        except csv.Error as error:
            raise UserError(f"{at(path, line + 1)}: not CSV: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{at(path, line + 1)}: the gz data is cut short or damaged ({error}); fetch the file again") from None


def _columns(card: TaskCard, path: Path, header: list[str]) -> dict[str, str]:
    needed = [*(item.column for item in card.inputs), str(card.label)]
    missing = [column for column in needed if column not in header]
    if missing:
        found = ", ".join(header) if header else "none: the file is empty"
        raise UserError(f"{at(path, 1)}: no column '{missing[0]}'; columns found: {found}. Mend the header or the card of {card.id}")
    return {item.name: item.column for item in card.inputs}
