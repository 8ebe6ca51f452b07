"""What both training stages ask of a recipe, and how it reads in the names of transformers 5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from artefacts.errors import UserError
from artefacts.recipe import Recipe

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
"""`report_to` -> the package it needs."""


class Lora(Recipe):
    """Adapters on the projections; merged into the weights at the end."""

    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

    @model_validator(mode="after")
    def _check(self) -> Lora:
        vocabulary = sorted({"embed_tokens", "lm_head"} & set(self.targets))
        if vocabulary:
            raise ValueError(f"targets: {', '.join(vocabulary)} cannot be adapted and trained at once; `rows` says how they are trained")
        return self


class Planned(Recipe):
    """What `--dry-run` computes with where the model or the shards are not there yet, and on which hardware."""

    shape: str | None = None
    """An architecture of configs/shapes, by name."""
    new_ids: int = Field(default=60_000, ge=0)
    """Ids that the extension will add to it."""
    block_tokens: int = Field(default=4096, ge=16)
    tokens: int = Field(default=1_000_000_000, ge=1)
    """Training tokens of an epoch."""
    hardware: str = "H100"
    """A name of training/estimate.py's table."""
    mfu: float = Field(default=0.4, gt=0, le=1)
    """Share of the peak that is assumed. Not measured by us on any GPU."""


class TrainingRecipe(Recipe):
    """Optimiser, batch, checkpoints and log: the fields that `pretrain` and `instruct` share."""

    model: Path
    out: Path
    train: str
    """What is trained."""
    rows: Literal["all", "new", "none"] = "all"
    """Rows of both vocabulary matrices that are trained; new: those the extension added, the others stay bit for bit."""
    lora: Lora = Lora()
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup", "warmup_stable_decay"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps."""
    decay: float = Field(0.2, gt=0, lt=1)
    """Share of the steps, the last ones, in which the rate of warmup_stable_decay falls to zero, in a straight line."""
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0)
    micro_batch: int = Field(8, ge=1)
    accumulation: int = Field(1, ge=1)
    batch: int | None = Field(default=None, ge=1)
    """Rows of a step over all ranks; `accumulation` then follows from it, and is refused where it does not divide."""
    epochs: float = 1.0
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    loss: Literal["auto", "chunked", "liger", "full", "bases"] = "auto"
    """How the output layer is scored; auto takes Liger on a GPU where it is installed, else chunks. full makes all logits.
    bases scores each letter of a k-mer by itself, in chunks, for a vocabulary that has k-mers; all else as auto."""
    bases_from: int | None = Field(default=None, ge=1)
    """With loss=bases: optimiser steps by cross-entropy before it; null: none."""
    attention: Literal["sdpa", "eager", "flex_attention", "flash_attention_2"] = "sdpa"
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    ranks: int = Field(1, ge=1)
    """Processes on this machine (GPUs, or CPU ranks over gloo)."""
    nodes: int = Field(default=1, ge=1)
    """Machines; only --dry-run needs to know. The launcher is told by hostfile or Slurm."""
    deepspeed: str | None = None
    """A config of configs/deepspeed by name, or a path; null runs one plain process."""
    fsdp: bool = False
    """Spread weights, gradients and optimiser over the ranks by PyTorch's FSDP2 instead of DeepSpeed, whose config is then null."""
    compile: Literal["inductor", "aot_eager"] | None = None
    """Compile the feed-forward part and the norms of every layer by this backend of `torch.compile`: inductor for speed (minutes at the
    start on a CPU, by g++), aot_eager to look for faults. Attention and loss have kernels of their own."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Trackers that get every log line; their packages are yours to install."""
    log_every: int = Field(10, ge=1)
    save_every: int = Field(200, ge=1)
    keep_checkpoints: int = Field(2, ge=2)
    """Newest checkpoints kept; with one alone, the only complete checkpoint would be at risk while the next is written."""
    seed: int = 0
    planned: Planned = Planned()

    @property
    def launched(self) -> bool:
        """Whether ranks train it, even one, that a launcher starts; else this process does."""
        return self.deepspeed is not None or self.fsdp

    @property
    def work(self) -> Path:
        """The folder of the run's checkpoints, beside its output."""
        return self.out.with_name(self.out.name + ".checkpoints")

    def by_bases(self, step: int) -> bool:
        """Whether k-mers are scored by their letters once so many steps are done: known from the step alone, after a stop too."""
        return self.loss == "bases" and step >= (self.bases_from or 0)

    @property
    def planned_steps(self) -> int | None:
        """Optimiser steps, where the recipe alone says how many."""
        return self.steps

    @property
    def scores_bases(self) -> bool:
        """Whether k-mers are scored by their letters at some step."""
        return self.loss == "bases"

    def schedule_options(self, steps: int) -> dict[str, Any]:
        """What transformers' scheduler of this name is told beside warm-up and steps."""
        if self.schedule != "warmup_stable_decay":
            return {}
        return {"num_decay_steps": self.decay_steps(steps), "decay_type": "linear"}

    def decay_steps(self, steps: int) -> int:
        """The last steps of a run, in which the rate falls."""
        return max(1, round(self.decay * steps))

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingRecipe:
        if self.schedule == "warmup_stable_decay" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup={self.warmup} and decay={self.decay} are more than the whole run; lower one of them")
        if self.bases_from is not None and self.loss != "bases":
            raise ValueError(f"bases_from says when loss=bases begins, and loss is {self.loss}; set loss=bases, or leave bases_from out")
        if self.steps is None and self.epochs <= 0:
            raise ValueError("epochs must be positive when steps is not given")
        if not self.launched and self.ranks * self.nodes > 1:
            raise ValueError("more than one rank needs a DeepSpeed config or FSDP2; set deepspeed=zero1 or fsdp=true")
        if self.fsdp and self.deepspeed is not None:
            raise ValueError(f"fsdp takes the place of DeepSpeed, and deepspeed is {self.deepspeed}; set deepspeed=null or fsdp=false")
        if self.fsdp and self.train not in ("all", "rows") and (self.train != "lora" or self.rows != "none"):
            raise ValueError(
                f"fsdp spreads weights that cannot be copied or quantised: train={self.train} with rows={self.rows} needs "
                "DeepSpeed (deepspeed=zero2); fsdp takes train=all, train=rows, and train=lora with rows=none"
            )
        if self.batch is not None:
            if self.accumulation != 1:
                raise ValueError("give batch or accumulation, not both: accumulation follows from batch")
            accumulation_of(self, self.ranks * self.nodes)
        return self

    @model_validator(mode="after")
    def _trackers_are_there(self) -> TrainingRecipe:
        import importlib.util

        for name in self.report_to:
            found = importlib.util.find_spec(TRACKERS[name]) or (name == "tensorboard" and importlib.util.find_spec("tensorboardX"))
            if not found:
                raise ValueError(f"report_to={name}: that package is not installed; `pip install {TRACKERS[name]}`, or leave it out")
        return self


def accumulation_of(recipe: TrainingRecipe, ranks: int) -> int:
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


def shared_arguments(recipe: TrainingRecipe, steps: int, ranks: int) -> dict[str, Any]:
    """Keywords of `TrainingArguments`, in transformers 5's names, for a run of so many steps."""
    import torch

    from training.launch import deepspeed_config

    gpu = torch.cuda.is_available()
    out = recipe.out
    # by default it would lie among the checkpoints, which go when the run is complete
    if "tensorboard" in recipe.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out.with_name(out.name + ".tensorboard")))
    return {
        "output_dir": str(recipe.work),
        "max_steps": steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": accumulation_of(recipe, ranks),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "lr_scheduler_kwargs": recipe.schedule_options(steps),
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.gradient_clip,
        "bf16": recipe.precision == "bf16",
        "activation_checkpointing": recipe.activation_checkpointing,
        # checkpoints carry the loss of every step: of a mean over several, a stop would lose a part
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would write another number where the loss is none
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "save_total_limit": recipe.keep_checkpoints,
        "save_only_model": recipe.fsdp,  # the rest is saved by training/checkpoints.py
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": not gpu,
        "deepspeed": str(deepspeed_config(recipe.deepspeed)) if recipe.deepspeed is not None else None,
        "dataloader_pin_memory": gpu,
        "report_to": recipe.report_to or "none",
        "run_name": out.name,
        "project": "llama-gene",
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }


def check_precision(precision: str, capability: tuple[int, int] | None) -> None:
    """Refuse bf16 on a GPU that would only imitate it. `capability`: as CUDA numbers it; None: no GPU.

    A CPU without bf16 instructions computes it too, slowly and correctly: the debug size may be tried there.
    """
    if precision == "bf16" and capability is not None and capability < (8, 0):
        raise UserError(
            f"precision=bf16: this GPU (compute capability {capability[0]}.{capability[1]}) has no bf16, which begins with 8.0 (A100, L20, "
            "RTX 30); use precision=fp32"
        )


def check_hardware(precision: str) -> None:
    """Refuse bf16 on a GPU without it."""
    import torch

    check_precision(precision, torch.cuda.get_device_capability() if torch.cuda.is_available() else None)


def check_rows(rows: int, ids: int, path: Path) -> None:
    """Refuse a model that has fewer embedding rows than its tokenizer has ids; training never resizes, and ZeRO-3 could not."""
    if rows < ids:
        raise UserError(
            f"{path}: {rows} embedding rows for {ids} ids; extend it with `llama-gene tokenizer extend` first: nothing is resized "
            "while training, and under ZeRO-3 it could not be"
        )
