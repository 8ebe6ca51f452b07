"""The records that a head is trained, chosen and tested on: read, drawn, and looked through for what a score should be read with.

The original's readers of CSV go by column position: single `seq_id,seq_type,seq,label`, pair
`seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b,label`. A label is a class index, a class name (of a whole data set, where names are
numbers of another class), a number (regression) or a list of indices (multilabel), read as JSON and never evaluated as code. Every
mistake is found before a model is loaded.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.command import path_exists
from artefacts.errors import Ledger, UserError, say_read
from artefacts.folder import new_file, read_noted, write_json
from artefacts.owner import owned
from data_convert.tasks.kinds import KINDS, AnswerKind, class_index
from data_convert.tasks.labels import read_label_file
from data_convert.tasks.mixing import SPLITS
from eval.baselines.embedding.inputs import Item, open_table, paired_rows, usable
from eval.baselines.heads.losses import loss_of
from eval.baselines.heads.options import HeadKind
from eval.baselines.split import Record, Task, read_task
from eval.baselines.training.recipe import TrainRecipe
from eval.predictions import DIFFERS, read_lines
from sequences.tables import Table


@dataclass(frozen=True, slots=True)
class Example:
    """One record."""

    id: str
    inputs: tuple[Item, ...]
    label: Any
    """Class code, list of codes, or number."""
    source: Any = None
    """The record it comes from, where that is an instruction record."""


@dataclass
class Data:
    """A task's records by split."""

    kind: HeadKind
    names: list[str]
    """Class names by code; empty for regression."""
    splits: dict[str, list[Example]]
    ledgers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)
    """Rows that were set aside: reason, place, fields."""


SINGLE, PAIR = 4, 7
"""Columns."""


def class_names(kind: AnswerKind, path: Path) -> list[str]:
    """Class names of label.txt; of two classes without the file 0 and 1, of numbers none."""
    if kind.number:
        return []
    return ["0", "1"] if kind.two_labels and not path.is_file() else read_label_file(path)


def _named(names: list[str], files: Iterable[Path], labels: Path) -> bool:
    """Whether the label cells of a data set are names, where a name is the index of another class; its files have one format.

    Raises:
        UserError: they can be read both ways, or neither.
    """
    if all(class_index(name, names) in (None, code) for code, name in enumerate(names)):
        return False  # both readings agree
    cells = {row.cells[-1] for path in files for row in Table(path) if row.cells}
    indices, named = all(class_index(cell, names) is not None for cell in cells), cells <= set(names)
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
    folder, kind = recipe.data, KINDS[recipe.loss.kind]
    names = class_names(kind, folder / "label.txt")
    if kind.two_labels and len(names) != 2:
        raise UserError(f"{folder / 'label.txt'}: a binary task has two classes, not {len(names)}")
    files = {}
    for split in SPLITS:
        path = next((p for p in (folder / split / f"{split}.csv", folder / f"{split}.csv") if p.is_file()), None)
        if path is not None:
            files[split] = path
        elif split != "dev":
            raise UserError(
                f"{folder / split / f'{split}.csv'}: no such file; the layout is train/train.csv, dev/dev.csv, test/test.csv, label.txt"
            )
    data = Data(recipe.loss.kind, names, {})
    named = kind.one_label and _named(names, files.values(), folder / "label.txt")
    for split, path in files.items():
        ledger = Ledger(recipe.max_broken)
        data.splits[split] = _read_split(path, data, recipe.network.pair, ledger, named=named)
        data.ledgers[split] = ledger.as_dict()
        say_read(str(path), data.ledgers[split], recipe.out / "rejected.csv")
        if ledger.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.reasons.items()))
            data.notes.append(f"{split}: {ledger.rejected} of {ledger.read} rows set aside ({reasons})")
    return data


def _read_split(path: Path, data: Data, pair: bool, ledger: Ledger, *, named: bool) -> list[Example]:
    """Rows of one file; a row with a bad sequence is set aside and counted, one with a bad label or form is refused."""
    table = open_table(path)
    wanted = PAIR if pair else SINGLE
    if len(table.names) != wanted:
        raise UserError(
            f"{path}: {len(table.names)} columns, where {'pairs have 7' if pair else 'single sequences have 4'}; is network.net right?"
        )
    examples: list[Example] = []
    seen: dict[str, str] = {}
    for row, items in usable(paired_rows(path, 1 + pair), ledger, "set_aside", data.rejected):
        if (first := seen.setdefault(row.name, row.where)) != row.where:
            raise UserError(f"{row.where}: id '{row.name}' stands also in line {first.rpartition(':')[2]}; ids must be unique in a file")
        try:
            label = KINDS[data.kind].read_code(row.cells[-1], data.names, named)
        except ValueError as error:
            raise UserError(f"{row.where}: {error}; mend the label") from None
        examples.append(Example(row.name, items, label))
        ledger.written += 1
    ledger.close(path, Ledger(), "row")
    return examples


def from_records(recipe: TrainRecipe) -> Data:
    """The recipe's task of a folder of `convert tasks`.

    Raises:
        UserError: no such task or no train records of it, or a task of another kind or number of sequences than the recipe's.
    """
    folder, kind, inputs = recipe.data, recipe.loss.kind, 1 + recipe.network.pair
    task = read_task(folder, recipe.task)
    if not task.train:
        raise UserError(f"{folder / 'train.jsonl'}: task {task.id} has no train records")
    if task.kind != kind or len(task.train[0]["inputs"]) != inputs:
        raise UserError(
            f"{folder}: task {task.id} is {task.kind} with {len(task.train[0]['inputs'])} inputs, "
            f"the recipe is for {kind} with {inputs}; set loss.kind and network.net"
        )
    return from_task(task)


def from_task(task: Task) -> Data:
    """A task's records; classes are coded in the order of its choices."""
    code = {name: number for number, name in enumerate(task.choices)}
    splits = {split: [_example(record, code) for record in getattr(task, split)] for split in SPLITS}
    return Data(task.kind, list(task.choices), splits)  # type: ignore[arg-type]  # a kind that heads do not know is refused before


def _example(record: Record, code: dict[str, int]) -> Example:
    single = len(record["inputs"]) == 1
    inputs = [
        Item(
            record["id"] if single else f"{record['id']}#{given['name']}",
            "dna" if given["modality"] == "rna" else given["modality"],
            given["letters"].upper(),
        )
        for given in record["inputs"]
    ]
    return Example(record["id"], tuple(inputs), KINDS[record["kind"]].code(record["label"], code), record)


def score_lines(data: Data, examples: list[Example], probabilities_NC: np.ndarray) -> list[Record]:
    """Lines for `eval score`; none where the data are no instruction records."""
    records = [example.source for example in examples]
    if not records or any(record is None for record in records):
        return []
    task = Task(records[0]["task"], data.kind, data.names, [], [], records)
    return list(loss_of(data.kind).lines(task, probabilities_NC))


def gather(path: Path, lines: list[Record], departs: dict[str, str]) -> None:
    """Put a task's lines into a file, in place of those that it held for the task, and beside it where its head's recipe differs from
    the original's (see `training.recipe.departures`)."""
    task = lines[0]["task"]
    with owned(path, wait=True):  # several trainings put theirs into one file
        _gather(path, task, lines)
        noted = path.with_name(f"{path.stem}{DIFFERS}")
        write_json(noted, (read_noted(noted) or {}) | {task: departs})


def _gather(path: Path, task: str, lines: list[Record]) -> None:
    kept = [line for line in read_lines(path) if line["task"] != task] if path.is_file() else []
    with new_file(path, overwrite=True) as file, file.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in [*kept, *lines])


def read_data(recipe: TrainRecipe) -> Data:
    """The task that a recipe names, drawn down to max_train, max_dev, max_test.

    Raises:
        UserError: files missing, a bad row (file:line), a single class, no test or train records, class weights of other classes.
    """
    folder = recipe.data
    path_exists(folder, "folder", "give one with train, dev and test CSV files or instruction records")
    data = from_records(recipe) if (folder / "train.jsonl").is_file() else from_csv(recipe)
    if not data.splits.get("train") or not data.splits.get("test"):
        raise UserError(f"{folder}: {'train' if not data.splits.get('train') else 'test'} has no records; both are needed")
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(data.names):
        raise UserError(
            f"{folder}: {len(data.names)} classes (0 is '{data.names[0]}'), but {len(weights)} values in loss.class_weights; "
            "give one for each class in the order of their codes, or loss.class_weights=null"
        )
    return drawn(data, recipe)


def drawn(data: Data, recipe: TrainRecipe) -> Data:
    """With a dev split, at most max_train, max_dev and max_test records, and notes.

    Raises:
        UserError: a single class in train.
    """
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
    if KINDS[data.kind].one_label and len({example.label for example in train}) < 2:
        raise UserError(f"{recipe.data}: its train records hold a single class, so there is nothing to learn")
    repeated = {tuple(i.letters for i in e.inputs) for e in train} & {tuple(i.letters for i in e.inputs) for e in data.splits["test"]}
    if repeated:
        data.notes.append(f"{len(repeated)} inputs stand in train and in test")
    if [e.inputs for e in data.splits["dev"]] == [e.inputs for e in data.splits["test"]]:
        data.notes.append("dev and test are the same records: the test score chose the epoch")
    return data
