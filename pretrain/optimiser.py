"""AdamW with groups of its own for embeddings, and a guard against spikes of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from artefacts.errors import UserError
from pretrain.recipe import PretrainRecipe, Spikes
from training.model import is_vocabulary


def parameter_groups(model: Any, recipe: PretrainRecipe, decayed: Sequence[str]) -> list[dict[str, Any]]:
    """Trainable parameters in three groups: with weight decay, without (norms, biases), and the vocabulary matrices.

    The vocabulary has no decay: rare pieces would shrink towards zero between their uses, and rows that are not trained
    would not stay as they are. It may have a learning rate of its own.

    Args:
        decayed: names that the trainer would decay.
    """
    parts: dict[str, list[Any]] = {"decayed": [], "plain": [], "vocabulary": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kind = "decayed" if name in decayed else "plain"
        parts["vocabulary" if is_vocabulary(name) else kind].append(parameter)
    rate = recipe.embedding_learning_rate or recipe.learning_rate
    found = [
        {"params": parts["decayed"], "weight_decay": recipe.weight_decay, "lr": recipe.learning_rate},
        {"params": parts["plain"], "weight_decay": 0.0, "lr": recipe.learning_rate},
        {"params": parts["vocabulary"], "weight_decay": 0.0, "lr": rate},
    ]
    return [group for group in found if group["params"]]


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that leaves weights and moments as they are at a step marked `skip`. DeepSpeed calls `step` several times a step."""

    skip = False

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update, or none."""
        return None if self.skip else super().step(closure)


class Guard:
    """Judges the loss of a step by those before it, before the optimiser moves."""

    def __init__(self, recipe: Spikes) -> None:
        self.recipe = recipe

    def is_spike(self, loss: float, before: Sequence[float]) -> bool:
        """True above `sigmas` standard deviations over the mean of the window, or where the loss is no number."""
        if not math.isfinite(loss):
            return True
        window = [value for value in before[-self.recipe.window :] if math.isfinite(value)]
        if self.recipe.then == "nothing" or len(window) < self.recipe.window:
            return False
        mean = sum(window) / len(window)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in window) / len(window))
        return loss > mean + self.recipe.sigmas * deviation

    def judge(self, loss: float, before: Sequence[float], step: int) -> bool:
        """Whether to skip this step.

        Raises:
            UserError: the recipe says stop, or the loss is no number and the recipe does not skip.
        """
        if not self.is_spike(loss, before):
            return False
        if self.recipe.then == "skip":
            return True
        what = f"stands far above the {self.recipe.window} before it" if math.isfinite(loss) else "is no number"
        raise UserError(
            f"step {step}: the loss, {loss:.4g}, {what}; the last checkpoint is kept. Look at the data of that step, lower "
            "learning_rate, or go on with spikes.then=skip"
        )
