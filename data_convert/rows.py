"""Rows of a benchmark file as its card describes them, before anything in them is judged.

Four readers: tables with commas or tabs, FASTA, JSON, UniProt. All stream, one row in memory at a time, but for a JSON array,
which is read whole. A row whose shape is broken comes out with a `problem`, so that it is counted and the file is read on: bytes
that are not UTF-8, another number of fields than the header, a quotation mark that is never closed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at
from data_convert.cards import TaskCard
from sequences.formats import Line, Lines
from sequences.readers import SURROGATE, blocks, fasta_records, numbered_lines
from sequences.uniprot import checked_entries
from sequences.uniprot_entry import Broken, Entry

LONGEST_FIELD = 1 << 30
"""The csv module stops at 131,072 letters by default; a genome in one field is longer."""
MOST_LINES = 100
"""Lines that a quoted field may span; a mark that is not closed by then is taken for a mistake in its first line."""
ASPECTS = {"go_process": "P", "go_function": "F", "go_component": "C"}


@dataclass(slots=True)
class Row:
    """One row as it stands in the file."""

    line: int
    values: dict[str, Any]
    """Column -> text; in JSON and UniProt also lists."""
    problem: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    """What is kept beside the record but not shown to the model."""


def read_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    """Rows of one file.

    Raises:
        UserError: missing, empty or damaged file, or one without the card's columns.
    """
    if card.format == "fasta":
        return _fasta_rows(card, path)
    if card.format == "json":
        return _json_rows(path)
    return _uniprot_rows(card, path) if card.format == "uniprot" else _table_rows(card, path)


def read_sequences_by_id(path: Path) -> dict[str, str]:
    """Raw letters by id: of a FASTA file (first word of the header), or of lines `id<TAB>letters`.

    Held in memory as a whole. Raises UserError for a missing or damaged file, or an id that stands for two sequences.
    """
    found: dict[str, str] = {}
    head = next(blocks(path), b"")
    if head.lstrip().startswith(b">"):
        pairs = ((line, header.split()[0] if header else "", b"".join(body)) for line, header, body in fasta_records(path))
    else:
        lines = ((line, raw.partition(b"\t")) for line, raw in numbered_lines(path) if raw.strip())
        pairs = ((line, name.decode("utf-8", "replace").strip(), letters) for line, (name, _, letters) in lines)
    for line, name, body in pairs:
        letters = "".join(body.decode("latin-1").split())
        if found.setdefault(name, letters) != letters:
            raise UserError(f"{at(path, line)}: '{name}' stands for two different sequences; mend the file")
    return found


def _fasta_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    for line, header, body in fasta_records(path):
        letters = "".join(b"".join(body).decode("latin-1").split())
        if not card.columns:
            yield Row(line, {"label": header, card.inputs[0].column: letters})
            continue
        fields = header.split(card.separator)
        problem = "" if len(fields) == len(card.columns) else f"not {len(card.columns)} fields in the header"
        yield Row(line, {**dict(zip(card.columns, fields, strict=False)), card.inputs[0].column: letters}, problem)


def _table_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    lines = Lines(numbered_lines(path))
    separator = "," if card.format == "csv" else "\t"
    quoted = card.format == "csv"  # in a tab-separated file a quotation mark is a letter like any other
    names = [name.partition("|")[0] for name in card.columns]
    if card.header:
        number, raw = next(lines, (1, b""))
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        header = _fields(text) if quoted and '"' in text else text.split(separator) if text else []
        names = _header(card, path, number, header or [])
    width, spanning = len(names), card.kind in ("text", "set")
    for number, raw in lines:
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield Row(number, {}, "not UTF-8")
            continue
        if not text:
            continue
        fields = _quoted(text, lines, width, spanning) if quoted and '"' in text else text.split(separator)
        if fields is None:
            yield Row(number, {}, "a quotation mark that is not closed, or stands inside a field")
        elif len(fields) != width:
            yield Row(number, {}, "another number of fields than the header")
        else:
            yield Row(number, dict(zip(names, fields, strict=True)))


def _quoted(text: str, lines: Lines, width: int, spanning: bool) -> list[str] | None:
    """Fields of a row with quotation marks, or None.

    Only answers in words may span lines: elsewhere a stray mark would swallow the rows up to the next one. Lines taken in vain are
    given back, so that only one row is lost.
    """
    taken: list[Line] = []
    while text.count('"') % 2:
        following = next(lines, None) if spanning else None
        if following is not None:
            taken.append(following)
        if following is None or len(taken) == MOST_LINES:
            lines.back(taken)
            return None
        text += "\n" + following[1].decode("utf-8", "surrogateescape").rstrip("\r\n")
    fields = _fields(text)
    if fields is None or (taken and len(fields) != width) or (not text.isascii() and SURROGATE.search(text)):
        lines.back(taken)
        return None
    return fields


def _fields(text: str) -> list[str] | None:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error:
        return None


def _header(card: TaskCard, path: Path, line: int, header: list[str]) -> list[str]:
    """The names of the columns, after checking that what the card needs is there, and stands where the card says."""
    names = [name.strip() for name in header]
    for position, wanted in enumerate(card.columns):
        found = names[position] if position < len(names) else None
        if found not in wanted.split("|"):
            shown = wanted.replace("|", "' or '")
            raise UserError(
                f"{at(path, line)}: column {position + 1} is '{found}', not '{shown}'; "
                f"{card.id} reads columns by name and checks their order. Mend the file or the card"
            )
        names[position] = wanted.partition("|")[0]
    beside = [item.type_column for item in card.inputs if item.type_column]
    needed = [*(item.column for item in card.inputs), *beside, *card.row_id, *card.where, *filter(None, (card.label, card.crop_column))]
    missing = [column for column in needed if column not in names]
    if missing:
        found = ", ".join(names) if names else "none: the file is empty"
        raise UserError(f"{at(path, line)}: no column '{missing[0]}'; columns found: {found}. Mend the header or the card of {card.id}")
    if repeated := next((name for name in needed if names.count(name) > 1), None):
        raise UserError(f"{at(path, line)}: two columns are called '{repeated}'; mend the header")
    return names


def _json_rows(path: Path) -> Iterator[Row]:
    first = b""
    for block in blocks(path):
        first = block.lstrip()[:1]
        if first:
            break
    for line, item in _json_array(path) if first == b"[" else _json_lines(path):
        if not isinstance(item, dict):
            yield Row(line, {}, str(item) if isinstance(item, _Broken) else "not a JSON object")
        else:
            yield Row(line, {name: _as_text(value) for name, value in item.items()})


class _Broken(str):
    """Why a line is no JSON."""


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, raw in numbered_lines(path):
        if not raw.strip():
            continue
        try:
            yield number, json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            yield number, _Broken("not UTF-8")
        except (ValueError, RecursionError):  # brackets a thousand deep
            yield number, _Broken("not a JSON line")


def _json_array(path: Path) -> Iterator[tuple[int, Any]]:
    text = b"".join(blocks(path)).decode("utf-8", "surrogateescape")
    decoder, place, line = json.JSONDecoder(), text.index("[") + 1, 1 + text[: text.index("[")].count("\n")
    while True:
        while text[place : place + 1] and text[place] in " \t\r\n,":
            line += text[place] == "\n"
            place += 1
        if text[place : place + 1] == "]":
            return
        try:
            item, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{at(path, line)}: the JSON array is broken here ({error}); mend the file or write it as JSON lines") from None
        yield line, _Broken("not UTF-8") if SURROGATE.search(text, place, end) else item
        line += text.count("\n", place, end)
        place = end


def _as_text(value: Any) -> Any:
    if isinstance(value, (str, list)):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _uniprot_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    assert card.label is not None, "the card's own check"
    for entry in checked_entries(path):
        if isinstance(entry, Broken):
            yield Row(entry.line, {}, entry.reason)
        else:
            value, meta = _uniprot_label(entry, card.label)
            yield Row(entry.line, {"id": entry.accession, "sequence": entry.sequence, card.label: value}, "", meta)


def _uniprot_label(entry: Entry, label: str) -> tuple[Any, dict[str, Any]]:
    """The answer without evidence codes and literature marks, and those, to be kept beside it."""
    meta: dict[str, Any] = {"accession": entry.accession, "reviewed": entry.reviewed}
    if label == "function":
        codes = sorted({code for function in entry.functions for code in function.evidence})
        return entry.function.replace("\n", " "), {**meta, "evidence": codes, "references": list(entry.references)}
    if label in ASPECTS:
        terms = [term for term in entry.go if term.aspect == ASPECTS[label]]
        return [term.name for term in terms], {**meta, "go": [term.id for term in terms]}
    if label == "locations":
        # `[Isoform 2]: Nucleus; Multi-pass membrane protein`: the place itself
        places = [place.partition("]: ")[2] if place.startswith("[") and "]: " in place else place for place in entry.locations]
        return [place.partition(";")[0] for place in places], {**meta, "locations": list(entry.locations)}
    return list(getattr(entry, label)), meta
