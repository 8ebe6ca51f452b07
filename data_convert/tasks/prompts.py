"""The one prompt renderer: training, chat and evaluation write exactly the same characters."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from artefacts.errors import UserError
from data_convert.tasks.card_fields import CHOICE_SEPARATOR, CLASSIFICATION, Grid
from data_convert.tasks.cards import TaskCard
from sequences.alphabets import ALPHABETS


def render(card: TaskCard, inputs: Mapping[str, str], template: str, rng: random.Random | None = None) -> str:
    """Fill a template: sequences between their tags, choices as `promoter, background`.

    Args:
        inputs: input name -> letters (either case).
        template: one of the card's prompts.
        rng: shuffles the choices (training); None keeps the card's order (evaluation, chat).

    Raises:
        UserError: inputs that are not the card's, or letters outside an input's alphabet.
    """
    expected = [item.name for item in card.inputs]
    if set(inputs) != set(expected):
        raise UserError(f"task {card.id}: needs the inputs {', '.join(expected)}; given: {', '.join(inputs) or 'none'}")
    fields = {item.name: ALPHABETS[item.modality].wrap(inputs[item.name]) for item in card.inputs}
    names = choices(card)
    if rng is not None and card.kind != "regression":
        rng.shuffle(names)
    return fill(template, fields, names)


def fill(template: str, fields: Mapping[str, str], names: list[str]) -> str:
    """A template with its sequences, tags included, and the choices as `promoter, background`."""
    return template.format_map({**fields, "choices": CHOICE_SEPARATOR.join(names)})


def choices(card: TaskCard) -> list[str]:
    """All labels in the card's order, the grid of a regression task, none for texts and sets.

    One of them is the answer, but for multilabel tasks: there the answer is any number of them.
    """
    if card.kind in (*CLASSIFICATION, "multilabel"):
        return [label.name for label in card.labels.values()]
    return grid_choices(card) if card.kind == "regression" else []


def grid_choices(card: TaskCard) -> list[str]:
    """The grid as answers, ascending, all with the same number of decimals: `['0.00', '0.05', ...]`."""
    low, high, step, decimals = _decimals(_grid(card))
    return [f"{low + index * step:.{decimals}f}" for index in range(int((high - low) / step) + 1)]


def answer(card: TaskCard, value: float) -> str:
    """The grid point nearest to a regression value, as text; a value beyond the grid becomes its end.

    Raises:
        UserError: not a finite number.
    """
    if not math.isfinite(value):
        raise UserError(f"task {card.id}: {value} is not a finite number")
    low, high, step, decimals = _decimals(_grid(card))
    inside = min(max(Decimal(repr(float(value))), low), high)
    return f"{low + ((inside - low) / step).to_integral_value(ROUND_HALF_EVEN) * step:.{decimals}f}"


def _grid(card: TaskCard) -> Grid:
    assert card.grid is not None, f"{card.id} is no regression task"
    return card.grid


def _decimals(grid: Grid) -> tuple[Decimal, Decimal, Decimal, int]:
    low, high, step = (Decimal(str(number)).normalize() for number in (grid.low, grid.high, grid.step))
    return low, high, step, max(0, -min(int(low.as_tuple().exponent), int(step.as_tuple().exponent)))
