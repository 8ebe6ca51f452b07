"""Instruction records as data of a head, and its predictions of them as lines for `eval score`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from artefacts.errors import UserError
from artefacts.folder import new_file
from artefacts.owner import owned
from artefacts.resume import read_plan, write_plan
from data_convert.tasks.kinds import KINDS
from eval.baselines.embedding.inputs import Item
from eval.baselines.heads.losses import loss_of
from eval.baselines.split import SPLITS, Record, Task, read_task
from eval.baselines.training.examples import Data, Example
from eval.baselines.training.recipe import TrainRecipe
from eval.predictions import DIFFERS, read_lines


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
        write_plan(noted, (read_plan(noted) or {}) | {task: departs})


def _gather(path: Path, task: str, lines: list[Record]) -> None:
    kept = [line for line in read_lines(path) if line["task"] != task] if path.is_file() else []
    with new_file(path, overwrite=True) as file, file.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in [*kept, *lines])
