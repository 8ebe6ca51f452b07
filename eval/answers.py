"""The answers of one system on one task, and each metric as a function of resampled record indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval import metrics
from eval.metrics import Floats, Ints

Statistic = Callable[[Ints], Floats]
"""Record indices `[resamples, records]` -> value of the metric per resample `[resamples]`."""

CONFUSION = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "mcc": metrics.mcc,
    "macro_f1": metrics.macro_f1,
}
TEXT = {"exact_match": metrics.exact_match, "rouge_l": metrics.rouge_l, "token_f1": metrics.token_f1}
SETS = ("set_match", "micro_f1")
CORRELATION = {"spearman": metrics.spearman, "pearson": metrics.pearson}

METRICS: dict[str, tuple[str, ...]] = {
    "binary": (*CONFUSION, "auroc"),
    "multiclass": (*CONFUSION, "auroc"),
    "regression": (*CORRELATION, "mae"),
    "text": tuple(TEXT),
    "multilabel": SETS,
    "set": SETS,
}
"""Kind of task -> its metrics."""
LOWER_IS_BETTER = ("mae",)


@dataclass(frozen=True)
class Answers:
    """Gold and predictions of one task, in the records' order."""

    kind: str
    choices: Sequence[str]
    gold: Sequence[Any]
    """Labels, numbers, texts, or lists of items, as the kind has them."""
    predicted: Sequence[Any]
    """The same; None: no valid answer."""
    logprobs: Floats | None = None
    """`[records, choices]`; None where the system gives none."""

    def without_logprobs(self, metric: str) -> bool:
        """Whether `metric` cannot be computed because this system gives no probabilities."""
        return metric == "auroc" and self.logprobs is None


def statistic(metric: str, answers: Answers) -> Statistic:
    """The metric as a function of resampled indices; whatever does not depend on them is computed here, once."""
    assert metric in METRICS[answers.kind], f"{metric} is no metric of {answers.kind} tasks"
    if answers.kind in ("binary", "multiclass"):
        codes: dict[Any, int] = {choice: code for code, choice in enumerate(answers.choices)}
        gold = np.array([codes[g] for g in answers.gold])
        if metric == "auroc":
            assert answers.logprobs is not None
            # only the order matters: codes spare every resample its sorting
            ranked = np.stack([metrics.ordinal(column) for column in metrics.probabilities(answers.logprobs).T], axis=1)
            return lambda rows: np.array([metrics.auroc(gold[row], ranked[row]) for row in rows])
        predicted = np.array([metrics.INVALID if p is None else codes[p] for p in answers.predicted])
        of_counts = CONFUSION[metric]
        return lambda rows: of_counts(metrics.confusion(gold[rows], predicted[rows], len(codes)))
    if metric in TEXT:
        of_pair = TEXT[metric]
        return _mean([of_pair(str(g), None if p is None else str(p)) for g, p in zip(answers.gold, answers.predicted, strict=True)])
    if metric == "set_match":
        return _mean([metrics.set_match(g, p) for g, p in zip(answers.gold, answers.predicted, strict=True)])
    if metric == "micro_f1":
        counts_n3 = np.array([metrics.item_counts(g, p) for g, p in zip(answers.gold, answers.predicted, strict=True)])
        return lambda rows: metrics.micro_f1(counts_n3[rows].sum(axis=1))
    numbers = [float(g) for g in answers.gold]
    given = [None if p is None else float(p) for p in answers.predicted]
    if metric == "mae":
        return _mean(metrics.absolute_errors(numbers, given))
    gold_n, filled_n = np.array(numbers), np.array([np.mean(numbers) if p is None else p for p in given])
    if metric == "spearman":
        gold_n, filled_n = metrics.ordinal(gold_n), metrics.ordinal(filled_n)
    correlation = CORRELATION[metric]
    return lambda rows: np.array([correlation(gold_n[row], filled_n[row]) for row in rows])


def _mean(scores: Sequence[float] | Floats) -> Statistic:
    per_record = np.asarray(scores, dtype=float)
    return lambda rows: per_record[rows].mean(axis=1)


def value(metric: str, answers: Answers) -> float:
    """The metric on all records."""
    return float(statistic(metric, answers)(np.arange(len(answers.gold))[None])[0])
