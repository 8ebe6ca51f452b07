"""The answers of one system on one task, and each metric as a function of how often each record counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from artefacts.errors import ensure
from data_convert.card_fields import CLASSIFICATION, EC_METRICS, METRICS
from eval.judge import itemsets, metrics, probability, texts
from eval.judge.metrics import Floats, Ints, Statistic, Weights

CONFUSION = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "mcc": metrics.mcc,
    "macro_f1": metrics.macro_f1,
}
PROBABILITY = ("auroc", "auprc", "ece", "brier")
"""Need probabilities; a system without any has no such figure."""
TEXT = {"exact_match": texts.exact_match, "rouge_l": texts.rouge_l, "token_f1": texts.token_f1}
CORPUS = {"bleu": texts.bleu, "entity_f1": texts.entity_f1}
LOWER_IS_BETTER = ("mae", "ece", "brier")


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
    item_scores: Sequence[Mapping[str, float] | None] = field(default_factory=list)
    """Sets of items: item -> score of each record, where the system gives any."""

    def without_logprobs(self, metric: str) -> bool:
        """Whether `metric` cannot be computed because this system gives no probabilities."""
        return metric in PROBABILITY and self.logprobs is None

    @property
    def codes(self) -> dict[Any, int]:
        """Label -> its place among the choices."""
        return {choice: code for code, choice in enumerate(self.choices)}

    @property
    def gold_codes(self) -> Ints:
        """`[records]`"""
        codes = self.codes
        return np.array([codes[g] for g in self.gold])

    @property
    def probabilities(self) -> Floats:
        """`[records, choices]`"""
        assert self.logprobs is not None, "no probabilities"
        return probability.probabilities(self.logprobs)

    @cached_property
    def curves(self) -> probability.Curves:
        """One for both of its metrics, which share their sums."""
        return probability.Curves(self.gold_codes, self.probabilities)


def metrics_of(kind: str, gold: Sequence[Any]) -> list[str]:
    """All metrics of a task: those of its kind, and EC numbers by digits where gold holds nothing else."""
    ec = kind in ("set", "multilabel") and itemsets.are_ec_numbers(gold)
    return [metric for metric in METRICS[kind] if metric not in EC_METRICS or ec]


def statistic(metric: str, answers: Answers) -> Statistic:
    """The metric as a function of weights; whatever does not depend on them is computed here, once."""
    ensure(metric in METRICS[answers.kind], f"{metric} is no metric of {answers.kind} tasks")
    if answers.kind in CLASSIFICATION:
        return _of_labels(metric, answers)
    if answers.kind == "regression":
        return _of_numbers(metric, answers)
    pairs = list(zip(answers.gold, answers.predicted, strict=True))
    if answers.kind == "text":
        said = [(str(g), None if p is None else str(p)) for g, p in pairs]
        if metric in CORPUS:
            return CORPUS[metric]([g for g, _ in said], [p for _, p in said])
        return metrics.mean_of([TEXT[metric](g, p) for g, p in said])
    if metric == "set_match":
        return metrics.mean_of([itemsets.set_match(g, p) for g, p in pairs])
    if metric == "fmax":
        return itemsets.fmax(answers.gold, answers.predicted, answers.item_scores or [None] * len(pairs))
    if metric in EC_METRICS:
        digits = EC_METRICS.index(metric) + 1
        return itemsets.micro_f1([itemsets.to_digits(g, digits) or [] for g, _ in pairs], [itemsets.to_digits(p, digits) for _, p in pairs])
    return itemsets.micro_f1(answers.gold, answers.predicted)


def _of_labels(metric: str, answers: Answers) -> Statistic:
    codes, gold_n = answers.codes, answers.gold_codes
    if metric in CONFUSION:
        predicted_n = np.array([metrics.INVALID if p is None else codes[p] for p in answers.predicted])
        sums, of_sums = metrics.class_sums(gold_n, predicted_n, len(codes)), CONFUSION[metric]
        return lambda weights_rn: of_sums(sums(weights_rn))
    if metric in ("auroc", "auprc"):
        return answers.curves.auroc if metric == "auroc" else answers.curves.auprc
    found_nC = answers.probabilities
    return probability.ece(gold_n, found_nC) if metric == "ece" else metrics.mean_of(probability.brier(gold_n, found_nC))


def _of_numbers(metric: str, answers: Answers) -> Statistic:
    numbers = [float(g) for g in answers.gold]
    given = [None if p is None else float(p) for p in answers.predicted]
    if metric == "mae":
        return metrics.mean_of(metrics.absolute_errors(numbers, given))
    gold_n, filled_n = np.array(numbers), np.array([np.mean(numbers) if p is None else p for p in given])
    if metric == "spearman":
        return metrics.spearman(gold_n, filled_n)
    return lambda weights_rn: metrics.pearson(weights_rn, gold_n, filled_n)


def value(metric: str, answers: Answers) -> float:
    """The metric on all records."""
    return float(statistic(metric, answers)(once(len(answers.gold)))[0])


def once(n: int) -> Weights:
    """Every record once, `[1, n]`."""
    return np.ones((1, n), dtype=np.int64)
