"""The baseline that never reads the sequence: what the training labels alone are worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np

from eval.baselines.split import CLASSIFICATION, Record, Task, classified, predicted

MOST_ITEMS = 100
"""Items that are scored; rarer ones never decide Fmax."""


def majority(task: Task) -> Iterator[Record]:
    """Most frequent train class with log class frequencies (each count plus one), mean of train, or most frequent text or set.

    Ties between texts, and between sets, go to the one met first. Items of sets are scored by their share of the train records,
    CAFA's naive method.
    """
    if task.kind in CLASSIFICATION:
        counts = np.bincount(task.codes(task.train), minlength=len(task.choices)) + 1
        return classified(task, np.tile(np.log(counts / counts.sum()), (len(task.test), 1)))
    labels = [record["label"] for record in task.train]
    if task.kind == "regression":
        return predicted(task, [float(np.mean(labels))] * len(task.test))
    first = {json.dumps(label): label for label in reversed(labels)}
    constant = first[Counter(map(json.dumps, labels)).most_common(1)[0][0]]
    if task.kind == "text":
        return predicted(task, [constant] * len(task.test))
    items = Counter(item for label in labels for item in set(label))
    shares = {item: times / len(labels) for item, times in items.most_common(MOST_ITEMS)}
    return predicted(task, [constant] * len(task.test), [shares] * len(task.test))
