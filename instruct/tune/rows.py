"""Rows of tuning: which records are in which row of the run. Records that share a row are isolated from each other."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data_convert.corpus.best_fit import best_fit
from instruct.tune.encode import Encoded
from training.batch import Document, batch_of
from training.order import Order

OPEN_ROWS = 32
"""Rows that packing fills at a time: more leave less room empty, and mix the order of records a little more."""


def order_of(tasks: Sequence[str], balance: bool, seed: int) -> Order:
    """Records in the order of training, by task. With `balance` an epoch has as many records as without, an equal part of each task."""
    names = np.array(tasks)
    rows = {name: np.flatnonzero(names == name) for name in sorted(set(tasks))}
    equal = -(-len(tasks) // len(rows))
    return Order(rows, {name: equal if balance else len(found) for name, found in rows.items()}, seed)


def weights_of(encoded: Encoded, order: Order, loss_per: str) -> list[Any] | None:
    """Weight of a record's answer tokens; None: all alike.

    record: 1 / tokens of the answer. task: 1 / tokens that the task's answers have in an epoch, times a constant.
    """
    lengths = encoded.answer_tokens
    if loss_per == "token":
        return None
    if loss_per == "record":
        return [1 / length for length in lengths]
    tokens = {name: order.quota[name] * float(np.mean([lengths[row] for row in rows])) for name, rows in order.rows.items()}
    mean = sum(tokens.values()) / len(tokens)
    return [mean / tokens[task] for task in encoded.tasks]


def plan(order: Order, lengths: Sequence[int], records: int, per_step: int, room: int | None, steps: int | None = None) -> list[list[int]]:
    """Rows of a whole run, each a list of record numbers: until `records` are placed and `per_step` divides the rows.

    Args:
        lengths: tokens of every record.
        room: tokens of a row when packing; None: one record each.
        steps: steps of the run, whatever the records.
    """
    rows: list[list[int]] = []
    stream: Iterator[list[int]] = ([order[place]] for place in count())
    if room is not None:
        first = (order[place] for place in range(records))
        packed = best_fit(((record, lengths[record]) for record in first), room, OPEN_ROWS)
        stream = chain(packed, ([order[place]] for place in count(records)))
    placed = 0
    for row in stream:
        rows.append(row)
        placed += len(row)
        if len(rows) == steps * per_step if steps is not None else placed >= records and len(rows) % per_step == 0:
            break
    return rows


class PackedRows(Dataset[list[Document]]):
    """The rows of a whole run, in order, each of one record or, with packing, of several."""

    def __init__(self, encoded: Encoded, rows: list[list[int]], weights: list[Any] | None, pad: int) -> None:
        self.encoded, self.rows, self.weights, self.pad = encoded, rows, weights, pad

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> list[Document]:
        """The records of the row, each learnt from where its answer begins."""
        return [
            Document(self.encoded.ids[record], self.encoded.starts[record], 1.0 if self.weights is None else self.weights[record])
            for record in self.rows[position]
        ]

    def consumed(self, position: int) -> dict[str, int]:
        """Records of every task, and documents, in the rows before `position`."""
        tasks = self.encoded.tasks
        return dict(sorted(Counter(tasks[record] for row in self.rows[:position] for record in row).items()))

    def collate(self, rows: list[list[Document]]) -> dict[str, Tensor]:
        """A batch; see `batch_of`."""
        return batch_of(rows, self.pad, self.weights is not None)

    def position(self, rows: int) -> dict[str, Any]:
        """How many records of every task."""
        return {"of_task": self.consumed(rows)}
