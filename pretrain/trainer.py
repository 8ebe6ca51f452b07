"""The Hugging Face `Trainer` with our order of blocks, our loss, our parameter groups and our checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from pretrain.optimiser import Guard, GuardedAdamW, parameter_groups
from pretrain.order import OrderedBlocks
from pretrain.recipe import PretrainRecipe
from tokenizer.saving import carry_tokenizer
from training.checkpoints import WholeCheckpoints
from training.launch import deepspeed_config
from training.recipe import shared_arguments


class GeneTrainer(WholeCheckpoints, Trainer):
    """A run over `OrderedBlocks`: one pass over them in order is the whole run."""

    def __init__(self, recipe: PretrainRecipe, run: dict[str, Any], **more: Any) -> None:
        super().__init__(**more)
        self.recipe, self.run = recipe, run
        self.guard = Guard(recipe.spikes)
        self.skipped: list[int] = []
        """Steps left out because of a spike, since this process began."""
        self.model_accepts_loss_kwargs = True  # so that labels are counted over the whole step and all ranks
        self.adam: GuardedAdamW | None = None
        self.decays: list[float] = []
        """Weight decay of its groups."""
        self.speed: Callable[[], dict[str, float]] = dict
        """What is to be logged of the last step's speed."""
        self._losses: list[Any] = []  # of this step's forward passes

    @property
    def blocks(self) -> OrderedBlocks:
        assert isinstance(self.train_dataset, OrderedBlocks)
        return self.train_dataset

    @property
    def blocks_per_step(self) -> int:
        """Over all ranks."""
        return int(self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.blocks)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Sum over this pass's labels, divided by the labels of the whole step: any cut of a batch into passes and ranks gives the same."""
        assert num_items_in_batch is not None
        loss = model(**inputs)["loss"] / num_items_in_batch * self.accelerator.num_processes  # gradients are averaged over ranks
        self._losses.append(loss.detach())
        if self.accelerator.sync_gradients:
            self._judge()
        return loss

    def _judge(self) -> None:
        """Before the last backward pass of a step, which DeepSpeed follows with its update: is the loss of the step a spike?"""
        total = sum(self._losses) / self.accelerator.num_processes
        self._losses = []
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
        lately = (line["loss"] for line in reversed(self.state.log_history) if "loss" in line)
        before = list(islice(lately, self.recipe.spikes.window))[::-1]
        assert self.adam is not None
        self.adam.skip = self.guard.judge(float(total), before, self.state.global_step + 1)
        if self.adam.skip:
            self.skipped.append(self.state.global_step + 1)
            if self.is_world_process_zero():
                print(f"step {self.state.global_step + 1}: loss {float(total):.3f} is a spike; the step is skipped", flush=True)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To the run's log and all trackers; a training step together with its speed."""
        super().log(logs | self.speed() if "loss" in logs else logs, start_time)

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

    def position(self) -> dict[str, Any]:
        """Where the run stands in its list of blocks, noted in every checkpoint and compared when a run is continued."""
        blocks = self.state.global_step * self.blocks_per_step
        return {"step": self.state.global_step, "blocks": blocks, "of_modality": self.blocks.order.consumed(blocks)}

    def extra_files(self, folder: Path) -> None:
        """The tokenizer, which makes a checkpoint a model folder."""
        carry_tokenizer(self.recipe.model, folder)


def training_arguments(recipe: PretrainRecipe, work: Path, steps: int, ranks: int, universal: bool = False) -> TrainingArguments:
    """TrainingArguments in transformers 5's names. `universal`: the checkpoint is of another number of ranks."""
    shared = shared_arguments(recipe, work, ranks)
    if universal and recipe.deepspeed is not None:
        config = json.loads(deepspeed_config(recipe.deepspeed).read_text(encoding="utf-8"))
        shared["deepspeed"] = {**config, "checkpoint": {"load_universal": True}}
    return TrainingArguments(**shared, max_steps=steps, remove_unused_columns=False, disable_tqdm=True)
