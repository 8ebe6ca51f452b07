"""Losses of the downstream tasks, and from logits to probabilities. Shapes: B records, C outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.baselines.training.recipe import LossOptions


class Loss(LossOptions):
    """The loss of a task."""

    def outputs(self, classes: int) -> int:
        """Outputs of the network for this many classes."""
        return 1 if self.kind in ("binary", "regression") else classes

    def __call__(self, logits_BC: Tensor, target: Tensor) -> Tensor:
        """Mean over the records: a weighted class counts as one record, where torch would divide by the sum of weights."""
        if self.kind == "multiclass":
            weights = None if self.class_weights is None else logits_BC.new_tensor(self.class_weights)
            return F.cross_entropy(logits_BC, target, weight=weights, reduction="none").mean()
        if self.kind == "regression":
            return (F.mse_loss if self.regression == "l2" else F.l1_loss)(logits_BC[:, 0], target)
        weight = None if self.pos_weight is None else logits_BC.new_tensor(self.pos_weight)
        return F.binary_cross_entropy_with_logits(logits_BC, target.view(len(logits_BC), -1), pos_weight=weight)

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Sigmoid, softmax, or the values as they are."""
        if self.kind == "regression":
            return logits_BC
        return torch.softmax(logits_BC, dim=1) if self.kind == "multiclass" else torch.sigmoid(logits_BC)
