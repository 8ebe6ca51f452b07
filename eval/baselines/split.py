"""What every baseline shares: one task's records by split, and predictions in the form that `eval score` reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.command import path_exists
from artefacts.errors import UserError
from data_convert.tasks.kinds import KINDS, AnswerKind
from data_convert.tasks.mixing import SPLITS
from data_convert.tasks.records import each_record
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

    @property
    def without_sequences(self) -> str | None:
        """Why nothing can be learned from its sequences: there are none, or not the same ones in every record, as in conversations."""
        shown = {tuple(item["modality"] for item in record["inputs"]) for record in [*self.train, *self.test]}
        if len(shown) > 1:
            return "it reads the same kinds of sequences in every record, and the task shows now these and now those"
        return None if any(shown) else "it reads sequences, and the task shows none"

    def codes(self, records: Sequence[Record]) -> np.ndarray:
        """Class codes in the order of the choices, `[records]`."""
        order = {choice: code for code, choice in enumerate(self.choices)}
        return np.array([order[record["label"]] for record in records], dtype=np.int64)


def read_tasks(records: Path, splits: Sequence[str] = SPLITS) -> dict[str, Task]:
    """Every task of those of the files that are there. Raises UserError for a bad record (file:line)."""
    files = {split: records / f"{split}.jsonl" for split in splits}
    found = {split: by_task(each_record(path)) for split, path in files.items() if path.is_file()}
    first = {name: rows[0] for split in ("test", "train") for name, rows in found.get(split, {}).items()}
    own = {name: [found.get(split, {}).get(name, []) for split in SPLITS] for name in first}
    return {name: Task(name, record["kind"], record["choices"], *own[name]) for name, record in first.items()}


def read_task(records: Path, wanted: str | None, splits: Sequence[str] = SPLITS) -> Task:
    """The task asked for, or the only one. Raises UserError where there is none such."""
    tasks = read_tasks(records, splits)
    name = wanted or (min(tasks) if len(tasks) == 1 else None)
    if name not in tasks:
        raise UserError(f"{records}: task={wanted} is not here; the records hold {', '.join(sorted(tasks))}")
    return tasks[name]


def scored_tasks(records: Path) -> list[Task]:
    """All tasks that have test records.

    Raises:
        UserError: no test or train file, a bad record (file:line), or a task without train records.
    """
    for split in ("train", "test"):
        path_exists(records / f"{split}.jsonl", "records", "run `llama-gene convert tasks` first")
    tasks = [task for task in read_tasks(records).values() if task.test]
    if untrained := [task.id for task in tasks if not task.train]:
        raise UserError(f"{records / 'train.jsonl'}: task {untrained[0]} has no train records, and baselines learn from them")
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
