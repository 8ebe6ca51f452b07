"""Recipes of the evaluation's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe


class Subject(Recipe):
    """What is evaluated."""

    model: Path
    """Model folder or hub id with a chat template (`merge`); with an endpoint, the name it serves the model under."""
    adapter: Path | None = None
    """PEFT adapter (`instruct`) on that model, left unmerged."""
    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; greedy answers only."""
    concurrency: int = Field(default=8, ge=1)
    """Questions that an endpoint is asked at a time."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Subject:
        if self.adapter is not None and self.endpoint is not None:
            raise ValueError("an endpoint serves what it serves; leave the adapter out, or predict from model and adapter without it")
        return self


class Asking(Recipe):
    """How records are asked."""

    split: str = "test"
    batch_tokens: int = Field(default=8192, ge=1)
    """Tokens per forward pass, padding included."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Longest greedy answer of text tasks; closed label sets take their longest label and a little more."""
    greedy: bool = True
    """Greedy text beside the likelihoods; tasks without a closed set of answers have nothing else and always get it."""
    prune_nats: float | None = Field(default=None, gt=0)
    """Speed for classifications with many labels (more than 32 distinct beginnings): labels that many nats or more below the likeliest
    one are not read to their end, and are given the log-likelihood of their first tokens, which is at least their own. The likeliest
    label is exact; probabilities of C labels are within C exp(-prune_nats) only, and nothing is said per token. 5 is fast, 20 hardly
    prunes. null reads every label."""
    controls: list[Literal["shuffled", "removed", "permuted"]] = []
    """Negative controls to predict too, as `<system>@shuffled` and so on: letters of every sequence in random order, sequences
    removed, label names exchanged."""
    both_strands: bool = False
    """Of tasks whose card says that the answer is the same for both strands (strand_symmetric), ask the reverse complement too; the
    likelihood of a label is then the mean of both. Other tasks are asked as ever."""
    seed: int = 0
    """Draws the controls."""


class PredictRecipe(Asking, Subject):
    """Predict held-out records with a model."""

    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    """Folder for `<system>.jsonl`. What is finished waits in `<out>.partial` until all is."""
    system: str = Field(default="llama-gene", pattern=r"^[\w. +-]+$")
    """Name of this system in tables."""


class RunRecipe(Recipe):
    """Predict with several models, score them together, and write the report."""

    title: str = "Evaluation"
    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    """Folder for predictions/, retention.json, metrics.json and report.html. What is finished there is kept."""
    models: dict[str, Subject]
    """System name -> what answers for it."""
    predictions: list[Path] = []
    """Finished folders of predictions to score beside them: of `eval baselines`, of other runs."""
    predict: Asking = Asking()
    """How the records are asked; the same for all models."""
    calibrate: bool = False
    """Predict dev records too, and fit temperatures on them (`dev` of `eval score`); not for endpoints, which give no likelihoods."""
    english: str | None = "english"
    """Text of configs/text by name, or a path, whose bits per byte are measured too; null for none."""
    score: dict[str, Any] = {}
    """Further fields of `eval score`."""
    report: dict[str, Any] = {}
    """Further fields of `eval report`."""


class RetentionRecipe(Recipe):
    """Measure whether models still read English."""

    models: list[str]
    """Model folders or hub ids, BASE+ADAPTER for an adapter left unmerged; the first is what the others are compared with."""
    out: Path
    """JSON file to write."""
    text: str = "english"
    """Text of configs/text by name, or a path: paragraphs between blank lines."""


class ExportRecipe(Recipe):
    """Write tasks for lm-evaluation-harness."""

    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    """Folder for one YAML and one JSON-lines file per task."""
    model: Path | None = None
    """Model folder or hub id whose chat template closes the answers: without its end-of-turn token a label that begins another
    one is the likelier of the two."""
    split: str = "test"


class ScoreRecipe(Recipe):
    """Score predictions against records, or a file of answers made elsewhere."""

    answers: list[Path] = []
    """Instead of records and predictions: JSON files with instruction, input, output and model_response; plain arguments are these."""
    records: Path | None = None
    """Instruction records (`convert tasks`)."""
    predictions: list[Path] = []
    """One or more folders of `<system>.jsonl`: of `eval predict`, of `eval baselines`. One system in several: several seeds."""
    parts: list[Path] = []
    """Other folders of records that predictions may come from; each of their test records has to stand in `records` as it is."""
    dev: list[Path] = []
    """Folders of predictions of dev records (`eval predict split=dev`) by the same models: a temperature is fitted for each task of
    classes, and calibration stands in metrics.json before and after."""
    out: Path
    """metrics.json to write."""
    reference: str = "llama-gene"
    """System that the others are compared with."""
    seed: int = 0
    """Draws the bootstrap resamples."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ScoreRecipe:
        besides = self.records or self.predictions or self.dev
        if bool(self.answers) == bool(self.records and self.predictions) or (self.answers and besides):
            raise ValueError("give records and predictions, or a file of answers: `eval score answers.json --out metrics.json`")
        return self
