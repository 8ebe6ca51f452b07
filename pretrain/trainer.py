"""The trainer of blocks: parameter groups of our own, a guard against spikes, and speed in the log."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import Trainer

from pretrain.optimiser import Guard, GuardedAdamW, parameter_groups
from tokenizer.saving import carry_tokenizer
from training.trainer import RunTrainer


class GeneTrainer(RunTrainer, Trainer):
    """A run over `OrderedBlocks`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.guard = Guard(self.recipe.spikes)
        self.adam: GuardedAdamW | None = None
        self.decays: list[float] = []
        """Weight decay of its groups."""
        self._losses: list[Any] = []  # of this step's forward passes

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """As every run; before the last backward pass of a step, which DeepSpeed follows with its update, the step is judged."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._losses.append(loss.detach())
        if self.accelerator.sync_gradients:
            self._judge()
        return loss

    def _judge(self) -> None:
        """Is the loss of the step a spike?"""
        total = sum(self._losses) / self.accelerator.num_processes
        self._losses = []
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
        lately = (line["loss"] for line in reversed(self.state.log_history) if "loss" in line and self._alike(int(line["step"])))
        before = list(islice(lately, self.recipe.spikes.window))[::-1]
        assert self.adam is not None
        self.adam.skip = self.guard.judge(float(total), before, self.state.global_step + 1)
        if self.adam.skip and self.is_world_process_zero():
            print(f"step {self.state.global_step + 1}: loss {float(total):.3f} is a spike; the step is skipped", flush=True)

    def _alike(self, step: int) -> bool:
        """Whether a step had the kind of loss that this one has."""
        return self.recipe.by_bases(step - 1) == self.recipe.by_bases(self.state.global_step)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To the run's log and all trackers; a training step together with its speed."""
        super().log(logs | self.watch.speed() if "loss" in logs else logs, start_time)

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW of our groups; fused where it runs."""
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))  # type: ignore[arg-type]
            self.adam = GuardedAdamW(
                parameter_groups(self.model, self.recipe, sorted(decayed)),
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                fused=True,
            )
            self.decays = [group["weight_decay"] for group in self.adam.param_groups]
            self.optimizer = self.adam
        return self.optimizer

    def extra_files(self, folder: Path) -> None:
        """The tokenizer, which makes a checkpoint a model folder."""
        carry_tokenizer(self.recipe.model, folder)
