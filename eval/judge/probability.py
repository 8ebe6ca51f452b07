"""Metrics of the probabilities over a closed set of answers: how well they order the records, and how honest they are.

Legend of shapes: r resamples, n records, C classes, G groups of equal scores, b bins.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.judge.metrics import Floats, Ints, Ranked, Statistic, Weights, ranked, ratio, up_to

Counts = NDArray[np.int32]
MOST_SHARED = 16
"""Classes up to which the sums are kept for the second metric: 8 MB each."""

BINS = 15
"""Of the calibration error, equally wide, over the probability of the likeliest choice (Guo et al. 2017)."""


def probabilities(logprobs_nC: Floats) -> Floats:
    """Softmax over the choices: label log-likelihoods as a distribution over the closed set."""
    shifted = np.exp(logprobs_nC - logprobs_nC.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class Curves:
    """Areas under the ROC and the precision-recall curve; both read the same sums, which take nearly all their time.

    Two classes: the second is the positive one. More: each against the rest, averaged over the classes that gold holds.
    """

    def __init__(self, gold_n: Ints, probabilities_nC: Floats) -> None:
        classes = [1] if probabilities_nC.shape[1] == 2 else np.unique(gold_n).tolist()
        self._sides = [(gold_n == c, ranked(-probabilities_nC[:, c])) for c in classes]
        self._seen: Weights | None = None
        self._sums: list[tuple[Counts, Counts]] = []

    def auroc(self, weights_rn: Weights) -> Floats:
        """NaN where gold holds a single class; classes that a resample's gold does not hold are left out of its average."""
        return _over_classes([_area(*sums) for sums in self._positives(weights_rn)])

    def auprc(self, weights_rn: Weights) -> Floats:
        """Average precision: the step-wise area under precision over recall."""
        return _over_classes([_average_precision(*sums) for sums in self._positives(weights_rn)])

    def _positives(self, weights_rn: Weights) -> Iterable[tuple[Counts, Counts]]:
        if len(self._sides) > MOST_SHARED:
            return (positives(weights_rn, *side) for side in self._sides)
        if self._seen is not weights_rn:
            self._seen, self._sums = weights_rn, [positives(weights_rn, *side) for side in self._sides]
        return self._sums


def brier(gold_n: Ints, probabilities_nC: Floats) -> Floats:
    """Squared distance to the truth of each record `[n]`, summed over the classes; of two classes, that of one.

    So scikit-learn has it: 0 to 1 for two classes, 0 to 2 for more.
    """
    truth_nC = gold_n[:, None] == np.arange(probabilities_nC.shape[1])
    squares_nC = (probabilities_nC - truth_nC) ** 2
    return squares_nC[:, 1] if probabilities_nC.shape[1] == 2 else squares_nC.sum(axis=1)


def ece(gold_n: Ints, probabilities_nC: Floats) -> Statistic:
    """Expected calibration error: the mean distance between confidence and accuracy within `BINS` bins of confidence."""
    confidence_n, right_n, bin_n = confidences(gold_n, probabilities_nC)
    gap_nb = np.where(bin_n[:, None] == np.arange(BINS), (confidence_n - right_n)[:, None], 0.0)
    return lambda weights_rn: np.abs(weights_rn @ gap_nb).sum(axis=1) / weights_rn.sum(axis=1)


def confidences(gold_n: Ints, probabilities_nC: Floats) -> tuple[Floats, Floats, Ints]:
    """Probability of the likeliest choice, whether it is right, and its bin, each `[n]`."""
    best_n = probabilities_nC.argmax(axis=1)
    confidence_n = probabilities_nC[np.arange(len(best_n)), best_n]
    # bins are open below and closed above: 1.0 belongs to the last one
    bin_n = np.clip(np.ceil(confidence_n * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return confidence_n, (best_n == gold_n).astype(float), bin_n


def positives(weights_rn: Weights, positive_n: NDArray[np.bool_], by: Ranked) -> tuple[Counts, Counts]:
    """True and false positives when all records down to each group are called positive, best group first, `[r, G]`."""
    all_rG, true_rG = up_to(weights_rn, by), up_to(weights_rn * positive_n, by)
    return true_rG, all_rG - true_rG


def roc_points(gold_n: Ints, score_n: Floats, most: int) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), at most about `most` of them; none for a single class."""
    if gold_n.min() == gold_n.max():
        return []
    true_G, false_G = (side[0] for side in positives(np.ones((1, len(gold_n)), dtype=np.int64), gold_n == 1, ranked(-score_n)))
    keep = np.unique(np.linspace(0, len(true_G) - 1, min(most, len(true_G))).astype(int))
    rates = zip(false_G[keep] / false_G[-1], true_G[keep] / true_G[-1], strict=True)
    return [(0.0, 0.0), *((float(x), float(y)) for x, y in rates)]


def _over_classes(values: Sequence[Floats]) -> Floats:
    """Mean over the classes that have a value, `[r]`."""
    values_rC = np.stack(values, axis=1)
    counted = ~np.isnan(values_rC)
    found = ratio(np.where(counted, values_rC, 0.0).sum(axis=1), counted.sum(axis=1))
    return np.where(counted.any(axis=1), found, np.nan)


def _area(true_rG: Counts, false_rG: Counts) -> Floats:
    heights = true_rG - np.diff(true_rG, axis=1, prepend=0) / 2
    below = (np.diff(false_rG, axis=1, prepend=0) * heights).sum(axis=1)
    return _where_both(below / np.maximum(true_rG[:, -1].astype(float) * false_rG[:, -1], 1), true_rG, false_rG)


def _average_precision(true_rG: Counts, false_rG: Counts) -> Floats:
    steps = np.diff(true_rG, axis=1, prepend=0) * ratio(true_rG, true_rG + false_rG)
    return _where_both(steps.sum(axis=1) / np.maximum(true_rG[:, -1], 1), true_rG, false_rG)


def _where_both(value_r: Floats, true_rG: Counts, false_rG: Counts) -> Floats:
    return np.where((true_rG[:, -1] > 0) & (false_rG[:, -1] > 0), value_r, np.nan)
