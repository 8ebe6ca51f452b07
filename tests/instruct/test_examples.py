"""The page's examples are held-out records, and a bad line among them is named."""

from __future__ import annotations

import pytest

from artefacts.errors import UserError
from data_convert.tasks.cards import load_card
from data_convert.tasks.records import read_records
from instruct.talk.examples import KEPT, Examples


def test_examples_are_records_counted_around(records):
    card = load_card("sim/promoter")
    of_card = [record for record in read_records(records / "dev.jsonl") if record["task"] == card.id]
    assert 1 < len(of_card) < KEPT
    found = Examples(records)
    assert [found.of(card, number).prompt for number in range(len(of_card) + 1)] == [
        record["prompt"][0]["content"] for record in [*of_card, of_card[0]]
    ]


@pytest.mark.parametrize(("line", "words"), [('{"id": "x", "ta', "not a JSON line"), ('{"id": "x"}', "no 'task'"), ("3", "not a record")])
def test_a_bad_line_is_named(records, tmp_path, line, words):
    (tmp_path / "cards.json").write_bytes((records / "cards.json").read_bytes())
    (tmp_path / "test.jsonl").write_text((records / "dev.jsonl").read_text() + line)
    with pytest.raises(UserError, match=rf"test\.jsonl:17: {words}"):
        Examples(tmp_path)
