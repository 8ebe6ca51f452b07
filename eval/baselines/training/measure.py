"""Metrics of the original under its names, on all records at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from eval.baselines.training.examples import Data, Example
from eval.judge.answers import Answers, statistic, value
from eval.judge.bootstrap import bootstrap

TOP = (2, 3, 4, 5, 10)


def answers(data: Data, examples: list[Example], probabilities_NC: np.ndarray) -> Answers:
    """Gold and predictions in the form that `eval` scores."""
    if data.kind == "regression":
        return Answers("regression", [], [e.label for e in examples], [float(p) for p in probabilities_NC[:, 0]])
    classes_NC = two_columns(probabilities_NC) if data.kind == "binary" else probabilities_NC
    predicted = (probabilities_NC[:, 0] >= 0.5).astype(int) if data.kind == "binary" else classes_NC.argmax(axis=1)
    gold = [data.names[e.label] for e in examples]
    return Answers(data.kind, data.names, gold, [data.names[i] for i in predicted], np.log(np.maximum(classes_NC, 1e-9)))


def two_columns(probabilities_N1: np.ndarray) -> np.ndarray:
    """Probability of each of two classes from that of the second."""
    return np.concatenate([1 - probabilities_N1, probabilities_N1], axis=1)


def selection(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str) -> float:
    """The figure that chooses the epoch."""
    if data.kind == "multilabel":
        return float(sk.f1_score(_many(data, examples), probabilities_NC >= 0.5, average="macro", zero_division=0))
    return value(metric, answers(data, examples, probabilities_NC))


def measure(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
    """All figures, rounded to 6 digits as upstream; `interval` is that of the selection metric."""
    gold: Any = _many(data, examples) if data.kind == "multilabel" else np.array([e.label for e in examples])
    figures: dict[str, Any] = {"n": len(examples)}
    if data.kind == "regression":
        predicted = probabilities_NC[:, 0]
        figures |= {
            "mae": sk.mean_absolute_error(gold, predicted),
            "mse": sk.mean_squared_error(gold, predicted),
            "r2": sk.r2_score(gold, predicted),
        }
        varies = np.ptp(gold) > 0 and np.ptp(predicted) > 0
        for name, test in (("sp", spearmanr), ("ps", pearsonr)):
            found = test(gold, predicted) if varies else (0.0, 1.0)
            figures |= {f"{name}_statistic": found[0], f"{name}_pvalue": found[1]}
    elif data.kind == "binary":
        figures |= _classes(gold, (probabilities_NC[:, 0] >= 0.5).astype(int), "binary")
        if len(set(gold.tolist())) == 2:
            figures |= {
                "roc_auc": sk.roc_auc_score(gold, probabilities_NC[:, 0]),
                "pr_auc": sk.average_precision_score(gold, probabilities_NC[:, 0]),
            }
    elif data.kind == "multiclass":
        figures |= _classes(gold, probabilities_NC.argmax(axis=1), "macro")
        ranks = (-probabilities_NC).argsort(axis=1, kind="stable")
        figures |= {f"top{k}_acc": (ranks[:, :k] == gold[:, None]).any(axis=1).mean() for k in TOP if k < len(data.names)}
        present = np.unique(gold)
        one_hot = gold[:, None] == present[None]
        if len(present) > 1:
            figures |= {
                "roc_auc": sk.roc_auc_score(one_hot, probabilities_NC[:, present], average="macro"),
                "pr_auc": sk.average_precision_score(one_hot, probabilities_NC[:, present], average="macro"),
            }
    else:
        chosen = probabilities_NC >= 0.5
        figures |= {name: f(gold, chosen, average="macro", zero_division=0) for name, f in _PRF.items()}
    rounded = {name: figure if name == "n" else round(float(figure), 6) for name, figure in figures.items()}
    if data.kind != "multilabel":
        interval = bootstrap(statistic(metric, answers(data, examples, probabilities_NC)), len(examples), seed=seed)
        rounded["interval"] = {"metric": metric, **interval.as_dict()}
    return rounded


_PRF = {"prec": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def _classes(gold: np.ndarray, predicted: np.ndarray, average: str) -> dict[str, float]:
    figures = {name: f(gold, predicted, average=average, zero_division=0) for name, f in _PRF.items()}
    return {"acc": sk.accuracy_score(gold, predicted), **figures, "mcc": sk.matthews_corrcoef(gold, predicted)}


def _many(data: Data, examples: list[Example]) -> np.ndarray:
    table = np.zeros((len(examples), len(data.names)), dtype=int)
    for i, example in enumerate(examples):
        table[i, example.label] = 1
    return table
