"""Recipes of the evaluation's commands."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

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
    """Score predictions against records, or a file of answers made elsewhere."""

    answers: list[Path] = []
    """Instead of records and predictions: JSON files with instruction, input, output and model_response; plain arguments are these."""
    records: Path | None = None
    """Instruction records (`convert tasks`)."""
    predictions: list[Path] = []
    """One or more folders of `<system>.jsonl`: of `eval predict`, of `eval baselines`. One system in several: several seeds."""
    out: Path
    """metrics.json to write."""
    reference: str = "llama-gene"
    """System that the others are compared with."""
    seed: int = 0
    """Draws the bootstrap resamples."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ScoreRecipe:
        if bool(self.answers) == bool(self.records and self.predictions) or (self.answers and (self.records or self.predictions)):
            raise ValueError("give records and predictions, or a file of answers: `eval score answers.json --out metrics.json`")
        return self
