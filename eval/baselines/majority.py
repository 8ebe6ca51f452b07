"""The baseline that never reads the sequence: what the training labels alone are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from eval.baselines.split import Record, Task, classified, predicted

MOST_ITEMS = 100
"""Items that are scored; rarer ones never decide Fmax."""


def majority(task: Task) -> Iterator[Record]:
    """Most frequent train class with log class frequencies (each count plus one), mean of train, or most frequent text or set.

    Ties between texts, and between sets, go to the one met first. Items of sets are scored by their share of the train records,
    CAFA's naive method.
    """
    if task.answers.one_label:
        counts = np.bincount(task.codes(task.train), minlength=len(task.choices)) + 1
        return classified(task, np.tile(np.log(counts / counts.sum()), (len(task.test), 1)))
    labels = [record["label"] for record in task.train]
    constants = [task.answers.typical(labels)] * len(task.test)
    if not task.answers.several:
        return predicted(task, constants)
    items = Counter(item for label in labels for item in dict.fromkeys(label))  # in their order: that of a set is another in each process
    shares = {item: times / len(labels) for item, times in items.most_common(MOST_ITEMS)}
    return predicted(task, constants, [shares] * len(task.test))
