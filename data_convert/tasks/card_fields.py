"""The parts of a task card: where rows come from, what a row holds, what is asked, and what is known about the answers."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from pydantic import Field, field_validator, model_validator

from artefacts.errors import UserError
from artefacts.recipe import Recipe

CHOICE_SEPARATOR = ", "
ITEM_SEPARATOR = "; "
"""Between the items of a multilabel or set answer. Names of GO terms and families hold commas."""
NO_ITEM = "none"
"""The answer of a multilabel row without any label."""


class DataSource(Recipe):
    """Where the data comes from."""

    name: str
    url: str | None = None
    licence: str | None = None


class Files(Recipe):
    """Paths below the source folder, or datasets of the Hub (`hub:owner/name:split`). Where `dev` is absent, dev rows are cut from
    train (mixing.py).

    A path may be a pattern, for several files: `*` stands for any part of a name, `{field}` for a part that becomes a column of the
    file's rows: `train/{class}/*.txt`, `data/train-*.parquet`.
    """

    train: str | None = None
    dev: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Files:
        if not (self.train or self.test):
            raise ValueError("name a train file, a test file, or both")
        return self


class Region(Recipe):
    """A stretch of a genome, as BED has it: `start` counts from 0, `end` is not part of it."""

    genome: str
    """FASTA below the source folder, not compressed."""
    chrom: str = "chrom"
    start: str = "start"
    end: str = "end"
    strand: str | None = None
    """Column of `+`, `-` or `.`; a stretch of `-` is shown as its reverse complement."""
    flank: int = Field(0, ge=0)
    """Letters on either side that are shown too."""

    @property
    def columns(self) -> list[str]:
        return [self.chrom, self.start, self.end, *([self.strand] if self.strand else [])]


class Input(Recipe):
    """One sequence of a row."""

    column: str = "sequence"
    """Column of the letters; of no meaning for FASTA."""
    modality: Literal["dna", "rna", "protein"]
    name: str
    """The field of the prompts that this sequence fills."""
    inside: str | None = None
    """The letters are a part of the cell: the first group of this regular expression."""
    sequences: str | None = None
    """A file below the source folder, FASTA or `id<TAB>letters`; the column then holds an id of it."""
    type_column: str | None = None
    """A column that says `gene` or `prot`; a row where it says something else than the modality is set aside."""
    region: Region | None = None
    """The letters are those of a genome, where these columns say; `column` is then of no meaning."""
    max_letters: int | None = Field(None, ge=1)
    """Instead of the card's, for this input."""

    @property
    def columns(self) -> list[str]:
        """What a row needs for this input."""
        beside = [self.type_column] if self.type_column else []
        return (self.region.columns if self.region is not None else [self.column]) + beside

    @property
    def elsewhere(self) -> bool:
        """Whether the column does not hold the letters themselves."""
        return bool(self.inside or self.sequences or self.region)

    @model_validator(mode="after")
    def _one_place(self) -> Input:
        if self.region is not None and (self.sequences or self.inside or self.modality != "dna"):
            raise ValueError("region is for dna, and goes without sequences and inside")
        return self

    @field_validator("inside")
    @classmethod
    def _expression(cls, inside: str | None) -> str | None:
        try:
            groups = re.compile(inside).groups if inside is not None else 1
        except re.error as error:
            raise ValueError(f"'{inside}' is no regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"'{inside}' needs one group, the letters; found {groups}")
        return inside


class Label(Recipe):
    """One class."""

    name: str
    """What the model reads and answers: the shortest wording that cannot be taken for another."""
    meaning: str

    @field_validator("name")
    @classmethod
    def _listable(cls, name: str) -> str:
        if not name.strip() or name != name.strip() or any(mark in name for mark in ",;"):
            raise ValueError(f"'{name}': a label name is not empty, has no comma or semicolon and no space around it: names are listed")
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

    def points(self) -> list[str]:
        """The answers, ascending, all with the same number of decimals: `['0.00', '0.05', ...]`."""
        low, high, step, decimals = self._decimals()
        return [f"{low + index * step:.{decimals}f}" for index in range(int((high - low) / step) + 1)]

    def nearest(self, value: float) -> str:
        """The answer nearest to a value; of one beyond the grid the end of it. Raises UserError where it is no finite number."""
        if not math.isfinite(value):
            raise UserError(f"{value} is not a finite number")
        low, high, step, decimals = self._decimals()
        inside = min(max(Decimal(repr(float(value))), low), high)
        return f"{low + ((inside - low) / step).to_integral_value(ROUND_HALF_EVEN) * step:.{decimals}f}"

    def _decimals(self) -> tuple[Decimal, Decimal, Decimal, int]:
        low, high, step = (Decimal(str(number)).normalize() for number in (self.low, self.high, self.step))
        return low, high, step, max(0, -min(int(low.as_tuple().exponent), int(step.as_tuple().exponent)))


class Prompts(Recipe):
    """Templates with the fields `{input name}`, `{column}` of the card's `texts`, `{options}`, and, where they are listed, `{choices}`."""

    train: list[str] = Field(min_length=1)
    eval: str


class Published(Recipe):
    """One published figure, in natural scale (MCC in -1..1)."""

    model: str
    metric: str
    value: float
    source: str
    note: str = ""
