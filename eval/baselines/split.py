"""What every baseline shares: one task's records by split, and predictions in the form that `eval score` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError
from data_convert.kinds import KINDS, AnswerKind
from data_convert.mixing import SPLITS
from data_convert.records import each_record
from eval.judge.metrics import Floats
from eval.predictions import by_task, head_of

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One task's records."""

    id: str
    kind: str
    choices: list[str]
    train: list[Record]
    dev: list[Record]
    test: list[Record]

    @property
    def answers(self) -> AnswerKind:
        """What is said of answers of this kind."""
        return KINDS[self.kind]

    def codes(self, records: Sequence[Record]) -> np.ndarray:
        """Class codes in the order of the choices, `[records]`."""
        order = {choice: code for code, choice in enumerate(self.choices)}
        return np.array([order[record["label"]] for record in records], dtype=np.int64)


def read_tasks(records: Path) -> list[Task]:
    """All tasks that have test records, in the order of the test file.

    Raises:
        UserError: no test or train file, a bad record (file:line), or a task without train records.
    """
    splits = {
        split: by_task(each_record(records / f"{split}.jsonl")) for split in SPLITS if split != "dev" or (records / "dev.jsonl").is_file()
    }
    tasks = []
    for name, test in splits["test"].items():
        train = splits["train"].get(name, [])
        if not train:
            raise UserError(f"{records / 'train.jsonl'}: task {name} has no train records, and baselines learn from them")
        tasks.append(Task(name, test[0]["kind"], test[0]["choices"], train, splits.get("dev", {}).get(name, []), test))
    return tasks


def sample(records: list[Record], limit: int, seed: int) -> list[Record]:
    """At most `limit` records, drawn without replacement, in their old order."""
    if len(records) <= limit:
        return records
    kept = np.random.default_rng(seed).choice(len(records), size=limit, replace=False)
    return [records[i] for i in sorted(kept)]


def classified(task: Task, logprobs_nC: Floats) -> Iterator[Record]:
    """Predictions from log-probabilities of the choices; ties go to the choice listed first."""
    for record, row in zip(task.test, logprobs_nC, strict=True):
        yield _prediction(record, task.choices[int(np.argmax(row))], [round(float(value), 6) for value in row])


def predicted(task: Task, values: Sequence[Any], item_scores: Sequence[Mapping[str, float]] | None = None) -> Iterator[Record]:
    """Predictions that come without probabilities: labels, numbers, texts and lists of items, these with a score each if known."""
    for place, (record, value) in enumerate(zip(task.test, values, strict=True)):
        line = _prediction(record, value if isinstance(value, (str, list)) else round(float(value), 6), None)
        if item_scores is not None:
            line["item_scores"] = {item: round(float(score), 6) for item, score in item_scores[place].items()}
        yield line


def _prediction(record: Record, value: Any, logprobs: list[float] | None) -> Record:
    return {
        **head_of(record),
        "logprobs": logprobs,
        "predicted": value,
        "text": None,  # a baseline writes no text, so nothing is parsed
        "parsed": None,
        "status": None,
    }
