"""Tiny files for any task card, laid out as the card says and written independently of the readers."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import uniprot_writers
from uniprot_writers import Invented

from data_convert.tasks.cards import TaskCard

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
    for split, name in card.files.model_dump().items():
        if name is not None:
            draw = random.Random(f"{card.id}/{split}")
            made = [_row(card, folder, split, number, draw) for number in range(rows)]
            _write(card, _path(folder, name), made)
            written[split] = rows
    return written


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


def _row(card: TaskCard, folder: Path, split: str, number: int, draw: random.Random) -> dict[str, str]:
    values = label_values(card)
    row = {column.partition("|")[0]: f"x{number}" for column in card.columns}
    row |= dict.fromkeys(card.row_id, f"{split}{number}")
    row |= {column: re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "") for column, pattern in card.where.items()}
    for item in card.inputs:
        length = draw.randint(min(20, card.max_letters), min(60, item.max_letters or card.max_letters))
        letters = "".join(draw.choices(LETTERS[item.modality], k=length))
        row[item.column] = letters
        if item.sequences is not None:
            row[item.column] = f"{split}{number}{item.name}"
            with _path(folder, item.sequences).open("a", encoding="utf-8") as handle:
                handle.write(f">{row[item.column]}\n{letters}\n")
        if item.type_column is not None:
            row[item.type_column] = "prot" if item.modality == "protein" else "gene"
    if card.format != "uniprot":
        label = values[number % len(values)]
        row[card.label or "label"] = json.dumps({card.label_key: label}) if card.label_key else label
    return row


def _write(card: TaskCard, path: Path, rows: list[dict[str, str]]) -> None:
    if card.format == "uniprot":
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
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
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
