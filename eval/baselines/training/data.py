"""Records of a task, from the original's CSV layout or from instruction records; every mistake found before a model is loaded.

The original's readers go by column position: single `seq_id,seq_type,seq,label`, pair `seq_id_a,seq_id_b,seq_type_a,seq_type_b,
seq_a,seq_b,label`. A label is a class index, a class name, a number (regression) or a list of indices (multilabel), read as
JSON and never evaluated as code.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import Ledger, UserError, at
from eval.baselines.embedding.inputs import check_seq_type, normalised, problem, rows_of
from eval.baselines.training.recipe import Kind, TrainRecipe

SPLITS = ("train", "dev", "test")
SINGLE, PAIR = 4, 7
"""Columns."""


@dataclass(frozen=True, slots=True)
class Input:
    """One sequence of a record."""

    id: str
    modality: str
    letters: str


@dataclass(frozen=True, slots=True)
class Example:
    """One record."""

    id: str
    inputs: tuple[Input, ...]
    label: Any
    """Class code, list of codes, or number."""
    source: Any = None
    """The record it comes from, where that is an instruction record."""


@dataclass
class Data:
    """A task's records by split."""

    kind: Kind
    names: list[str]
    """Class names by code; empty for regression."""
    splits: dict[str, list[Example]]
    ledgers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_data(recipe: TrainRecipe) -> Data:
    """The task that a recipe names, drawn down to max_train, max_dev, max_test.

    Raises:
        UserError: files missing, a bad row (file:line), a single class, no test or train records.
    """
    folder = recipe.data
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with train, dev and test CSV files or instruction records")
    data = _from_records(recipe) if (folder / "train.jsonl").is_file() else _from_csv(recipe)
    if not data.splits.get("train") or not data.splits.get("test"):
        raise UserError(f"{folder}: {'train' if not data.splits.get('train') else 'test'} has no records; both are needed")
    rng = np.random.default_rng(recipe.seed)
    if not data.splits.get("dev"):
        order = rng.permutation(len(data.splits["train"]))
        cut = max(1, round(recipe.dev_share * len(order)))
        whole = data.splits["train"]
        data.splits["dev"], data.splits["train"] = [whole[i] for i in sorted(order[:cut])], [whole[i] for i in sorted(order[cut:])]
        data.notes.append(f"dev: {cut} records cut from train")
    for split, limit in (("train", recipe.max_train), ("dev", recipe.max_dev), ("test", recipe.max_test)):
        records = data.splits[split]
        if limit is not None and len(records) > limit:
            data.splits[split] = [records[i] for i in sorted(rng.choice(len(records), limit, replace=False))]
    train = data.splits["train"]
    if data.kind in ("binary", "multiclass") and len({example.label for example in train}) < 2:
        raise UserError(f"{folder}: its train records hold a single class, so there is nothing to learn")
    repeated = {tuple(i.letters for i in e.inputs) for e in train} & {tuple(i.letters for i in e.inputs) for e in data.splits["test"]}
    if repeated:
        data.notes.append(f"{len(repeated)} inputs stand in train and in test")
    if [e.inputs for e in data.splits["dev"]] == [e.inputs for e in data.splits["test"]]:
        data.notes.append("dev and test are the same records: the test score chose the epoch")
    return data


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


def _from_csv(recipe: TrainRecipe) -> Data:
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


def _from_records(recipe: TrainRecipe) -> Data:
    from eval.predictions import by_task, read_lines

    folder, kind = recipe.data, recipe.loss.kind
    splits = {split: by_task(read_lines(folder / f"{split}.jsonl")) for split in SPLITS if (folder / f"{split}.jsonl").is_file()}
    tasks = sorted({task for split in splits.values() for task in split})
    task = recipe.task or (tasks[0] if len(tasks) == 1 else None)
    if task not in tasks:
        raise UserError(f"{folder}: task={recipe.task} is not here; the records hold {', '.join(tasks)}")
    first = next(iter(splits["train"].get(task, [])), None)
    if first is None:
        raise UserError(f"{folder / 'train.jsonl'}: task {task} has no train records")
    if first["kind"] != kind or len(first["inputs"]) != 1 + recipe.network.pair:
        raise UserError(
            f"{folder}: task {task} is {first['kind']} with {len(first['inputs'])} inputs, "
            f"the recipe is for {kind} with {1 + recipe.network.pair}; "
            "set loss.kind and network.net"
        )
    names = list(first["choices"])
    data = Data(kind, names, {})
    for split, by_name in splits.items():
        examples = []
        for record in by_name.get(task, []):
            single = len(record["inputs"]) == 1
            inputs = [
                Input(
                    record["id"] if single else f"{record['id']}#{i['name']}",
                    "dna" if i["modality"] == "rna" else i["modality"],
                    i["letters"].upper(),
                )
                for i in record["inputs"]
            ]
            label: Any = record["label"]
            if kind == "multilabel":
                label = [names.index(name) for name in label]
            else:
                label = float(label) if kind == "regression" else names.index(label)
            examples.append(Example(record["id"], tuple(inputs), label, record))
        data.splits[split] = examples
    return data
