"""The pre-training recipe and its cross-checks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from artefacts.training import Lora, TrainingRecipe


class Spikes(Recipe):
    """What to do about a step whose loss stands far above those before it."""

    then: Literal["nothing", "skip", "stop"] = "nothing"
    """skip: leave weights and optimiser as they are at that step. A loss that is no number stops the run unless it is skipped."""
    sigmas: float = Field(default=6.0, gt=0)
    """Standard deviations above the mean of the window."""
    window: int = Field(default=128, ge=8)
    """Steps looked back on; nothing is a spike before so many are seen."""


class Mixture(Recipe):
    """Parts of an epoch, by tokens (padding not counted). Without shares, an epoch is every block `most_passes` times, once by default."""

    share: dict[str, float] = {}
    """Modality -> weight; what counts is its part in the sum. Modalities that are not named are left out."""
    most_passes: dict[str, float] = {}
    """Modality -> how often an epoch may go through its blocks at most (default 1). The epoch is as large as these caps allow."""


class Planned(Recipe):
    """What `--dry-run` reckons with where the model or the shards are not there yet, and on which hardware."""

    shape: str | None = None
    """An architecture of configs/shapes, by name."""
    new_ids: int = Field(default=60_000, ge=0)
    """Ids that the extension will add to it."""
    block_tokens: int = Field(default=4096, ge=16)
    tokens: int = Field(default=1_000_000_000, ge=1)
    """Training tokens of an epoch."""
    hardware: str = "H100"
    """A name of pretrain/estimate.py's table."""
    mfu: float = Field(default=0.4, gt=0, le=1)
    """Share of the peak that is assumed. Not measured by us on any GPU."""


class PretrainRecipe(TrainingRecipe):
    """Continued pre-training. Shapes: a step is micro_batch x accumulation x ranks blocks of the shards' block_tokens."""

    model: Path
    """Extended base (`tokenizer extend`)."""
    shards: Path
    """Token shards (`convert pack`) made with that model's tokenizer."""
    out: Path
    """Model folder to write. Checkpoints live in `<out>.checkpoints` until the run is complete."""
    train: Literal["all", "lora", "rows"] = "all"
    """all weights, LoRA adapters, or nothing but rows of the vocabulary matrices (as a first run, before one of the others)."""
    rows: Literal["all", "new", "none"] = "all"
    """Rows of both vocabulary matrices that are trained; new: those the extension added, the others stay bit for bit."""
    lora: Lora = Lora()
    mixture: Mixture = Mixture()
    no_loss_on: list[Literal["N", "tags"]] = []
    """Tokens that are read but not learnt to be written: runs of unknown bases, opening and closing tags."""
    deepspeed: str | None = "zero1"
    """A config of configs/deepspeed by name, or a path; null runs one plain process."""
    nodes: int = Field(default=1, ge=1)
    """Machines; only --dry-run needs to know. The launcher is told by hostfile or Slurm."""
    epochs: float = 1.0
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    batch: int | None = Field(default=None, ge=1)
    """Blocks of a step over all ranks; `accumulation` then follows from it, and is refused where it does not divide."""
    embedding_learning_rate: float | None = Field(default=None, gt=0)
    """Of both vocabulary matrices; null: as everything else."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Not applied to embeddings, head, norms and biases."""
    loss: Literal["auto", "chunked", "liger", "full"] = "auto"
    """How the output layer is scored; auto takes Liger on a GPU where it is installed, else chunks. full makes all logits."""
    attention: Literal["sdpa", "eager", "flex_attention", "flash_attention_2"] = "sdpa"
    spikes: Spikes = Spikes()
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between held-out measurements."""
    heldout_blocks: int = Field(default=32, ge=1)
    """Held-out blocks measured per modality."""
    english: str | None = "english"
    """Fixed text, of configs/text by name or a path, whose bits per byte tell whether the model still reads English; null for none."""
    sample_tokens: int = Field(default=24, ge=0)
    """Tokens generated per modality at every measurement, to be looked at; 0 for none."""
    planned: Planned = Planned()

    @model_validator(mode="after")
    def _check(self) -> PretrainRecipe:
        if self.steps is None and self.epochs <= 0:
            raise ValueError("epochs must be positive when steps is not given")
        if self.train == "rows" and self.rows == "none":
            raise ValueError("train=rows with rows=none trains nothing; set rows=new or rows=all")
        if self.deepspeed is None and self.ranks * self.nodes > 1:
            raise ValueError("more than one rank needs a DeepSpeed config; set deepspeed=zero1")
        if self.batch is not None:
            if self.accumulation != 1:
                raise ValueError("give batch or accumulation, not both: accumulation follows from batch")
            accumulation_of(self, self.ranks * self.nodes)
        return self


def accumulation_of(recipe: PretrainRecipe, ranks: int) -> int:
    """Forward passes per step and rank. Raises ValueError where `batch` does not divide."""
    if recipe.batch is None:
        return recipe.accumulation
    at_once = recipe.micro_batch * ranks
    if recipe.batch % at_once:
        near = max(1, round(recipe.batch / at_once)) * at_once
        raise ValueError(
            f"batch={recipe.batch} is no multiple of micro_batch={recipe.micro_batch} x {ranks} ranks = {at_once}; set batch={near}, "
            "or another micro_batch"
        )
    return recipe.batch // at_once
