"""The original's CSV layout; every mistake found before a model is loaded.

Its readers go by column position: single `seq_id,seq_type,seq,label`, pair `seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b,label`.
A label is a class index, a class name, a number (regression) or a list of indices (multilabel), read as JSON and never evaluated
as code.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import Ledger, UserError, at
from eval.baselines.embedding.inputs import check_seq_type, normalised, problem, rows_of
from eval.baselines.training.examples import Data, Example, Input
from eval.baselines.training.recipe import Kind, TrainRecipe

SPLITS = ("train", "dev", "test")
SINGLE, PAIR = 4, 7
"""Columns."""


def read_labels(path: Path) -> list[str]:
    """Class names of a label.txt: a header line, then one name per line, or `index,name` where the header has a comma."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; it holds a header line and one class name per line")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(lines) < 2:
        raise UserError(f"{path}: a header and at least one class name are needed")
    if "," not in lines[0]:
        return lines[1:]
    pairs = {}
    for number, row in enumerate(csv.reader(lines[1:]), start=2):
        if len(row) != 2 or not row[0].isdigit():
            raise UserError(f"{at(path, number)}: expected index,name")
        pairs[int(row[0])] = row[1]
    if sorted(pairs) != list(range(len(pairs))):
        raise UserError(f"{path}: indices are not 0 to {len(pairs) - 1}, each once")
    return [pairs[i] for i in range(len(pairs))]


def read_label(text: str, kind: Kind, names: Sequence[str]) -> Any:
    """A label cell as code, codes or number. Raises ValueError with what is wrong."""
    if kind == "regression":
        number = float(text)
        if not np.isfinite(number):
            raise ValueError(f"label {text} is no finite number")
        return number
    if kind == "multilabel":
        codes = json.loads(text)
        if not isinstance(codes, list) or not all(isinstance(code, int) and 0 <= code < len(names) for code in codes):
            raise ValueError(f"label {text} is no list of indices below {len(names)}")
        return codes
    if text in names:
        return names.index(text)
    try:
        code = int(float(text)) if float(text).is_integer() else -1
    except ValueError:
        code = -1
    if not 0 <= code < len(names):
        raise ValueError(f"label '{text}' is none of the {len(names)} classes (0 to {len(names) - 1}, or a name of label.txt)")
    return code


def from_csv(recipe: TrainRecipe) -> Data:
    """The CSV files of a folder.

    Raises:
        UserError: files missing, or a bad row (file:line).
    """
    folder, kind = recipe.data, recipe.loss.kind
    names: list[str] = []
    if kind != "regression":
        labels = folder / "label.txt"
        names = ["0", "1"] if kind == "binary" and not labels.is_file() else read_labels(labels)
        if kind == "binary" and len(names) != 2:
            raise UserError(f"{labels}: a binary task has two classes, not {len(names)}")
    data = Data(kind, names, {})
    for split in SPLITS:
        path = next((p for p in (folder / split / f"{split}.csv", folder / f"{split}.csv") if p.is_file()), None)
        if path is None:
            if split == "dev":
                continue
            raise UserError(
                f"{folder / split / f'{split}.csv'}: no such file; the layout is train/train.csv, dev/dev.csv, test/test.csv, label.txt"
            )
        ledger = Ledger()
        data.splits[split] = _read_split(path, kind, names, recipe.network.pair, ledger)
        data.ledgers[split] = ledger.as_dict()
    return data


def _read_split(path: Path, kind: Kind, names: list[str], pair: bool, ledger: Ledger) -> list[Example]:
    """Rows of one file; a row with a bad sequence is set aside and counted, one with a bad label or form is refused."""
    rows = rows_of(path)
    _, header = next(rows, (0, []))
    wanted = PAIR if pair else SINGLE
    if len(header) != wanted:
        raise UserError(
            f"{path}: {len(header)} columns, where {'pairs have 7' if pair else 'single sequences have 4'}; is network.net right?"
        )
    examples: list[Example] = []
    seen: dict[str, int] = {}
    for line, fields in rows:
        ledger.read += 1
        if len(fields) != wanted:
            raise UserError(f"{at(path, line)}: {len(fields)} fields where the header has {wanted}; mend the line")
        count = 1 + pair
        ids, types, texts = (fields[i * count : (i + 1) * count] for i in range(3))
        name = "#".join(text.strip().lstrip(">") for text in ids)
        if (first := seen.setdefault(name, line)) != line:
            raise UserError(f"{at(path, line)}: id '{name}' stands also in line {first}; ids must be unique in a file")
        inputs = []
        wrong = None
        for own, seq_type, text in zip(ids, types, texts, strict=True):
            modality, letters = normalised(text, check_seq_type(seq_type, at(path, line)))
            wrong = wrong or problem(letters, seq_type)
            inputs.append(Input(own.strip().lstrip(">"), modality, letters))
        if wrong is not None:
            ledger.reject("unknown letter" if "'" in wrong else wrong, at(path, line))
            continue
        try:
            label = read_label(fields[-1].strip(), kind, names)
        except ValueError as error:
            raise UserError(f"{at(path, line)}: {error}; mend the label") from None
        examples.append(Example(name, tuple(inputs), label))
        ledger.written += 1
    if not examples:
        raise UserError(f"{path}: no usable row ({ledger.rejected} set aside: {dict(ledger.reasons)})")
    return examples
