"""The prompt renderer and the grid of regression answers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cards import CARD

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.prompts import render

BINARY = TaskCard.model_validate(CARD)


def grid_card(low: float, high: float, step: float) -> TaskCard:
    changes = {
        "kind": "regression",
        "labels": {},
        "grid": {"low": low, "high": high, "step": step},
        "metrics": ["mae"],
        "primary_metric": "mae",
    }
    return TaskCard.model_validate(CARD | changes | {"prompts": {"train": ["{sequence}!"], "eval": "{sequence}?"}})


def nearest(card: TaskCard, value: float) -> str:
    assert card.grid is not None
    return card.grid.nearest(value)


def test_evaluation_lists_choices_in_card_order():
    assert render(BINARY, {"sequence": "acgu".replace("u", "t")}, BINARY.prompts.eval) == "Say off, on for <dna>ACGT</dna>"


def test_training_shuffles_choices_by_the_generator():
    prompts = {render(BINARY, {"sequence": "A"}, "{choices}{sequence}", random.Random(seed)) for seed in range(20)}
    assert prompts == {"off, on<dna>A</dna>", "on, off<dna>A</dna>"}
    assert BINARY.choices == ["off", "on"]


def test_braces_and_tags_in_letters_are_refused():
    for letters in ("{choices}", "AC</dna>", "", "AC GT"):
        with pytest.raises(UserError):
            render(BINARY, {"sequence": letters}, BINARY.prompts.eval)


def test_inputs_must_be_the_cards():
    with pytest.raises(UserError, match="needs the inputs sequence; given: none"):
        render(BINARY, {}, BINARY.prompts.eval)
    with pytest.raises(UserError, match="given: sequence, other"):
        render(BINARY, {"sequence": "A", "other": "C"}, BINARY.prompts.eval)


def test_grids():
    assert grid_card(0.0, 0.2, 0.05).choices == ["0.00", "0.05", "0.10", "0.15", "0.20"]
    assert grid_card(-0.2, 0.2, 0.1).choices == ["-0.2", "-0.1", "0.0", "0.1", "0.2"]
    assert grid_card(0, 3, 1).choices == ["0", "1", "2", "3"]
    assert grid_card(0.5, 2.5, 1).choices == ["0.5", "1.5", "2.5"]
    assert grid_card(0, 3, 1).choices == ["0", "1", "2", "3"]


def test_answers_round_to_the_grid_and_stay_on_it():
    card = grid_card(-0.2, 0.2, 0.1)
    values = [-5, -0.149, -0.01, 0.05000001, 0.1499999999, 7, 0.009999999776482]
    assert [nearest(card, value) for value in values] == ["-0.2", "-0.1", "0.0", "0.1", "0.1", "0.2", "0.0"]
    for value in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="not a finite number"):
            nearest(card, value)


@given(
    low=st.integers(-50, 50),
    steps=st.integers(1, 60),
    decimals=st.integers(0, 3),
    width=st.sampled_from([1, 2, 5, 25]),
    value=st.floats(-200, 200),
)
def test_an_answer_is_the_nearest_choice(low, steps, decimals, width, value):
    step = width / 10**decimals
    card = grid_card(round(low * step, 6), round((low + steps) * step, 6), step)
    grid = card.choices
    assert len(grid) == steps + 1
    assert len({text.partition(".")[2].__len__() for text in grid}) == 1  # fixed decimals
    assert "-0" not in [text.rstrip("0").rstrip(".") for text in grid]
    given_answer = nearest(card, value)
    assert given_answer in grid
    closest = min(abs(float(text) - value) for text in grid)
    assert abs(float(given_answer) - value) <= closest + 1e-9
    assert all(nearest(card, float(text)) == text for text in grid)
