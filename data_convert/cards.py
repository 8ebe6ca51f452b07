"""Task cards: what a benchmark is, as data. Adding a benchmark means adding a card under configs/tasks, not code.

Not supported: several labels per row, labels that depend on the prompt, inputs that are not sequences.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import string
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from artefacts.errors import UserError
from artefacts.recipe import Recipe, load
from configs import CONFIGS

TASKS = CONFIGS / "tasks"
CLASSIFICATION = ("binary", "multiclass")
CLASSIFICATION_METRICS = ("accuracy", "balanced_accuracy", "mcc", "macro_f1", "auroc")
METRICS: dict[str, tuple[str, ...]] = {
    "binary": CLASSIFICATION_METRICS,
    "multiclass": CLASSIFICATION_METRICS,
    "regression": ("spearman", "pearson", "mae"),
    "text": ("exact_match", "rouge_l", "token_f1"),
}
"""Metrics known for each kind of task."""
CHOICE_SEPARATOR = ", "


class DataSource(Recipe):
    """Where the data comes from."""

    name: str
    url: str | None = None
    licence: str | None = None


class Files(Recipe):
    """Paths below the source folder. Where `dev` is absent, dev rows are cut from train (tasks.py)."""

    train: str | None = None
    dev: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Files:
        if not (self.train or self.test):
            raise ValueError("name a train file, a test file, or both")
        return self


class Input(Recipe):
    """One sequence of a row."""

    column: str = "sequence"
    """CSV column; of no meaning for FASTA."""
    modality: Literal["dna", "rna", "protein"]
    name: str
    """The field of the prompts that this sequence fills."""


class Label(Recipe):
    """One class."""

    name: str
    """What the model reads and answers."""
    meaning: str

    @field_validator("name")
    @classmethod
    def _listable(cls, name: str) -> str:
        if not name.strip() or name != name.strip() or CHOICE_SEPARATOR.strip() in name:
            raise ValueError(f"'{name}': a label name is not empty, has no comma and no space around it: names are listed as 'a, b'")
        return name


class Grid(Recipe):
    """Answers of a regression task: low, low + step, ..., high."""

    low: float
    high: float
    step: float = Field(gt=0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Grid:
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        if not low < high or (high - low) % step:
            raise ValueError(f"low must be below high, and high - low a whole number of steps; found {low} to {high} by {step}")
        return self


class Prompts(Recipe):
    """Templates with the fields `{input name}` and, for classification, `{choices}`."""

    train: list[str] = Field(min_length=1)
    eval: str


class Published(Recipe):
    """One published figure, in natural scale (MCC in -1..1)."""

    model: str
    metric: str
    value: float
    source: str
    note: str = ""


class TaskCard(Recipe):
    """One task: files, inputs, what the labels mean and how that is known, prompts, metrics, published figures, traps."""

    id: str
    """Path below configs/tasks, without .yaml."""
    version: int
    """Raised when data, prompts or scoring change, so that figures are compared only where they are comparable."""
    title: str
    simulated: bool
    source: DataSource
    format: Literal["csv", "fasta"]
    """csv: a header row, columns by name. fasta: the header line is the label."""
    files: Files
    split_note: str
    """Which split this is; shown in the report."""
    inputs: list[Input] = Field(min_length=1)
    label: str | None = None
    """CSV column of the label."""
    kind: Literal["binary", "multiclass", "regression", "text"]
    labels: dict[str, Label] = Field(default_factory=dict)
    """Classification: value in the file -> class, in the order in which evaluation lists them."""
    label_evidence: str
    """How the meaning of the labels is known."""
    grid: Grid | None = None
    prompts: Prompts
    metrics: list[str] = Field(min_length=1)
    primary_metric: str
    published: list[Published] = Field(default_factory=list)
    traps: list[str] = Field(default_factory=list)
    max_letters: int = Field(ge=1)
    """Longest input; what happens to longer ones says `crop`."""
    crop: Literal["centre", "refuse"]
    strand_symmetric: bool = False
    """The answer is the same for the reverse complement."""
    n: dict[str, int] = Field(default_factory=dict)
    """Rows per split; filled in by `convert` in the cards.json beside the records, never in a card."""

    @field_validator("labels", mode="before")
    @classmethod
    def _text_keys(cls, labels: Any) -> Any:
        return {str(value): label for value, label in labels.items()} if isinstance(labels, dict) else labels

    @model_validator(mode="after")
    def _fits_together(self) -> TaskCard:
        self._check_answers()
        known = METRICS[self.kind]
        for metric in [*self.metrics, *(figure.metric for figure in self.published)]:
            if metric not in known:
                close = difflib.get_close_matches(metric, known, n=1, cutoff=0.0)[0]
                raise ValueError(f"metric '{metric}' is not known for {self.kind} tasks; did you mean '{close}'? Known: {', '.join(known)}")
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric '{self.primary_metric}' is not among the metrics ({', '.join(self.metrics)})")
        if self.prompts.eval in self.prompts.train:
            raise ValueError("prompts.eval is one of prompts.train; evaluation asks in words that training has not seen")
        for template in [*self.prompts.train, self.prompts.eval]:
            self._check_template(template)
        if self.strand_symmetric and any(item.modality != "dna" for item in self.inputs):
            raise ValueError("strand_symmetric is for tasks whose inputs are all dna")
        return self

    def _check_answers(self) -> None:
        classes = self.kind in CLASSIFICATION
        names = [label.name for label in self.labels.values()]
        if classes and (len(names) < 2 or (self.kind == "binary" and len(names) != 2)):
            raise ValueError(
                f"a {self.kind} task needs {'exactly' if self.kind == 'binary' else 'at least'} two labels; found {len(names)}"
            )
        if not classes and names:
            raise ValueError(f"labels are for classification, not for {self.kind}")
        if len(set(names)) < len(names):
            raise ValueError("two labels have the same name")
        if (self.grid is not None) != (self.kind == "regression"):
            raise ValueError("a regression task needs a grid (low, high, step)" if self.grid is None else f"a grid is not for {self.kind}")
        inputs = [item.name for item in self.inputs]
        if len(set(inputs)) < len(inputs) or "choices" in inputs:
            raise ValueError("inputs need different names, none of them 'choices'")
        if self.format == "csv" and not self.label:
            raise ValueError("label: name the CSV column that holds the label")
        if self.format == "fasta" and (len(inputs) != 1 or self.label):
            raise ValueError("a fasta task has one input, and its header line is the label (no 'label' key)")

    def _check_template(self, template: str) -> None:
        inputs = [item.name for item in self.inputs]
        allowed = [*inputs, "choices"] if self.kind in CLASSIFICATION else inputs
        try:
            parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"prompt '{template}': {error}; write a literal brace twice") from None
        fields = [str(field) for _, field, _, _ in parsed]
        if any(form or conversion for _, _, form, conversion in parsed):
            raise ValueError(f"prompt '{template}': fields are plain names, without ':' or '!'")
        for field in fields:
            if field not in allowed:
                raise ValueError(f"prompt '{template}': unknown field '{{{field}}}'; known here: {', '.join(allowed)}")
        if absent := [name for name in inputs if name not in fields]:
            raise ValueError(f"prompt '{template}': never shows {', '.join(f'{{{name}}}' for name in absent)}")


def load_card(path_or_id: str | Path) -> TaskCard:
    """Read a card by path (`x/y/sim/promoter.yaml`) or by id (`sim/promoter`).

    Raises:
        UserError: no such card (the nearest id is named), a mistake in it, or an id that is not its path.
    """
    path = Path(path_or_id)
    if path.suffix != ".yaml":
        path = TASKS / f"{path_or_id}.yaml"
        if not path.is_file():
            known = _known_ids()
            close = difflib.get_close_matches(str(path_or_id), known, n=1, cutoff=0.5)
            raise UserError(
                f"task '{path_or_id}': no such card; " + (f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}")
            )
    card = load(TaskCard, path)
    stem = path.resolve().with_suffix("")
    if card.n:
        raise UserError(f"{path}: 'n' is counted by the conversion; remove it from the card")
    if stem.parts[-len(Path(card.id).parts) :] != Path(card.id).parts or (stem.is_relative_to(TASKS) and stem != TASKS / card.id):
        raise UserError(f"{path}: its id '{card.id}' is not its path; rename the file or write the id as the path below configs/tasks")
    return card


def find_cards(patterns: Sequence[str]) -> list[TaskCard]:
    """Cards whose ids match any of the patterns (`gue/*`), each once, sorted by id.

    Raises:
        UserError: a pattern that matches nothing, or a mistake in a card.
    """
    known = _known_ids()
    found: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            raise UserError(f"task pattern '{pattern}' matches no card; known: {', '.join(known)}")
        found.update(matches)
    return [load_card(name) for name in sorted(found)]


def read_cards(folder: str | Path) -> list[TaskCard]:
    """The resolved cards (effective files, split note, rows per split) beside a folder of records.

    Raises:
        UserError: no cards.json, or one of another version of the card format.
    """
    path = Path(folder) / "cards.json"
    if not path.is_file():
        raise UserError(f"{folder}: no cards.json, so these are no converted tasks; run `llama-gene convert tasks` first")
    try:
        return TypeAdapter(list[TaskCard]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; convert the tasks again") from None


def _known_ids() -> list[str]:
    return sorted(path.relative_to(TASKS).with_suffix("").as_posix() for path in TASKS.rglob("*.yaml"))
