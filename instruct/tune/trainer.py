"""TRL's trainer on planned rows, with the loss at the output layer that pre-training has."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import TrainingArguments
from trl import SFTConfig, SFTTrainer

from artefacts.errors import ensure
from instruct.tune.recipe import InstructRecipe
from instruct.tune.rows import Rows, collate
from training.checkpoints import WholeCheckpoints
from training.loss import IGNORED, score_in_head, way_for
from training.precision import widen_trained
from training.recipe import shared_arguments


class AnswerTrainer(WholeCheckpoints, SFTTrainer):
    """`SFTTrainer` over `Rows`: one pass over them in order is the whole run, and its checkpoints are whole.

    TRL's own loss scores every position away from Triton (8.5 s a step instead of 0.5 s with 33,600 ids on two CPU cores), knows
    no weights, and fails on single trained rows of the head (`'TrainableTokensWrapper' object has no attribute 'bias'`, TRL 1.16).
    """

    def __init__(self, recipe: InstructRecipe, run: dict[str, Any], rows: Rows, **more: Any) -> None:
        pad = int(more["processing_class"].pad_token_id)
        # TRL takes nothing but a `datasets.Dataset`; the rows then stand in its place
        first = Dataset.from_dict({"input_ids": [rows.encoded.ids[0]], "labels": [rows.encoded.ids[0]]})
        super().__init__(train_dataset=first, data_collator=partial(collate, pad=pad, weighted=rows.weights is not None), **more)
        self.train_dataset = rows
        self.recipe, self.run, self.rows = recipe, run, rows
        self.model_accepts_loss_kwargs = True  # so that labels are counted over the whole step and all ranks
        model: Any = self.model
        if recipe.deepspeed is None:
            widen_trained(model)  # TRL puts what QLoRA trains into bf16
        score_in_head(model.get_base_model() if recipe.train != "all" else model, way_for(recipe.loss, torch.cuda.is_available()))

    @property
    def rows_per_step(self) -> int:
        """Over all ranks."""
        return int(self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.rows)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Labels of the whole step over all ranks, or the sum of their weights."""
        counted = [batch.get("weights", batch["labels"] != IGNORED)[:, 1:].sum() for batch in batch_samples]
        total = torch.stack(counted).sum().float().to(device)
        return self.accelerator.gather(total).sum() if self.args.world_size > 1 else total

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Weighted sum over this pass's labels by the weights of the whole step: any cut of a step into passes and ranks gives the same."""
        assert num_items_in_batch is not None
        ensure(not return_outputs, "outputs are not kept")
        return model(**inputs)["loss"] / num_items_in_batch * self.accelerator.num_processes  # gradients are averaged over ranks

    def position(self) -> dict[str, Any]:
        """Where the run stands, noted in every checkpoint and compared when a run is continued."""
        return {"step": self.state.global_step, "of_task": self.rows.consumed(self.state.global_step * self.rows_per_step)}


def training_arguments(recipe: InstructRecipe, work: Path, steps: int, ranks: int) -> TrainingArguments:
    """TRL's configuration in the names of version 1. The records come ready: nothing is prepared, cut or shuffled by it."""
    return SFTConfig(
        **shared_arguments(recipe, work, ranks),
        max_steps=steps,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        eval_strategy="no",
        disable_tqdm=True,
    )
