"""What both training stages ask of a recipe, and how it reads in the names of transformers 5."""

from __future__ import annotations

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


class TrainingRecipe(Recipe):
    """Optimiser, batch, checkpoints and log: the fields that `pretrain` and `instruct` share."""

    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps."""
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0)
    micro_batch: int = Field(8, ge=1)
    accumulation: int = Field(1, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    ranks: int = Field(1, ge=1)
    """Processes on this machine (GPUs, or CPU ranks over gloo)."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = []
    """Trackers that get every log line; their packages are yours to install."""
    log_every: int = Field(10, ge=1)
    save_every: int = Field(200, ge=1)
    keep_checkpoints: int = Field(2, ge=2)
    """Newest checkpoints kept; with one alone, the only complete checkpoint would be at risk while the next is written."""
    seed: int = 0

    @model_validator(mode="after")
    def _trackers_are_there(self) -> TrainingRecipe:
        import importlib.util

        for name in self.report_to:
            found = importlib.util.find_spec(TRACKERS[name]) or (name == "tensorboard" and importlib.util.find_spec("tensorboardX"))
            if not found:
                raise ValueError(f"report_to={name}: that package is not installed; `pip install {TRACKERS[name]}`, or leave it out")
        return self


def shared_arguments(recipe: TrainingRecipe, work: Path, deepspeed: Path | None) -> dict[str, Any]:
    """Keywords of `TrainingArguments` for the shared fields. Checkpoints go to `work`."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.gradient_clip,
        "bf16": recipe.precision == "bf16",
        "activation_checkpointing": recipe.activation_checkpointing,
        "logging_steps": recipe.log_every,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "save_total_limit": recipe.keep_checkpoints,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": not gpu,
        "deepspeed": str(deepspeed) if deepspeed is not None else None,
        "dataloader_pin_memory": gpu,
        "report_to": recipe.report_to or "none",
        "run_name": recipe.out.name,  # type: ignore[attr-defined]
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
