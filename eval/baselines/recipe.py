"""Recipe of the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from artefacts.recipe import Recipe

System = Literal["majority", "kmer", "nearest", "luca_base"]


class LucaOptions(Recipe):
    """Training of the LucaBase head. LucaOne's own scripts: 50 epochs, batch 16, learning rate 1e-4, warm-up 100 or 1000 steps."""

    epochs: int = 10
    learning_rate: float = 1e-3
    batch: int = 32
    """Sequences per step."""
    warmup_share: float = 0.05
    """Share of all steps over which the learning rate rises; it falls to 0 over the rest."""
    weight_decay: float = 0.01
    """None on biases."""
    dropout: float = 0.1
    max_train: int = 2000
    """Train records per task; more are sampled by the seed. All embeddings of a task are held in memory."""
    max_dev: int = 500
    """Dev records per task that choose the epoch."""
    batch_tokens: int = 8192
    """Tokens per batch of the frozen encoder, padding included."""


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
    encoder: Path | None = None
    """Model folder whose frozen last hidden state luca_base reads."""
    kmer_max_train: int = 50_000
    """Train records per task for kmer; more are sampled by the seed."""
    luca: LucaOptions = LucaOptions()
    seed: int = 0

    @model_validator(mode="after")
    def _encoder_given(self) -> BaselinesRecipe:
        if "luca_base" in self.systems and self.encoder is None:
            raise ValueError("luca_base reads embeddings: pass encoder=MODEL_FOLDER, or leave it out of systems")
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError("systems: name at least one, each once")
        return self
