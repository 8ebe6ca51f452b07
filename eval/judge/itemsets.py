"""Metrics of answers that are sets of items: labels of a multilabel task, GO terms, keywords, EC numbers.

Legend of shapes: r resamples, n records, t thresholds.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from data_convert.tasks.parse import same_text
from eval.judge.metrics import Floats, Statistic, Weights, f1_of_sets, ratio

EC = re.compile(r"(?:EC[ :]?)?[1-7](\.([0-9]+|-)){2}\.(n?[0-9]+|-)", re.IGNORECASE)
MOST_THRESHOLDS = 101
"""Of Fmax: scores are compared at 0.00, 0.01, ..., 1.00, as CAFA does, or at their own values where these are fewer."""


def same_items(items: Sequence[str]) -> frozenset[str]:
    """Items in the normal form of `same_text`; order and repetition do not count."""
    return frozenset(map(same_text, items))


def set_match(gold: Sequence[str], predicted: Sequence[str] | None) -> float:
    """1 if both hold exactly the same items."""
    return float(predicted is not None and same_items(gold) == same_items(predicted))


def micro_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str] | None]) -> Statistic:
    """F1 over all items of all records together; 0 where neither side has an item."""
    return f1_of_sets(((same_items(g), same_items(p or ())) for g, p in zip(gold, predicted, strict=True)), empty=0.0)


def fmax(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str] | None], scores: Sequence[Mapping[str, float] | None]
) -> Statistic:
    """Protein-centric Fmax of CAFA: the best F1 over thresholds of precision (over records with an item left) and recall.

    Items as they stand: terms are not propagated to their ancestors.

    Args:
        scores: item -> score from 0 to 1 of each record; None: every predicted item has score 1, which leaves one threshold.
    """
    wanted = [same_items(items) for items in gold]
    given = [
        {same_text(item): float(score) for item, score in own.items()} if own is not None else dict.fromkeys(same_items(items or ()), 1.0)
        for items, own in zip(predicted, scores, strict=True)
    ]
    values = np.unique([score for own in given for score in own.values() if score > 0] or [1.0])
    cuts_t = values if len(values) <= MOST_THRESHOLDS else np.linspace(0.01, 1, MOST_THRESHOLDS - 1)
    precision_nt, answered_nt, recall_nt = (np.zeros((len(wanted), len(cuts_t))) for _ in range(3))
    for n, (items, own) in enumerate(zip(wanted, given, strict=True)):
        scores_i = np.array(list(own.values()))
        right_i = np.array([item in items for item in own], dtype=bool)
        above_ti = scores_i[None] >= cuts_t[:, None] - 1e-12
        left_t, hit_t = above_ti.sum(axis=1), (above_ti & right_i).sum(axis=1)
        answered_nt[n] = left_t > 0
        precision_nt[n] = hit_t / np.maximum(left_t, 1)
        recall_nt[n] = hit_t / len(items) if items else 0.0
    counted_n = np.array([float(bool(items)) for items in wanted])  # a record without any gold item has no recall

    def statistic(weights_rn: Weights) -> Floats:
        precision = ratio(weights_rn @ precision_nt, weights_rn @ answered_nt)
        recall = ratio(weights_rn @ recall_nt, (weights_rn @ counted_n)[:, None])
        return ratio(2 * precision * recall, precision + recall).max(axis=1)

    return statistic


def are_ec_numbers(gold: Sequence[Sequence[str]]) -> bool:
    """Whether every item of every record is an EC number, partial ones (`2.7.-.-`) included, and there is one."""
    items = {item for own in gold for item in own}
    return bool(items) and all(EC.fullmatch(item.strip()) for item in items)


def to_digits(items: Sequence[str] | None, digits: int) -> list[str] | None:
    """EC numbers cut to their first digits; a number that is not known so far (`2.-.-.-` at two digits) is left out."""
    if items is None:
        return None
    parts = [re.sub(r"^ec[ :]?", "", same_text(item)).split(".")[:digits] for item in items]
    return [".".join(part) for part in parts if len(part) == digits and "-" not in part]
