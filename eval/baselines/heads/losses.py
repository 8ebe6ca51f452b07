"""How a head learns and answers, a class for each loss that a kind of answer names (data_convert/tasks/kinds.py).

Shapes: B records of a batch, N all records, C outputs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk
from torch import Tensor

from data_convert.tasks.kinds import KINDS
from eval.baselines.heads.options import LossOptions
from eval.baselines.split import Record, Task, classified, predicted
from eval.judge.answers import Answers, value

FLOOR = 1e-9
"""Least probability whose logarithm is taken."""
TOP = (2, 3, 4, 5, 10)
_PRF = {"prec": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


class Sigmoid:
    """Two classes by one output, the probability of the second."""

    average = "binary"

    def outputs(self, classes: int) -> int:
        """Outputs of the network for this many classes."""
        return 1

    def loss(self, options: LossOptions, logits_BC: Tensor, target: Tensor) -> Tensor:
        """Mean over the records."""
        weight = None if options.pos_weight is None else logits_BC.new_tensor(options.pos_weight)
        return F.binary_cross_entropy_with_logits(logits_BC, target.view(len(logits_BC), -1), pos_weight=weight)

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Of the outputs; values stay as they are."""
        return torch.sigmoid(logits_BC)

    def targets(self, labels: Sequence[Any], outputs: int) -> Tensor:
        """Labels of records as the loss compares them."""
        return torch.tensor(labels, dtype=torch.float32)

    def codes(self, outputs_NC: np.ndarray) -> Any:
        """What is answered: a class of each record, a 0 or 1 for each label, or the value."""
        return (outputs_NC[:, 0] >= 0.5).astype(int)

    def classes(self, outputs_NC: np.ndarray) -> np.ndarray:
        """Probability of each class."""
        return np.concatenate([1 - outputs_NC, outputs_NC], axis=1)

    def reordered(self, outputs_NC: np.ndarray, names: list[str], choices: list[str]) -> np.ndarray:
        """Outputs in the order of `choices`, which are the `names` in another order."""
        return outputs_NC if names == choices else 1 - outputs_NC

    def answers(self, kind: str, names: list[str], labels: Sequence[Any], outputs_NC: np.ndarray) -> Answers | None:
        """Gold and predictions in the form that `eval` scores; None where the original's figures have no interval."""
        said = [names[code] for code in self.codes(outputs_NC)]
        return Answers(kind, names, [names[label] for label in labels], said, np.log(np.maximum(self.classes(outputs_NC), FLOOR)))

    def selection(self, kind: str, names: list[str], labels: Sequence[Any], outputs_NC: np.ndarray, metric: str) -> float:
        """The figure that chooses the epoch."""
        answers = self.answers(kind, names, labels, outputs_NC)
        assert answers is not None
        return value(metric, answers)

    def lines(self, task: Task, outputs_NC: np.ndarray) -> Iterator[Record]:
        """Predictions of the task's test records for `eval score`."""
        return classified(task, np.log(np.maximum(self.classes(outputs_NC), FLOOR)))

    def figures(self, labels: Sequence[Any], outputs_NC: np.ndarray) -> dict[str, float]:
        """Metrics of the original under its names."""
        gold, said = np.array(labels), self.codes(outputs_NC)
        figures = {name: f(gold, said, average=self.average, zero_division=0) for name, f in _PRF.items()}
        figures = {"acc": sk.accuracy_score(gold, said), **figures, "mcc": sk.matthews_corrcoef(gold, said)}
        return figures | self._curves(gold, outputs_NC)

    def _curves(self, gold: np.ndarray, outputs_NC: np.ndarray) -> dict[str, float]:
        if len(set(gold.tolist())) < 2:
            return {}
        return {"roc_auc": sk.roc_auc_score(gold, outputs_NC[:, 0]), "pr_auc": sk.average_precision_score(gold, outputs_NC[:, 0])}


class Softmax(Sigmoid):
    """One of several classes, an output each."""

    average = "macro"

    def outputs(self, classes: int) -> int:
        return classes

    def loss(self, options: LossOptions, logits_BC: Tensor, target: Tensor) -> Tensor:
        """A weighted class counts as one record, where torch would divide by the sum of weights."""
        weights = None if options.class_weights is None else logits_BC.new_tensor(options.class_weights)
        return F.cross_entropy(logits_BC, target, weight=weights, reduction="none").mean()

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return torch.softmax(logits_BC, dim=1)

    def targets(self, labels: Sequence[Any], outputs: int) -> Tensor:
        return torch.tensor(labels)

    def codes(self, outputs_NC: np.ndarray) -> Any:
        return outputs_NC.argmax(axis=1)

    def classes(self, outputs_NC: np.ndarray) -> np.ndarray:
        return outputs_NC

    def reordered(self, outputs_NC: np.ndarray, names: list[str], choices: list[str]) -> np.ndarray:
        return outputs_NC[:, [names.index(choice) for choice in choices]]

    def _curves(self, gold: np.ndarray, outputs_NC: np.ndarray) -> dict[str, float]:
        ranks = (-outputs_NC).argsort(axis=1, kind="stable")
        figures = {f"top{k}_acc": (ranks[:, :k] == gold[:, None]).any(axis=1).mean() for k in TOP if k < outputs_NC.shape[1]}
        present = np.unique(gold)
        one_hot = gold[:, None] == present[None]
        if len(present) > 1:
            figures |= {
                "roc_auc": sk.roc_auc_score(one_hot, outputs_NC[:, present], average="macro"),
                "pr_auc": sk.average_precision_score(one_hot, outputs_NC[:, present], average="macro"),
            }
        return figures


class Sigmoids(Softmax):
    """Any number of several labels, an output each."""

    loss, probabilities = Sigmoid.loss, Sigmoid.probabilities

    def targets(self, labels: Sequence[Any], outputs: int) -> Tensor:
        return torch.from_numpy(_table(labels, outputs)).float()

    def codes(self, outputs_NC: np.ndarray) -> Any:
        return outputs_NC >= 0.5

    def answers(self, kind: str, names: list[str], labels: Sequence[Any], outputs_NC: np.ndarray) -> Answers | None:
        return None

    def selection(self, kind: str, names: list[str], labels: Sequence[Any], outputs_NC: np.ndarray, metric: str) -> float:
        return self.figures(labels, outputs_NC)["f1"]

    def lines(self, task: Task, outputs_NC: np.ndarray) -> Iterator[Record]:
        said = [[name for name, there in zip(task.choices, row, strict=True) if there] for row in self.codes(outputs_NC)]
        return predicted(task, said, [dict(zip(task.choices, row.tolist(), strict=True)) for row in outputs_NC])

    def figures(self, labels: Sequence[Any], outputs_NC: np.ndarray) -> dict[str, float]:
        gold, said = _table(labels, outputs_NC.shape[1]), self.codes(outputs_NC)
        return {name: float(f(gold, said, average="macro", zero_division=0)) for name, f in _PRF.items()}


class Value(Sigmoid):
    """A number."""

    def loss(self, options: LossOptions, logits_BC: Tensor, target: Tensor) -> Tensor:
        return (F.mse_loss if options.regression == "l2" else F.l1_loss)(logits_BC[:, 0], target)

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return logits_BC

    def codes(self, outputs_NC: np.ndarray) -> Any:
        return outputs_NC[:, 0]

    def reordered(self, outputs_NC: np.ndarray, names: list[str], choices: list[str]) -> np.ndarray:
        return outputs_NC

    def answers(self, kind: str, names: list[str], labels: Sequence[Any], outputs_NC: np.ndarray) -> Answers | None:
        return Answers(kind, [], labels, self.codes(outputs_NC).tolist())

    def lines(self, task: Task, outputs_NC: np.ndarray) -> Iterator[Record]:
        return predicted(task, self.codes(outputs_NC).tolist())

    def figures(self, labels: Sequence[Any], outputs_NC: np.ndarray) -> dict[str, float]:
        gold, said = np.array(labels), self.codes(outputs_NC)
        figures = {"mae": sk.mean_absolute_error(gold, said), "mse": sk.mean_squared_error(gold, said), "r2": sk.r2_score(gold, said)}
        varies = np.ptp(gold) > 0 and np.ptp(said) > 0
        for name, test in (("sp", spearmanr), ("ps", pearsonr)):
            found = test(gold, said) if varies else (0.0, 1.0)
            figures |= {f"{name}_statistic": found[0], f"{name}_pvalue": found[1]}
        return figures


LOSSES: dict[str, Sigmoid] = {"sigmoid": Sigmoid(), "softmax": Softmax(), "sigmoids": Sigmoids(), "value": Value()}


def loss_of(kind: str) -> Sigmoid:
    """The loss of a kind of answers that heads have."""
    return LOSSES[KINDS[kind].loss or ""]


def _table(labels: Sequence[Any], outputs: int) -> np.ndarray:
    table = np.zeros((len(labels), outputs), dtype=int)
    for row, codes in enumerate(labels):
        table[row, codes] = 1
    return table
