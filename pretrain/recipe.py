"""The pre-training recipe and its cross-checks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from artefacts.recipe import Recipe


class PretrainRecipe(Recipe):
    """Continued pre-training. Shapes: a step is micro_batch x accumulation x ranks blocks of the shards' block_tokens."""

    model: Path
    """Extended base (`tokenizer extend`)."""
    shards: Path
    """Token shards (`convert pack`) made with that model's tokenizer."""
    out: Path
    """Model folder to write. Checkpoints live in `<out>.checkpoints` until the run is complete."""
    deepspeed: str = "zero1"
    """A config of configs/deepspeed by name, or a path."""
    ranks: int = 1
    """Processes on this machine (GPUs, or CPU ranks over gloo)."""
    epochs: float = 1.0
    steps: int | None = None
    """Optimiser steps; overrides `epochs`."""
    micro_batch: int = 8
    """Blocks per rank and forward pass."""
    accumulation: int = 1
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = 0.05
    """Share of the steps."""
    weight_decay: float = 0.01
    """Not applied to embeddings, head, norms and biases."""
    gradient_clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    log_every: int = 10
    evaluate_every: int = 50
    """Steps between held-out measurements."""
    heldout_blocks: int = 32
    """Held-out blocks measured per modality."""
    save_every: int = 200
    keep_checkpoints: int = 2
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> PretrainRecipe:
        if self.keep_checkpoints == 1:
            raise ValueError("keep_checkpoints=1 would delete the only complete checkpoint while the next is written; use 2 or more")
        if self.steps is None and self.epochs <= 0:
            raise ValueError("epochs must be positive when steps is not given")
        if not 0 <= self.warmup < 1:
            raise ValueError("warmup is a share of the steps: 0 <= warmup < 1")
        return self
