"""The strict parser against answers that fooled other projects' parsers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_convert.tasks.parse import REFUSALS, Parsed, parse_label, parse_number, parse_text, same_text

LABELS = [
    ("promoter", ["promoter", "background"], "promoter"),
    (" Promoter. ", ["promoter", "background"], "promoter"),
    ("PROMOTER\n", ["promoter", "background"], "promoter"),
    ("NPP", ["NPP", "non-NPP"], "NPP"),
    ("non-NPP", ["NPP", "non-NPP"], "non-NPP"),
    ("Not Conform", ["Conform", "Not Conform"], "Not Conform"),
    ("conform.", ["Conform", "Not Conform"], "Conform"),
    ("Donor Sites", ["Donor Sites", "Acceptor Sites"], "Donor Sites"),
    ("A", ["A", "a"], "A"),
    ("a", ["A", "a"], "a"),
    ("E. coli", ["E. coli", "B. subtilis"], "E. coli"),
]


@pytest.mark.parametrize(("text", "choices", "wanted"), LABELS)
def test_labels(text: str, choices: list[str], wanted: str) -> None:
    assert parse_label(text, choices) == Parsed(wanted, "valid")


INVALID_LABELS = [
    ("incorrect", ["correct", "wrong"]),
    ("not a promoter", ["promoter", "background"]),
    ("promoter background", ["promoter", "background"]),
    ("promoter or background", ["promoter", "background"]),
    ("promoter, not background", ["promoter", "background"]),
    ("It is a promoter.", ["promoter", "background"]),
    ("promoters", ["promoter", "background"]),
    ("promoter..", ["promoter", "background"]),
    ("promoter!", ["promoter", "background"]),
    ("", ["promoter", "background"]),
    ("  \n", ["promoter", "background"]),
    (".", ["promoter", "background"]),
    ("Not  Conform", ["Conform", "Not Conform"]),
    ("NotConform", ["Conform", "Not Conform"]),
    ("non NPP", ["NPP", "non-NPP"]),
    ("D Donor Sites", ["Donor Sites", "Acceptor Sites"]),
    ("A.", ["A", "a"]),  # both labels are equal to it up to case
    ("know", ["no", "yes"]),
    ("0", ["yes", "no"]),
]


@pytest.mark.parametrize(("text", "choices"), INVALID_LABELS)
def test_what_is_no_label(text: str, choices: list[str]) -> None:
    assert parse_label(text, choices) == Parsed(None, "invalid")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0.3", 0.3), ("1e5", 1e5), ("-0.5.", -0.5), ("+.25", 0.25), (" 7 ", 7.0), ("7.", 7.0), ("-3E-2", -0.03), ("007", 7.0), ("0.30", 0.3)],
)
def test_numbers(text: str, wanted: float) -> None:
    assert parse_number(text) == Parsed(wanted, "valid")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0.3 kcal",
            "about 0.3",
            "0.3-0.5",
            "0.3 0.5",
            "0.3, 0.5",
            "1,000",
            "1/2",
            "50%",
            "nan",
            "inf",
            "-inf",
            "Infinity",
            "1e999",
            "",
            ".",
            "-",
        ),
        *("0.5..", "--1", "0x10", "1_000", "e5", "1e", "1e2.5", "٣", "²", "0.3?", "The answer is 0.3", "1 e5", "− 1", "−1"),
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) == Parsed(None, "invalid")


@pytest.mark.parametrize("text", ["I cannot answer that.", "i can’t tell", "Sorry, no idea", "As an AI model I ...", " I do not know"])
def test_refusals_are_counted_apart(text: str) -> None:
    assert parse_label(text, ["promoter", "background"]) == parse_number(text) == parse_text(text) == Parsed(None, "refused")


def test_a_label_that_sounds_like_a_refusal_is_a_label() -> None:
    assert parse_label("Unable to bind", ["Unable to bind", "Binds"]).status == "valid"
    assert parse_label("cannot", ["yes", "no"]).status == "invalid"


def test_texts() -> None:
    assert parse_text("  Binds DNA.\n") == Parsed("Binds DNA.", "valid")
    assert parse_text(" \n") == Parsed(None, "invalid")


CHOICES = ["promoter", "background", "non-NPP", "NPP", "Donor Sites"]


@given(st.text(max_size=30))
def test_any_text_that_is_not_exactly_a_label_is_no_answer(text: str) -> None:
    parsed = parse_label(text, CHOICES)
    assert (parsed.status == "valid") == (same_text(text) in {same_text(choice) for choice in CHOICES})
    assert (parsed.value is None) == (parsed.status != "valid")


@given(st.sampled_from(CHOICES), st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5), st.booleans())
def test_a_label_with_anything_attached_is_no_answer(label: str, more: str, before: bool) -> None:
    text = more + label if before else label + more
    assert parse_label(text, [label]).status != "valid"


@given(st.sampled_from(CHOICES), st.text(" \t\n", max_size=3), st.sampled_from(["", "."]), st.sampled_from([str.upper, str.lower, str]))
def test_blanks_case_and_a_full_stop_are_forgiven(label: str, blanks: str, stop: str, case: type[str]) -> None:
    assert parse_label(f"{blanks}{case(label)}{stop}{blanks}", CHOICES) == Parsed(label, "valid")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_printed_number_is_read_back(number: float) -> None:
    assert parse_number(repr(number)) == Parsed(number, "valid")


@given(st.text(max_size=12))
def test_a_number_is_read_only_where_python_reads_the_same_one(text: str) -> None:
    parsed = parse_number(text)
    if parsed.status == "valid":
        assert isinstance(parsed.value, float)
        assert math.isfinite(parsed.value)
        assert float(text.strip().removesuffix(".")) == parsed.value


def test_refusals_are_written_as_they_are_compared() -> None:
    assert all(phrase == phrase.casefold().strip() for phrase in REFUSALS)
