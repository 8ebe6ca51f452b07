"""The answers of one system on one task, and each metric as a function of how often each record counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from artefacts.errors import ensure
from data_convert.tasks.kinds import EC_METRICS, KINDS
from eval.judge import itemsets, metrics, probability, texts
from eval.judge.metrics import Floats, Ints, Statistic, Weights
from eval.predictions import Line

CONFUSION = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "mcc": metrics.mcc,
    "macro_f1": metrics.macro_f1,
}
PROBABILITY = ("auroc", "auprc", "ece", "brier")
"""Need probabilities; a system without any has no such figure."""


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

    @classmethod
    def of(cls, lines: Sequence[Line], field: str) -> Answers:
        """The answers in `field` ('predicted' or 'parsed'); probabilities and item scores belong to 'predicted' only."""
        first, logprobs = lines[0], [line["logprobs"] for line in lines]
        complete = field == "predicted" and KINDS[first["kind"]].one_label and all(logprobs)
        return cls(
            kind=first["kind"],
            choices=first["choices"],
            gold=[line["gold"] for line in lines],
            predicted=[line[field] for line in lines],
            logprobs=np.array(logprobs, dtype=float) if complete else None,
            item_scores=[line.get("item_scores") for line in lines] if field == "predicted" else [],
        )

    @classmethod
    def per_token(cls, lines: Sequence[Line]) -> Answers | None:
        """The labels likeliest per answer token; None where likelihoods or numbers of tokens are missing, or no label is asked for."""
        first = lines[0]
        if not KINDS[first["kind"]].one_label or not all(line["logprobs"] and line.get("label_tokens") for line in lines):
            return None
        best = [int(np.argmax(np.divide(line["logprobs"], line["label_tokens"]))) for line in lines]
        predicted = [line["choices"][code] for line, code in zip(lines, best, strict=True)]
        return cls(first["kind"], first["choices"], [line["gold"] for line in lines], predicted)

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
    ec = KINDS[kind].several and itemsets.are_ec_numbers(gold)
    return [metric for metric in KINDS[kind].metrics if metric not in EC_METRICS or ec]


def statistic(metric: str, answers: Answers) -> Statistic:
    """The metric as a function of weights; whatever does not depend on them is computed here, once."""
    ensure(metric in KINDS[answers.kind].metrics, f"{metric} is no metric of {answers.kind} tasks")
    return METRICS[metric](answers)


def value(metric: str, answers: Answers) -> float:
    """The metric on all records."""
    return float(statistic(metric, answers)(once(len(answers.gold)))[0])


def once(n: int) -> Weights:
    """Every record once, `[1, n]`."""
    return np.ones((1, n), dtype=np.int64)


Metric = Callable[[Answers], Statistic]


def _confusion(of_sums: Callable[..., Floats]) -> Metric:
    """Of a metric of the confusion matrix."""

    def made(answers: Answers) -> Statistic:
        codes = answers.codes
        predicted_n = np.array([metrics.INVALID if p is None else codes[p] for p in answers.predicted])
        sums = metrics.class_sums(answers.gold_codes, predicted_n, len(codes))
        return lambda weights_rn: of_sums(sums(weights_rn))

    return made


def _mean(of_pair: Callable[[Any, Any], float], of: Callable[[Any], Any] = lambda value: value) -> Metric:
    """Of a metric of single records; `of` is what becomes of gold and of what was answered."""
    return lambda answers: metrics.mean_of(
        [of_pair(of(g), None if p is None else of(p)) for g, p in zip(answers.gold, answers.predicted, strict=True)]
    )


def _texts(of_all: Callable[[list[str], list[str | None]], Statistic]) -> Metric:
    return lambda answers: of_all(list(map(str, answers.gold)), [None if p is None else str(p) for p in answers.predicted])


def _correlation(of_weights: Callable[[Floats, Floats], Statistic]) -> Metric:
    """No answer counts as the mean of gold."""

    def made(answers: Answers) -> Statistic:
        numbers = [float(g) for g in answers.gold]
        filled = [np.mean(numbers) if p is None else float(p) for p in answers.predicted]
        return of_weights(np.array(numbers), np.array(filled))

    return made


def _mae(answers: Answers) -> Statistic:
    given = [None if p is None else float(p) for p in answers.predicted]
    return metrics.mean_of(metrics.absolute_errors([float(g) for g in answers.gold], given))


def _ec_f1(digits: int) -> Metric:
    cut = partial(itemsets.to_digits, digits=digits)
    return lambda answers: itemsets.micro_f1([cut(g) or [] for g in answers.gold], [cut(p) for p in answers.predicted])


METRICS: dict[str, Metric] = {
    **{name: _confusion(of_sums) for name, of_sums in CONFUSION.items()},
    "auroc": lambda answers: answers.curves.auroc,
    "auprc": lambda answers: answers.curves.auprc,
    "ece": lambda answers: probability.ece(answers.gold_codes, answers.probabilities),
    "brier": lambda answers: metrics.mean_of(probability.brier(answers.gold_codes, answers.probabilities)),
    "spearman": _correlation(metrics.spearman),
    "pearson": _correlation(lambda gold_n, given_n: lambda weights_rn: metrics.pearson(weights_rn, gold_n, given_n)),
    "mae": _mae,
    "exact_match": _mean(texts.exact_match, str),
    "rouge_l": _mean(texts.rouge_l, str),
    "token_f1": _mean(texts.token_f1, str),
    "bleu": _texts(texts.bleu),
    "entity_f1": _texts(texts.entity_f1),
    "set_match": _mean(itemsets.set_match),
    "micro_f1": lambda answers: itemsets.micro_f1(answers.gold, answers.predicted),
    "fmax": lambda answers: itemsets.fmax(answers.gold, answers.predicted, answers.item_scores or [None] * len(answers.gold)),
    **{name: _ec_f1(digits) for digits, name in enumerate(EC_METRICS, 1)},
}
"""Name of a metric (kinds.py says whose) -> how it is computed."""
