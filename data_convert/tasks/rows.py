"""Rows of a benchmark file as its card describes them, before anything in them is judged.

Tables with commas or tabs, FASTA, JSON, UniProt, parquet and its kin, each by its reader in sequences/. All stream, one row in
memory at a time, but for a JSON array, which is read whole. A row whose shape is broken comes out with a `problem`, so that it is
counted and the file is read on: bytes that are not UTF-8, another number of fields than the header, a quotation mark that is never
closed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.errors import UserError, at
from data_convert.tasks.card_fields import ITEM_SEPARATOR
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.chats import answers
from data_convert.tasks.kinds import Rejected
from sequences.columnar import HubSplit, columnar_rows, is_columnar
from sequences.files import blocks, with_head
from sequences.formats import FASTA, sniff
from sequences.json_lines import json_objects
from sequences.readers import fasta_records
from sequences.tables import NOT_UTF8, Table
from sequences.uniprot import checked_entries
from sequences.uniprot_entry import Broken, Entry

ASPECTS = {"go_process": "P", "go_function": "F", "go_component": "C"}
DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(slots=True)
class Row:
    """One row as it stands in the file."""

    line: int
    values: dict[str, Any]
    """Column -> text; in JSON and UniProt also lists."""
    problem: str = ""
    meta: dict[str, Any] | None = None
    """What is kept beside the record but not shown to the model."""
    rejected: Rejected | None = None
    """Instead of `problem`, where there is more to say."""


def read_rows(card: TaskCard, path: Path | HubSplit, fields: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Rows of one file; each also has the `fields` that the file's name says.

    Raises:
        UserError: missing, empty or damaged file, or one without the card's columns.
    """
    rows = _rows(card, path, fields or {})
    return rows if not fields else (_with_fields(row, fields) for row in rows)


def _with_fields(row: Row, fields: Mapping[str, str]) -> Row:
    row.values = {**row.values, **fields}
    return row


def _rows(card: TaskCard, path: Path | HubSplit, fields: Mapping[str, str]) -> Iterator[Row]:
    if card.format == "dataset" or (card.format in (*DELIMITERS, "json") and is_columnar(path)):
        return _dataset_rows(card, path, fields)
    if card.format == "chat":
        return _chat_rows(path)
    if isinstance(path, HubSplit):
        raise UserError(f"{path}: a dataset of the Hub has columns, and the card {card.id} reads {card.format}; mend the card")
    if card.format == "text":
        return _text_row(path)
    if card.format == "fasta":
        return _fasta_rows(card, path)
    if card.format == "json":
        return _json_rows(card, path)
    return _uniprot_rows(card, path) if card.format == "uniprot" else _table_rows(card, path, fields)


def read_sequences_by_id(path: Path) -> dict[str, str]:
    """Raw letters by id: of a FASTA file (first word of the header), or of lines `id<TAB>letters`, whatever follows a second tab.

    Held in memory as a whole. Raises UserError for a missing or damaged file, a line without letters, or an id that stands for
    two sequences.
    """
    found: dict[str, str] = {}
    for line, name, letters in _named_letters(path):
        if not name or not letters:
            raise UserError(f"{at(path, line)}: an id and its sequence are needed, with a tab between them; mend the line")
        if found.setdefault(name, letters) != letters:
            raise UserError(f"{at(path, line)}: '{name}' stands for two different sequences; mend the file")
    return found


def _named_letters(path: Path) -> Iterator[tuple[int, str, str]]:
    if sniff(with_head(blocks(path))[0])[0] == FASTA:
        for line, header, letters in fasta_records(path):
            yield line, [*header.split(), ""][0], letters
    else:
        for row in Table(path, names=[], delimiter="\t"):
            name, letters = [*row.cells, "", ""][:2]
            yield row.line, name, letters


def _fasta_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    for line, header, letters in fasta_records(path):
        if not card.columns:
            yield Row(line, {"label": header, card.inputs[0].column: letters})
            continue
        fields = header.split(card.separator)
        problem = "" if len(fields) == len(card.columns) else f"not {len(card.columns)} fields in the header"
        yield Row(line, {**dict(zip(card.columns, fields, strict=False)), card.inputs[0].column: letters}, problem)


def _text_row(path: Path) -> Iterator[Row]:
    content = b"".join(blocks(path))
    try:
        yield Row(1, {"text": content.decode("utf-8")})
    except UnicodeDecodeError:
        yield Row(1, {}, NOT_UTF8)


def _table_rows(card: TaskCard, path: Path, fields: Mapping[str, str]) -> Iterator[Row]:
    given = None if card.header else [name.partition("|")[0] for name in card.columns]
    table = Table(path, delimiter=DELIMITERS[card.format], names=given)
    if card.header:
        table.names = _header(card, table, fields)
    # an answer in words may span lines; elsewhere a stray quotation mark would swallow the rows up to the next one
    words = {*card.texts, *card.options, *card.reasons, *([card.label] if card.answers.in_words or card.options else [])}
    table.one_line = [place for place, name in enumerate(table.names) if name not in words]
    names = table.names
    for line, cells, problem in table.rows():
        yield Row(line, dict(zip(names, cells, strict=False)), problem)


def _header(card: TaskCard, table: Table, fields: Mapping[str, str]) -> list[str]:
    """The names of the columns, after checking that what the card needs is there, and stands where the card says."""
    names, where = list(table.names), at(table.path, table.header_line)
    for position, wanted in enumerate(card.columns):
        found = names[position] if position < len(names) else None
        if found not in wanted.split("|"):
            shown = wanted.replace("|", "' or '")
            raise UserError(
                f"{where}: column {position + 1} is '{found}', not '{shown}'; "
                f"{card.id} reads columns by name and checks their order. Mend the file or the card"
            )
        names[position] = wanted.partition("|")[0]
    needed = _needed(card, fields)
    _check_missing(card, [column for column in needed if column not in names], names, where)
    table.check_once(needed, names)
    return names


def _needed(card: TaskCard, fields: Mapping[str, str]) -> list[str]:
    """Columns that a file has to have: what the card names, but for what the file's name says."""
    needed = [*(column for item in card.inputs for column in item.columns), *card.row_id, *card.where]
    needed += [*card.texts, *card.options, *card.reasons, *(column for split in card.split_where.values() for column in split)]
    return [column for column in dict.fromkeys([*needed, card.label, card.crop_column]) if column and column not in fields]


def _check_missing(card: TaskCard, missing: list[str], names: list[str], where: str) -> None:
    if missing:
        raise UserError(f"{where}: no column '{missing[0]}'; columns found: {', '.join(names)}. Mend the header or the card of {card.id}")


def _dataset_rows(card: TaskCard, path: Path | HubSplit, fields: Mapping[str, str]) -> Iterator[Row]:
    aliases = _aliases(card)
    # column that the card needs -> the columns of the file that may hold it
    held = {name: [old.partition(".")[0] for old in [name, *aliases] if aliases.get(old, old) == name] for name in _needed(card, fields)}
    names, rows = columnar_rows(path, ["id", *(top for tops in held.values() for top in tops)])
    if names:  # none are known where there is no row
        _check_missing(card, [name for name, tops in held.items() if not set(tops) & set(names)], names, str(path))
    for number, values in rows:
        yield Row(number, {}, values) if isinstance(values, str) else Row(number, _plain(values, aliases))


def _json_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    aliases = _aliases(card)
    for line, item in json_objects(path):
        yield Row(line, {}, item) if isinstance(item, str) else Row(line, _plain(item, aliases))


def _chat_rows(path: Path | HubSplit) -> Iterator[Row]:
    """A row for each answer of a conversation; where that has an `id`, its second answer is `<id>.2`."""
    items = columnar_rows(path)[1] if isinstance(path, HubSplit) or is_columnar(path) else json_objects(path)
    for line, item in items:
        if isinstance(item, str):
            yield Row(line, {}, item)
            continue
        values = _plain(item, {})
        name = values.get("id", "")
        try:
            for number, (history, question, answer) in enumerate(answers(item), 1):
                own = {
                    "id": f"{name}.{number}" if name and number > 1 else name,
                    "history": history,
                    "question": question,
                    "answer": answer,
                }
                yield Row(line, {**values, **own})
        except Rejected as problem:
            yield Row(line, {}, rejected=problem)


def _aliases(card: TaskCard) -> dict[str, str]:
    """Other name of a column -> the name that the card gives it first."""
    return {other: first for first, *others in (column.split("|") for column in card.columns) for other in others}


def _plain(item: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Values as text, lists as they are; `a.b` and `a.0.b` for what is nested; columns by the card's names."""
    values: dict[str, Any] = {}
    for name, value in item.items():
        values[name] = _as_text(value)
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            inner = value if isinstance(value, dict) else {str(place): part for place, part in enumerate(value)}
            values |= {f"{name}.{below}": found for below, found in _plain(inner, {}).items()}
    for other, first in aliases.items():
        if other in values and first not in values:
            values[first] = values[other]
    return values


def _as_text(value: Any) -> Any:
    if isinstance(value, (str, list)):
        return value
    # dates, bytes and decimals, which parquet has
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _uniprot_rows(card: TaskCard, path: Path) -> Iterator[Row]:
    label = str(card.label)  # the card checks that it is there
    for entry in checked_entries(path, needed=label):
        if isinstance(entry, Broken):
            yield Row(entry.line, {}, entry.reason)
        else:
            value, meta = _uniprot_label(entry, label)
            beside = {name: ITEM_SEPARATOR.join(_listed(entry, name)) for name in (*card.texts, *card.reasons)}
            yield Row(entry.line, {"id": entry.accession, "sequence": entry.sequence, **beside, label: value}, "", meta)


def _listed(entry: Entry, name: str) -> list[str]:
    value = entry.name if name == "name" else _uniprot_label(entry, name)[0]
    return [value] if isinstance(value, str) else value


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
