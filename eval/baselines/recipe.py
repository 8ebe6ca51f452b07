"""Recipe of the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from eval.baselines.training.recipe import Schedule

System = Literal["majority", "kmer", "nearest", "luca_base"]


class LucaOptions(Schedule):
    """Training of LucaOne's heads. Its own scripts: 50 epochs, batch 16, learning rate 1e-4, warm-up 100 or 1000 steps."""

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0)
    batch: int = Field(default=32, ge=1)
    dropout: float = 0.1
    max_train: int = 2000
    """Train records per task; more are sampled by the seed."""
    max_dev: int = 500
    """Dev records per task that choose the epoch."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a batch, padding included; null: 8192 on a GPU, 1024 on the CPU, whose caches hold no more."""


class BaselinesRecipe(Recipe):
    """Baselines on every task that has test records."""

    records: Path
    """Folder of instruction records; baselines read its labels and sequences, never its prompts."""
    out: Path
    """Folder of predictions to write, one file per system."""
    systems: list[System] = ["majority", "kmer", "nearest"]
    """luca_base needs `encoder`."""
    search: Literal["builtin", "mmseqs"] = "builtin"
    """What finds the nearest training sequence; mmseqs needs the program on PATH."""
    encoder: str | None = None
    """What luca_base reads: folder or hub id of a model (its frozen last hidden state), or one-hot, kmer or placed."""
    kmer_max_train: int = 50_000
    """Train records per task for kmer; more are sampled by the seed."""
    luca: LucaOptions = LucaOptions()
    seed: int = 0

    @model_validator(mode="after")
    def _encoder_given(self) -> BaselinesRecipe:
        if "luca_base" in self.systems and self.encoder is None:
            raise ValueError("luca_base reads embeddings: pass encoder=FOLDER (a hub id, one-hot, kmer, placed) or leave it out of systems")
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError("systems: name at least one, each once")
        return self
