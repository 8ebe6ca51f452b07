"""Recipes of the evaluation's commands."""

from __future__ import annotations

from pathlib import Path

from artefacts.recipe import Recipe


class PredictRecipe(Recipe):
    """Predict held-out records with a model."""

    model: Path
    """Model folder with a chat template (`merge`)."""
    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    system: str = "llama-gene"
    """Name of this system in tables."""
    split: str = "test"
    batch_tokens: int = 8192
    """Tokens per forward pass, padding included."""
    max_new_tokens: int = 48
    """Longest greedy answer of text tasks; closed label sets take their longest label and a little more."""


class ScoreRecipe(Recipe):
    """Score predictions against records."""

    records: Path
    """Instruction records (`convert tasks`)."""
    predictions: list[Path]
    """One or more folders of `<system>.jsonl`: of `eval predict`, of `eval baselines`."""
    out: Path
    """metrics.json to write."""
    seed: int = 0
    """Draws the bootstrap resamples."""
