"""Records of a task as training and prediction see them, whatever file they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eval.baselines.embedding.inputs import Item
from eval.baselines.heads.options import HeadKind


@dataclass(frozen=True, slots=True)
class Example:
    """One record."""

    id: str
    inputs: tuple[Item, ...]
    label: Any
    """Class code, list of codes, or number."""
    source: Any = None
    """The record it comes from, where that is an instruction record."""


@dataclass
class Data:
    """A task's records by split."""

    kind: HeadKind
    names: list[str]
    """Class names by code; empty for regression."""
    splits: dict[str, list[Example]]
    ledgers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)
    """Rows that were set aside: reason, place, fields."""
