"""Metrics of the original under its names, on all records at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.baselines.heads.losses import loss_of
from eval.baselines.training.examples import Data, Example
from eval.judge.answers import statistic
from eval.judge.bootstrap import bootstrap


def selection(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str) -> float:
    """The figure that chooses the epoch."""
    return loss_of(data.kind).selection(data.kind, data.names, [e.label for e in examples], probabilities_NC, metric)


def measure(data: Data, examples: list[Example], probabilities_NC: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
    """All figures, rounded to 6 digits as upstream; `interval` is that of the selection metric."""
    loss, labels = loss_of(data.kind), [example.label for example in examples]
    rounded: dict[str, Any] = {name: round(float(figure), 6) for name, figure in loss.figures(labels, probabilities_NC).items()}
    answers = loss.answers(data.kind, data.names, labels, probabilities_NC)
    if answers is not None:
        rounded["interval"] = {"metric": metric, **bootstrap(statistic(metric, answers), len(examples), seed=seed).as_dict()}
    return {"n": len(examples), **rounded}
