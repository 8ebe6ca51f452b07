"""Metrics of labels and numbers, with values equal to scikit-learn's and scipy's wherever those define one.

A metric is a function of weights: how often each record counts. All ones is the figure itself; a resample of the bootstrap
is another row of weights, so one pass gives the metric of many resamples.

Conventions for what a system did not answer (prediction None):
- classification: wrong in accuracy, recall and F1; a class of its own in MCC, so that a system that never answers gets 0;
- Spearman, Pearson: counted as the mean of the gold values, which carries no order, so that a system that never answers gets 0;
- MAE: counted as the end of the gold range that lies farther from the record's gold value, so that abstaining never pays;
- text: 0;
- sets of items: no item at all, so the gold items are missed.
The share of such answers is always reported beside the metric.

Legend of shapes: r resamples, n records, C classes of the task, G groups of equal values.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = NDArray[np.integer]
"""`[r, n]`, how often each record counts in each resample."""
Statistic = Callable[[Weights], Floats]
"""Weights `[r, n]` -> value of the metric per resample `[r]`."""

INVALID = -1
"""Class code of a prediction that is none of the choices."""


def ratio(above: NDArray, below: NDArray) -> Floats:
    """above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)


def mean_of(per_record: Sequence[float] | Floats) -> Statistic:
    """The mean of one score per record."""
    score_n = np.asarray(per_record, dtype=float)
    return lambda weights_rn: weights_rn @ score_n / weights_rn.sum(axis=1)


def f1_of_sets(pairs: Iterable[tuple[Set[str], Set[str]]], empty: float) -> Statistic:
    """F1 over all items of all records together, of each record's gold and predicted ones; `empty` where neither side has an item."""
    counts_n3 = np.array([(len(gold & said), len(gold), len(said)) for gold, said in pairs], dtype=float)

    def statistic(weights_rn: Weights) -> Floats:
        both, wanted, given = (weights_rn @ counts_n3).T
        return np.where(wanted + given > 0, 2 * both / np.maximum(wanted + given, 1), empty)

    return statistic


# --- classification: everything from how often each class is gold, predicted, and both ---


class ClassSums(NamedTuple):
    """Sums of weights; invalid predictions are the last column of `predicted`."""

    gold: Floats
    """`[r, C]`"""
    predicted: Floats
    """`[r, C + 1]`"""
    right: Floats
    """`[r, C]`"""


def class_sums(gold_n: Ints, predicted_n: Ints, classes: int) -> Callable[[Weights], ClassSums]:
    """Codes are 0..C-1, and INVALID for predictions."""
    one = np.ones(len(gold_n))
    column = np.arange(len(gold_n))
    gold_Cn = sparse.csr_array((one, (gold_n, column)), shape=(classes, len(gold_n)))
    given = np.where(predicted_n == INVALID, classes, predicted_n)
    given_Cn = sparse.csr_array((one, (given, column)), shape=(classes + 1, len(gold_n)))
    right_Cn = sparse.csr_array(((gold_n == predicted_n).astype(float), (gold_n, column)), shape=(classes, len(gold_n)))

    def sums(weights_rn: Weights) -> ClassSums:
        weights_nr = weights_rn.T.astype(float)
        return ClassSums((gold_Cn @ weights_nr).T, (given_Cn @ weights_nr).T, (right_Cn @ weights_nr).T)

    return sums


def accuracy(sums: ClassSums) -> Floats:
    """Share of right answers."""
    return sums.right.sum(-1) / sums.gold.sum(-1)


def balanced_accuracy(sums: ClassSums) -> Floats:
    """Mean recall over the classes that occur in gold."""
    return ratio(sums.right, sums.gold).sum(-1) / (sums.gold > 0).sum(-1)


def mcc(sums: ClassSums) -> Floats:
    """Matthews correlation, multi-class (Gorodkin's R_K), over the whole set at once; 0 where it is undefined."""
    total = sums.gold.sum(-1)
    # invalid is a class that gold never holds: it is missing from the product and present in the predictions' variance
    covariance = sums.right.sum(-1) * total - (sums.gold * sums.predicted[:, :-1]).sum(-1)
    spread = np.sqrt((total**2 - (sums.gold**2).sum(-1)) * (total**2 - (sums.predicted**2).sum(-1)))
    return ratio(covariance, spread)


def macro_f1(sums: ClassSums) -> Floats:
    """Mean F1 over the classes that occur in gold or among the valid predictions; invalid answers cost recall."""
    both = sums.gold + sums.predicted[:, :-1]
    return ratio(2 * sums.right, both).sum(-1) / (both > 0).sum(-1)


# --- order and distance ---


class Ranked(NamedTuple):
    """Records in ascending order of a value, equal values together."""

    order: Ints
    """`[n]`"""
    ends: Ints
    """`[G]` place of each group's last record in `order`."""
    group: Ints
    """`[n]` the group of each record."""


def ranked(values_n: NDArray) -> Ranked:
    """Sort once; every resample reads the same order."""
    _, group, counts = np.unique(values_n, return_inverse=True, return_counts=True)
    return Ranked(np.argsort(values_n, kind="stable"), np.cumsum(counts) - 1, group)


def up_to(weights_rn: Weights, by: Ranked) -> NDArray[np.int32]:
    """Weight of all records up to each group, `[r, G]`."""
    # 32 bits are a third of the time of 64, and enough for 8 million records
    return np.cumsum(weights_rn[:, by.order], axis=1, dtype=np.int32)[:, by.ends]


def ranks(weights_rn: Weights, by: Ranked) -> Floats:
    """Ranks from 1, ties sharing their mean, `[r, n]`; a record that counts twice is a tie with itself."""
    ends = up_to(weights_rn, by)
    own = np.diff(ends, axis=1, prepend=0)
    return (ends - (own - 1) / 2)[:, by.group]


def pearson(weights_rn: Weights, gold: Floats, predicted: Floats) -> Floats:
    """Product-moment correlation of values `[n]` or `[r, n]`; 0 where one side is constant (scipy gives NaN).

    A constant says nothing about gold.
    """
    total = weights_rn.sum(axis=1, keepdims=True)
    sides = []
    for side in (gold, predicted):
        centred = side - (weights_rn * side).sum(axis=1, keepdims=True) / total
        # the mean of equal floats may differ from them in the last digit; that is no spread
        highest = np.where(weights_rn > 0, side, -np.inf).max(axis=1, keepdims=True)
        lowest = np.where(weights_rn > 0, side, np.inf).min(axis=1, keepdims=True)
        sides.append(np.where(highest > lowest, centred, 0.0))
    one, two = sides
    spread = np.sqrt((weights_rn * one**2).sum(axis=1) * (weights_rn * two**2).sum(axis=1))
    return np.clip(ratio((weights_rn * one * two).sum(axis=1), spread), -1, 1)


def spearman(gold_n: Floats, predicted_n: Floats) -> Statistic:
    """Rank correlation with average ranks for ties; 0 where one side is constant."""
    gold, predicted = ranked(gold_n), ranked(predicted_n)
    return lambda weights_rn: pearson(weights_rn, ranks(weights_rn, gold), ranks(weights_rn, predicted))


def absolute_errors(gold: Sequence[float], predicted: Sequence[float | None]) -> Floats:
    """|predicted - gold| of each record; their mean is the MAE. None costs the distance to the farther end of gold's range."""
    low, high = min(gold), max(gold)
    return np.array([max(g - low, high - g) if p is None else abs(p - g) for g, p in zip(gold, predicted, strict=True)])
