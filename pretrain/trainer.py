"""The trainer of blocks: parameter groups of our own, a guard against spikes, and speed in the log."""

import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer

from artefacts.errors import UserError
from pretrain.recipe import PretrainRecipe, Spikes
from pretrain.stages import by_stages, theta_at, turn
from tokenizer.saving import carry_tokenizer
from training.model import NO_ADAPTER, is_vocabulary
from training.trainer import RunTrainer


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


class GeneTrainer(RunTrainer, Trainer):
    """A run over `OrderedBlocks`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.guard = Guard(self.recipe.spikes)
        self._losses: list[Any] = []  # of this step's forward passes
        self._stage = -1

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """As every run; before the last backward pass of a step, which DeepSpeed follows with its update, the step is judged."""
        self._enter_stage()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._losses.append(loss.detach())
        if self.accelerator.sync_gradients:
            self._judge()
        return loss

    def _enter_stage(self) -> None:
        """Turn the model to the rotary base of the stage that begins, or that a continued run is in."""
        stage, begun = self.recipe.stage_at(self.state.global_step), self._stage
        if stage == begun:
            return
        self._stage = stage
        if theta := theta_at(self.recipe, stage):
            model: Any = self.model
            base = model if self.recipe.train in NO_ADAPTER else model.get_base_model()
            turn(base, theta, self.rows.stretches[stage].block_tokens)

    def _judge(self) -> None:
        """Is the loss of the step a spike?"""
        total = sum(self._losses) / self.accelerator.num_processes
        self._losses = []
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
        lately = (line["loss"] for line in reversed(self.state.log_history) if "loss" in line and self._alike(int(line["step"])))
        before = list(islice(lately, self.recipe.spikes.window))[::-1]
        self.adam.skip = self.guard.judge(float(total), before, self.state.global_step + 1)
        if self.adam.skip and self.is_world_process_zero():
            print(f"step {self.state.global_step + 1}: loss {float(total):.3f} is a spike; the step is skipped", flush=True)

    def _alike(self, step: int) -> bool:
        """Whether a step was in the stage that this one is in, and had its kind of loss."""
        kinds = [(self.recipe.stage_at(done), self.recipe.by_bases(done)) for done in (step - 1, self.state.global_step)]
        return kinds[0] == kinds[1]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To the run's log and all trackers; a training step together with its speed."""
        super().log(logs | self.watch.speed() if "loss" in logs else logs, start_time)

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW of our groups; fused where it runs."""
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))  # type: ignore[arg-type]
            self.optimizer = GuardedAdamW(
                parameter_groups(self.model, self.recipe, sorted(decayed)),
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                fused=True,
            )
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """That of every run, with the rates of the stages."""
        if self.lr_scheduler is None:
            self.lr_scheduler = by_stages(super().create_scheduler(num_training_steps, optimizer), self.recipe)  # type: ignore[arg-type]
        return self.lr_scheduler

    def extra_files(self, folder: Path) -> None:
        """The tokenizer, which makes a checkpoint a model folder."""
        carry_tokenizer(self.recipe.model, folder)
