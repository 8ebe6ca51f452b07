"""Tiny files for any task card, laid out as the card says and written independently of the readers."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import uniprot_writers
from uniprot_writers import Invented

from data_convert.tasks.cards import TaskCard
from sequences.columnar import HUB

Row = dict[str, Any]
LETTERS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
CLASSES = 5
"""Classes in the label files of cards that take them from there."""


def write_files(card: TaskCard, folder: Path, rows: int = 12) -> dict[str, int]:
    """Write every file that the card names; return the rows of each split's file."""
    written: dict[str, int] = {}
    if card.label_file is not None:
        names = list(card.labels) if not _indexed(card) else [f"name {key}" for key in card.labels]
        lines = ["label", *(names or [f"Class no. {index}" for index in range(CLASSES)])]
        _path(folder, card.label_file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    whole: dict[str, list[Row]] = {}
    for split, name in card.files.model_dump().items():
        if name is not None:
            draw = random.Random(f"{card.id}/{split}")
            whole.setdefault(name, []).extend(_row(card, folder, split, number, draw) for number in range(rows))
            written[split] = rows
    for name, made in whole.items():
        for file, part in _by_file(card, name, made).items():
            _write(card, _path(folder, file), part)
        if (hub := HUB.fullmatch(name)) and hub["config"]:
            data = f"  data_files:\n  - split: {hub['split']}\n    path: {hub['config']}/*\n"
            (folder / hub["name"] / "README.md").write_text(f"---\nconfigs:\n- config_name: {hub['config']}\n{data}---\n", encoding="utf-8")
    return written


def _by_file(card: TaskCard, name: str, rows: list[Row]) -> dict[str, list[Row]]:
    """File -> its rows, without the columns that the pattern's fields say."""
    found: dict[str, list[Row]] = {}
    fields, hub = re.findall(r"\{(\w+)\}", name), HUB.fullmatch(name)
    for number, row in enumerate(rows):
        file = name
        if hub:  # a copy of the repository
            file = f"{hub['name']}/{hub['config'] or 'data'}/{hub['split']}-{number % 2:05}-of-00002.parquet"
        for field in fields:
            file = file.replace(f"{{{field}}}", row.get(field, "one"))
        file = file.replace("*", f"{number if card.format == 'text' else number % 2}")
        found.setdefault(file, []).append({column: value for column, value in row.items() if column not in fields})
    return found


def label_values(card: TaskCard) -> list[str]:
    """What may stand in the label column."""
    if card.grid is not None:
        return [str(card.grid.low + card.grid.step * step * 1.01) for step in range(4)]
    if card.kind == "text":
        return ["Hydrolyses ATP.", "Binds DNA, slowly."]
    if card.label_file is not None:
        return [str(index) for index in range(len(card.labels) or CLASSES)]
    return list(card.labels)


def _indexed(card: TaskCard) -> bool:
    return all(key.isdigit() for key in card.labels) and bool(card.labels)


def _path(folder: Path, name: str) -> Path:
    path = folder / name.removesuffix(".gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".gz"):
        path = path.with_name(path.name + ".gz")  # the readers go by content, not by name
    return path


def _row(card: TaskCard, folder: Path, split: str, number: int, draw: random.Random) -> Row:
    values = label_values(card)
    row: Row = {column.partition("|")[0]: f"x{number}" for column in card.columns}
    row |= dict.fromkeys(card.row_id, f"{split}{number}")
    for column, patterns in [*card.where.items(), *card.split_where.get(split, {}).items()]:  # type: ignore[call-overload]
        pattern = patterns if isinstance(patterns, str) else patterns[0]
        row[column] = re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "") if pattern[0] != "!" else "another"
    row |= {column: f"Text {number} of {column}?" for column in card.texts}
    if card.options:
        row |= {column: [f"option {number}.1", f"option {number}.2"] for column in card.options}
        row[str(card.label)] = f"option {number}"
    for item in card.inputs:
        length = draw.randint(min(20, card.max_letters), min(60, item.max_letters or card.max_letters))
        letters = "".join(draw.choices(LETTERS[item.modality], k=length))
        row[item.column] = letters if item.inside is None else f"```\n{letters}\n```"
        if item.sequences is not None:
            row[item.column] = f"{split}{number}{item.name}"
            with _path(folder, item.sequences).open("a", encoding="utf-8") as handle:
                handle.write(f">{row[item.column]}\n{letters}\n")
        if item.type_column is not None:
            row[item.type_column] = "prot" if item.modality == "protein" else "gene"
    if card.format != "uniprot" and not card.options:
        label = values[number % len(values)]
        row[card.label or "label"] = json.dumps({card.label_key: label}) if card.label_key else label
    return row


def _write(card: TaskCard, path: Path, rows: list[Row]) -> None:
    if card.format == "dataset":
        pq.write_table(pa.Table.from_pylist([_nested(row) for row in rows]), path)
    elif card.format == "text":
        path.write_text("".join(row["text"] for row in rows), encoding="utf-8")
    elif card.format == "uniprot":
        entries = [
            Invented(
                f"P{10000 + number}",
                sequence=row["sequence"],
                functions=[("", f"Cuts peptide number {number} (PubMed:5).", ["ECO:0000269"])],
                go=[(f"GO:{place:07d}", aspect, f"{aspect} name, {number}") for place, aspect in enumerate("PFC", 1)],
            )
            for number, row in enumerate(rows)
        ]
        path.write_text("".join(map(uniprot_writers.flat, entries)), encoding="utf-8")
    elif card.format == "fasta":
        heads = [card.separator.join(row[column] for column in card.columns) or row["label"] for row in rows]
        column = card.inputs[0].column
        path.write_text("".join(f">{head}\n{row[column]}\n" for head, row in zip(heads, rows, strict=True)), encoding="utf-8")
    elif card.format == "json":
        path.write_text("".join(json.dumps(_nested(row)) + "\n" for row in rows), encoding="utf-8")
    else:
        columns = [column.partition("|")[0] for column in card.columns] or list(rows[0])
        with path.open("w", encoding="utf-8", newline="") as handle:
            quoting = csv.QUOTE_MINIMAL if card.format == "csv" else csv.QUOTE_NONE
            writer = csv.writer(
                handle, delimiter="," if card.format == "csv" else "\t", quoting=quoting, quotechar=None if card.format == "tsv" else '"'
            )
            if card.header:
                writer.writerow(columns)
            writer.writerows([row[column] for column in columns] for row in rows)


def _nested(row: Row) -> Row:
    """`meta.split` as an object `meta`, which the published files have as a text here and there, too."""
    found: Row = {}
    for column, value in row.items():
        outer, dot, inner = column.partition(".")
        if dot:
            found.setdefault(outer, {})[inner] = value
        else:
            found[column] = value
    return found
