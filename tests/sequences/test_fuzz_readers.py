"""Damaged files: either right documents or a UserError that names file and line, never a lost record, a crash or a hang."""

from __future__ import annotations

import gzip
import random

import pytest
import reader_fuzz as fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def edits_of(example: fuzz.Example) -> st.SearchStrategy[list[fuzz.Edit]]:
    put = st.one_of(st.sampled_from(fuzz.EVERYWHERE + example.markers), st.binary(max_size=4))
    share = st.floats(0, 1)
    return st.lists(st.tuples(st.sampled_from(["insert", "delete", "replace", "repeat", "cut"]), share, share, put), min_size=1, max_size=5)


@pytest.mark.parametrize("name", fuzz.EXAMPLES)
def test_the_examples_are_good(tmp_path, name):
    found, said, _ = fuzz.read(fuzz.EXAMPLES[name], fuzz.EXAMPLES[name].content, tmp_path)
    assert (len(found), said) == (len(fuzz.EXAMPLES[name].records), "")


@pytest.mark.parametrize("name", fuzz.EXAMPLES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere(tmp_path, name, data):
    example = fuzz.EXAMPLES[name]
    edits = data.draw(edits_of(example))
    fuzz.check_anywhere(
        example, edits, tmp_path, data.draw(st.booleans()), data.draw(st.sampled_from(["document", "section", "paragraph"]))
    )


@pytest.mark.parametrize("name", [name for name, example in fuzz.EXAMPLES.items() if example.recovers])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_in_one_record_stays_there(tmp_path, name, data):
    example = fuzz.EXAMPLES[name]
    # The first record tells the format, so that one must stand.
    fuzz.check_one_record(example, data.draw(edits_of(example)), tmp_path, data.draw(st.integers(1, len(example.records) - 1)))


@pytest.mark.parametrize("name", fuzz.EXAMPLES)
def test_every_cut_of_the_gz_file_is_said(tmp_path, name):
    example = fuzz.EXAMPLES[name]
    whole = gzip.compress(example.content, mtime=0)
    for length in random.Random(0).sample(range(2, len(whole) - 1), 20):
        _, said, _ = fuzz.read(example, whole[:length], tmp_path)
        assert "the gz data is cut short or damaged" in said


def test_a_lost_record_is_seen(tmp_path):
    """Damaged XML cannot be read on and is an error as a whole, so the check for lost records must fail on it."""
    with pytest.raises(AssertionError, match="only 0 records are counted"):
        fuzz.check_one_record(fuzz.EXAMPLES["UniProt XML"], [("insert", 0.5, 0.0, b"<")], tmp_path, 1)
