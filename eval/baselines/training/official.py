"""The original's CSV layout; every mistake found before a model is loaded.

Its readers go by column position: single `seq_id,seq_type,seq,label`, pair `seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b,label`.
A label is a class index, a class name (of a whole data set, where names are numbers of another class), a number (regression) or a
list of indices (multilabel), read as JSON and never evaluated as code.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
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


def read_label(text: str, kind: Kind, names: Sequence[str], *, named: bool = False) -> Any:
    """A label cell as code, codes or number; with `named` a cell is a name first, else an index. Raises ValueError with what is wrong."""
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
    code, name = _index(text, names), names.index(text) if text in names else None
    found = name if named or code is None else code
    if found is None:
        raise ValueError(f"label '{text}' is none of the {len(names)} classes (0 to {len(names) - 1}, or a name of label.txt)")
    return found


def _index(text: str, names: Sequence[str]) -> int | None:
    """The class index that a cell is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number < len(names) else None


def _named(names: list[str], files: Iterable[Path], labels: Path) -> bool:
    """Whether the label cells of a data set are names, where a name is the index of another class; its files have one format.

    Raises:
        UserError: they can be read both ways, or neither.
    """
    if all(_index(name, names) in (None, code) for code, name in enumerate(names)):
        return False  # both readings agree
    cells = {fields[-1].strip() for path in files for number, (_, fields) in enumerate(rows_of(path)) if number}
    indices, named = all(_index(cell, names) is not None for cell in cells), cells <= set(names)
    if indices == named:
        either = "are indices and names alike" if named else "are neither all indices nor all names"
        raise UserError(
            f"{labels}: classes are called by numbers that are indices of others, and the label cells {either}; "
            "put a word before the names in label.txt (class 1) and indices from 0 into the cells"
        )
    return named


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
    files = {}
    for split in SPLITS:
        path = next((p for p in (folder / split / f"{split}.csv", folder / f"{split}.csv") if p.is_file()), None)
        if path is not None:
            files[split] = path
        elif split != "dev":
            raise UserError(
                f"{folder / split / f'{split}.csv'}: no such file; the layout is train/train.csv, dev/dev.csv, test/test.csv, label.txt"
            )
    data = Data(kind, names, {})
    named = kind in ("binary", "multiclass") and _named(names, files.values(), folder / "label.txt")
    for split, path in files.items():
        ledger = Ledger()
        data.splits[split] = _read_split(path, data, recipe.network.pair, ledger, named=named)
        data.ledgers[split] = ledger.as_dict()
        if ledger.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.reasons.items()))
            data.notes.append(f"{split}: {ledger.rejected} of {ledger.read} rows set aside ({reasons})")
    return data


def _read_split(path: Path, data: Data, pair: bool, ledger: Ledger, *, named: bool) -> list[Example]:
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
            data.rejected.append([wrong, at(path, line), *fields])
            continue
        try:
            label = read_label(fields[-1].strip(), data.kind, data.names, named=named)
        except ValueError as error:
            raise UserError(f"{at(path, line)}: {error}; mend the label") from None
        examples.append(Example(name, tuple(inputs), label))
        ledger.written += 1
    if not examples:
        raise UserError(f"{path}: no usable row ({ledger.rejected} set aside: {dict(ledger.reasons)})")
    return examples
