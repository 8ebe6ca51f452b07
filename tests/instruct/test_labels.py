"""A prompt is taken for a task's only when it is written in one of the card's own wordings, from end to end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_convert.tasks.cards import find_cards, load_card
from data_convert.tasks.prompts import render
from instruct.talk.labels import Recogniser, asked_of, shipped

CARDS = [card for card in find_cards(["*"]) if not (card.texts or card.options)]  # a row's own text has no wording
CLOSED = [card for card in CARDS if card.answers.one_label and card.labels]
SPLICE = load_card("sim/splice")
LETTERS = {"dna": "ACGTN", "rna": "ACG", "protein": "MKVLW*"}


@given(st.sampled_from(CARDS), st.data())
def test_every_wording_of_every_card_is_recognised_and_no_other_task(card, data):
    wording = data.draw(st.sampled_from([*card.prompts.train, card.prompts.eval]))
    letters = {item.name: data.draw(st.text(LETTERS[item.modality], min_size=1, max_size=30)) for item in card.inputs}
    prompt = render(card, letters, wording, random.Random(data.draw(st.integers(0, 99))))
    found = shipped().asked(f"  {prompt}\n")
    if card not in CLOSED:
        assert found is None
    else:
        assert found is not None
        assert card.id in found.tasks
        assert sorted(found.labels) == sorted(card.choices)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("acceptor, donor, neither", "acceptor, donor"),
        ("acceptor, donor, neither", "acceptor, donor, neither, both"),
        ("acceptor, donor, neither", "acceptor, donor, donor"),
        ("<dna>ACGT</dna>", "<rna>ACGT</rna>"),
        ("<dna>ACGT</dna>", "<dna>acgt</dna>"),
        ("<dna>ACGT</dna>", "<dna>ACGT</dna> <dna>ACGT</dna>"),
        ("<dna>ACGT</dna>", "ACGT"),
        ("Which", "Say which"),
        ("centre", "center"),
    ],
)
def test_a_prompt_that_differs_is_not_recognised(old, new):
    prompt = render(SPLICE, {"sequence": "ACGT"}, SPLICE.prompts.eval)
    assert shipped().asked(prompt)
    assert old in prompt
    assert shipped().asked(prompt.replace(old, new)) is None


def test_the_same_words_for_other_labels_are_nobody_s():
    """Two cards that ask alike: taken together when their labels are the same, not at all when they differ."""
    wordings = {"prompts": SPLICE.prompts.model_copy(update={"eval": "What is {sequence}"})}
    plain = SPLICE.model_copy(update={"list_choices": False, **wordings})
    same = plain.model_copy(update={"id": "sim/other"})
    other = load_card("sim/promoter").model_copy(update={"list_choices": False, **wordings})
    prompt = "What is <dna>ACGT</dna>"
    found = Recogniser([plain, same]).asked(prompt)
    assert found is not None
    assert found.tasks == ("sim/splice", "sim/other")
    assert "and 1 more" in str(found)
    assert Recogniser([plain, other]).asked(prompt) is None


def test_labels_of_a_named_task():
    asked = asked_of(SPLICE)
    assert asked is not None
    assert list(asked.labels) == SPLICE.choices
    assert asked_of(load_card("sim/stability")) is asked_of(load_card("sim/function")) is None
