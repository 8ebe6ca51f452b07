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


def test_an_answer_is_judged_where_a_record_has_a_label(records):
    pytest.importorskip("gradio", reason="the page needs gradio")
    from instruct.talk.page import judged

    examples = Examples(records)
    record = next(record for record in read_records(records / "dev.jsonl") if record["task"] == "sim/promoter")
    assert examples.record(record["prompt"][0]["content"] + " ") is None
    assert examples.record(record["prompt"][0]["content"]) == record
    own = record["completion"][0]["content"]
    other = next(label for label in ("promoter", "background") if label != own)
    assert 'data-judged="right"' in judged("", {own: 0.6, other: 0.4}, record)
    assert 'data-judged="wrong"' in judged(own, {own: 0.4, other: 0.6}, record), "the likeliest label counts, as in evaluation"
    assert 'data-judged="right"' in judged(f" {own.upper()}.", {}, record)
    for nothing in (judged("0.51", {}, {**record, "kind": "regression"}), judged("<b>", {}, None)):
        assert 'data-judged=""' in nothing
        assert "<b>" not in nothing
