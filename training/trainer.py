"""What both stages ask of the Hugging Face `Trainer`: planned rows in order, one loss for a whole step, whole checkpoints."""

from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback

from artefacts.errors import ensure
from training.checkpoints import WholeCheckpoints
from training.loss import IGNORED
from training.model import score_and_widen
from training.recipe import TrainingRecipe


class RunTrainer(WholeCheckpoints):
    """Mixin for a `Trainer`: one pass over the rows, in order, is the whole run."""

    merged = True
    """Whether adapters go into the weights at the end (see `load_model`)."""

    recipe: Any
    adam: Any = None
    """The optimiser itself, which DeepSpeed and accelerate wrap."""
    decays: list[float]
    """Weight decay of its groups."""

    def __init__(
        self, recipe: TrainingRecipe, run: dict[str, Any], rows: Any, watch: Any = None, tokenizer: Any = None, **more: Any
    ) -> None:
        """
        Args:
            run: what two parts of one run must share (`settings`).
            rows: a dataset of the rows of the whole run, in order, with `collate(rows)` and `position(count)`: what was
                read when so many rows were trained.
            tokenizer: for trainers that ask for it.
        """
        super().__init__(data_collator=rows.collate, **{"train_dataset": rows, **more})
        self.recipe, self.run, self.rows, self.watch, self.train_dataset = recipe, run, rows, watch, rows
        self.spread = recipe.fsdp
        self.model_accepts_loss_kwargs = True  # so that labels are counted over the whole step and all ranks
        self.remove_callback(PrinterCallback)
        score_and_widen(self.model, recipe, self.merged)

    def create_optimizer(self, model: Any = None) -> Any:
        """As transformers makes it, or the stage; groups without a parameter (adapters have no norms) are none to reload by name."""
        if self.adam is None:
            self.adam = super().create_optimizer(model)
            self.adam.param_groups[:] = [group for group in self.adam.param_groups if group["params"]]
            self.decays = [group["weight_decay"] for group in self.adam.param_groups]
        return self.optimizer

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
        ensure(not return_outputs and num_items_in_batch is not None, "a loss over part of a step, or with outputs")
        total = model(**inputs, bases=self.recipe.by_bases(self.state.global_step))["loss"]
        return total / num_items_in_batch * self.accelerator.num_processes  # gradients are averaged over ranks

    def position(self, step: int) -> dict[str, Any]:
        """How far the rows are read after so many steps."""
        return {"step": step, **self.rows.position(step * self.rows_per_step)}
