"""Metrics on plain arrays, with values equal to scikit-learn's and scipy's wherever those define one.

Conventions for what a system did not answer (prediction None):
- classification: wrong in accuracy, recall and F1; a class of its own in MCC, so that a system that never answers gets 0;
- Spearman, Pearson: counted as the mean of the gold values, which carries no order, so that a system that never answers gets 0;
- MAE: counted as the end of the gold range that lies farther from the record's gold value, so that abstaining never pays;
- text: 0;
- sets of items: no item at all, so the gold items are missed.
The share of such answers is always reported beside the metric.

Legend of shapes: r resamples, n records, C classes of the task.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INVALID = -1
"""Class code of a prediction that is none of the choices."""


# --- classification: everything from the confusion matrix, [..., C, C + 1], gold by prediction, last column invalid ---


def confusion(gold_rn: Ints, predicted_rn: Ints, classes: int) -> Ints:
    """Count gold by prediction for each resample, `[r, C, C + 1]`. Codes are 0..C-1, and INVALID for predictions."""
    width = classes * (classes + 1)
    cells = gold_rn * (classes + 1) + np.where(predicted_rn == INVALID, classes, predicted_rn)
    cells = cells + np.arange(len(cells))[:, None] * width
    return np.bincount(cells.ravel(), minlength=len(cells) * width).reshape(-1, classes, classes + 1)


def accuracy(counts: Ints) -> Floats:
    """Share of right answers."""
    return np.einsum("...cc->...", counts[..., :-1]) / counts.sum((-2, -1))


def balanced_accuracy(counts: Ints) -> Floats:
    """Mean recall over the classes that occur in gold."""
    gold = counts.sum(-1)
    recall = _ratio(np.einsum("...cc->...c", counts[..., :-1]), gold)
    return recall.sum(-1) / (gold > 0).sum(-1)


def mcc(counts: Ints) -> Floats:
    """Matthews correlation, multi-class (Gorodkin's R_K), over the whole set at once; 0 where it is undefined."""
    gold = counts.sum(-1).astype(float)
    predicted = counts.sum(-2).astype(float)
    total = gold.sum(-1)
    right = np.einsum("...cc->...", counts[..., :-1])
    # invalid is a class that gold never holds: it is missing from the product and present in the predictions' variance
    covariance = right * total - (gold * predicted[..., :-1]).sum(-1)
    spread = np.sqrt((total**2 - (gold**2).sum(-1)) * (total**2 - (predicted**2).sum(-1)))
    return _ratio(covariance, spread)


def macro_f1(counts: Ints) -> Floats:
    """Mean F1 over the classes that occur in gold or among the valid predictions; invalid answers cost recall."""
    gold, predicted = counts.sum(-1), counts[..., :-1].sum(-2)
    present = (gold + predicted) > 0
    f1 = _ratio(2 * np.einsum("...cc->...c", counts[..., :-1]), gold + predicted)
    return f1.sum(-1) / present.sum(-1)


def _ratio(above: NDArray, below: NDArray) -> Floats:
    """above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)


# --- order and distance ---


def average_ranks(values_n: NDArray) -> Floats:
    """Ranks from 1, ties sharing their mean. Values that are integer codes from 0 need no sorting."""
    if values_n.dtype.kind != "i":
        values_n = ordinal(values_n)
    counts = np.bincount(values_n)
    return (np.cumsum(counts) - (counts - 1) / 2)[values_n]


def ordinal(values_n: NDArray) -> Ints:
    """Replace values by the codes 0, 1, ... of their order; equal values share a code."""
    return np.unique(values_n, return_inverse=True)[1].astype(np.int64)


def auroc(gold_n: Ints, scores_nC: Floats) -> float:
    """Area under the ROC curve; one class against the rest, averaged over the classes, when there are more than two.

    Args:
        scores_nC: anything ordered like the probability of each class.

    Returns NaN when gold holds a single class; classes that gold does not hold are left out of the average.
    """
    if scores_nC.shape[1] == 2:
        return _auroc_one(gold_n == 1, scores_nC[:, 1])
    areas = [_auroc_one(gold_n == c, scores_nC[:, c]) for c in np.unique(gold_n)]
    return float(np.mean(areas))


def _auroc_one(positive_n: NDArray[np.bool_], score_n: NDArray) -> float:
    positives = int(positive_n.sum())
    negatives = len(positive_n) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = average_ranks(score_n)[positive_n].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def probabilities(logprobs_nC: Floats) -> Floats:
    """Softmax over the choices: label log-likelihoods as a distribution over the closed set."""
    shifted = np.exp(logprobs_nC - logprobs_nC.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def pearson(gold_n: NDArray, predicted_n: NDArray) -> float:
    """Product-moment correlation; 0 where one side is constant (scipy gives NaN): a constant says nothing about gold."""
    gold, predicted = gold_n - gold_n.mean(), predicted_n - predicted_n.mean()
    spread = np.sqrt((gold**2).sum() * (predicted**2).sum())
    # the mean of equal floats may differ from them in the last digit; that is no spread
    if np.ptp(gold_n) == 0 or np.ptp(predicted_n) == 0 or spread == 0:
        return 0.0
    return float(np.clip((gold * predicted).sum() / spread, -1, 1))


def spearman(gold_n: NDArray, predicted_n: NDArray) -> float:
    """Rank correlation with average ranks for ties; 0 where one side is constant."""
    return pearson(average_ranks(gold_n), average_ranks(predicted_n))


def absolute_errors(gold: Sequence[float], predicted: Sequence[float | None]) -> Floats:
    """|predicted - gold| of each record; their mean is the MAE. None costs the distance to the farther end of gold's range."""
    low, high = min(gold), max(gold)
    return np.array([max(g - low, high - g) if p is None else abs(p - g) for g, p in zip(gold, predicted, strict=True)])


# --- text: one score per record, the metric is their mean ---


def words(text: str) -> list[str]:
    """Runs of a-z and 0-9 after lower-casing, without stemming: the tokens of the `rouge_score` package."""
    return re.findall(r"[a-z0-9]+", text.lower())


def same_text(text: str) -> str:
    """Normal form of an answer: outer blanks and one final full stop removed, case folded."""
    return text.strip().removesuffix(".").casefold()


def exact_match(gold: str, predicted: str | None) -> float:
    """1 if both are equal up to outer blanks, one final full stop and case."""
    return float(predicted is not None and same_text(gold) == same_text(predicted))


def rouge_l(gold: str, predicted: str | None) -> float:
    """F-measure (equal weights) of the longest common subsequence over `words`; 0 when either side has no word."""
    one, two = words(gold), words(predicted or "")
    common = longest_common_subsequence(one, two)
    return 2 * common / (len(one) + len(two)) if common else 0.0


def token_f1(gold: str, predicted: str | None) -> float:
    """F1 of the two bags of `words`, as in SQuAD."""
    one, two = Counter(words(gold)), Counter(words(predicted or ""))
    common = (one & two).total()
    return 2 * common / (one.total() + two.total()) if common else 0.0


def longest_common_subsequence(one: list[str], two: list[str]) -> int:
    """Its length, by Hyyrö's bit-parallel recurrence: one big-integer addition per word instead of a table row."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    state = full
    for word in two:
        matched = state & places.get(word, 0)
        state = ((state + matched) | (state - matched)) & full
    return len(one) - state.bit_count()


# --- sets of items: multilabel answers and lists of names ---


def same_items(items: Sequence[str]) -> frozenset[str]:
    """Items in the normal form of `same_text`; order and repetition do not count."""
    return frozenset(map(same_text, items))


def set_match(gold: Sequence[str], predicted: Sequence[str] | None) -> float:
    """1 if both hold exactly the same items."""
    return float(predicted is not None and same_items(gold) == same_items(predicted))


def item_counts(gold: Sequence[str], predicted: Sequence[str] | None) -> tuple[int, int, int]:
    """Items in both, in gold, in the prediction."""
    one, two = same_items(gold), same_items(predicted or ())
    return len(one & two), len(one), len(two)


def micro_f1(counts: Ints) -> Floats:
    """F1 over all items of all records together, from sums of `item_counts`, `[..., 3]`; 0 where neither side has an item."""
    return _ratio(2 * counts[..., 0], counts[..., 1] + counts[..., 2])
