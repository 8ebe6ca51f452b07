"""Answers with a reason behind them, and questions behind an answer: what is written, read back, split anew and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import uniprot_writers
from toy_cards import toy_card
from uniprot_writers import Invented

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.splits.audit import AuditRecipe, audit
from data_convert.tasks.convert import convert
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.records import RecordWriter, answer_of, read_records
from data_convert.tasks.task_recipe import TasksRecipe

ROWS = "seq,label,why\nACGT,1,It binds.\nACGA,0,\nACGC,0,Nothing\n"


def of_rows(folder: Path, rows: str = ROWS, **changes: Any) -> tuple[list[dict[str, Any]], TaskLedger]:
    (folder / "train.csv").write_text(rows, encoding="utf-8")
    card, ledger = toy_card(**changes), TaskLedger()
    writer = RecordWriter(card, "held_out", 0)
    return [next(writer.records(example, "test")) for example in Reader(card, folder).read("train.csv", ledger)], ledger


def test_the_reason_stands_below_the_label_and_rows_without_one_are_left_out(tmp_path: Path) -> None:
    found, ledger = of_rows(tmp_path, answer_then_reason="{answer} means {meaning}: {why}")
    assert [record["completion"][0]["content"] for record in found] == ["on\non means yes: It binds.", "off\noff means no: Nothing"]
    assert [record["label"] for record in found] == [answer_of(record) for record in found] == ["on", "off"]
    assert (ledger.reasons["no text for the reason"], ledger.left_out) == (1, 1)


def test_earlier_turns_stand_before_the_question(tmp_path: Path) -> None:
    found, _ = of_rows(
        tmp_path, texts=["why"], earlier=["What of {sequence}?", "{why}"], prompts={"train": ["So? {choices}"], "eval": "And?"}
    )
    assert found[0]["prompt"] == [
        {"role": "user", "content": "What of <dna>ACGT</dna>?"},
        {"role": "assistant", "content": "It binds."},
        {"role": "user", "content": "And?"},
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer_then_reason": "Because."}, "answer_then_reason: shows columns"),
        ({"answer_then_reason": "{why:3}"}, "plain names"),
        ({"kind": "text", "labels": {}, "metrics": ["rouge_l"], "primary_metric": "rouge_l", "answer_then_reason": "{meaning}"}, "classes"),
        ({"earlier": ["What of {sequence}?"]}, "an even number"),
        ({"earlier": ["{nothing}", "a"]}, "unknown field '{nothing}'"),
    ],
)
def test_what_a_card_cannot_say(changes: dict[str, Any], words: str) -> None:
    prompts = {"train": ["Is {sequence} on?"], "eval": "Say {sequence}"}
    with pytest.raises(ValueError, match=words):
        toy_card(**{"prompts": prompts, **changes})


def test_a_column_that_the_reason_shows_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'why'"):
        of_rows(tmp_path, "seq,label\nACGT,1\n", answer_then_reason="{why}")


def test_an_answer_of_several_lines_has_no_reason(tmp_path: Path) -> None:
    text = {
        "kind": "text",
        "labels": {},
        "metrics": ["rouge_l"],
        "primary_metric": "rouge_l",
        "prompts": {"train": ["{sequence}?"], "eval": "{sequence}"},
    }
    found, ledger = of_rows(tmp_path, 'seq,label,why\nACGT,"a\nb",x\n', answer_then_reason="{why}", **text)
    assert not found
    assert "an answer of several lines, and its reason begins on the next" in ledger.reasons


@pytest.fixture
def explained(tmp_path: Path) -> Path:
    entries = [
        Invented(
            f"P{10000 + number}",
            sequence="MKVL" * 10 + "ACDEFGHIKL"[number % 10] * (number + 1),
            functions=[("", f"Cuts peptide {number} (PubMed:5).", ["ECO:0000269"])] if number else [],
        )
        for number in range(40)
    ]
    (tmp_path / "swissprot").mkdir()
    (tmp_path / "swissprot/uniprot_sprot.dat.gz").write_text("".join(map(uniprot_writers.flat, entries)), encoding="utf-8")
    for split in ("train", "dev", "test"):
        path = tmp_path / f"gue/prom/prom_300_all/{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("sequence,label\n" + "".join(f"{'ACGTTGCA' * 5}{'ACGT'[n % 4] * n},{n % 2}\n" for n in range(9)), encoding="utf-8")
    convert(TasksRecipe(out=tmp_path / "out", cards=["explained/*"], source=tmp_path, parquet=True))
    return tmp_path / "out"


def test_the_cards_of_explained_tasks_convert_and_balance(explained: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for record in [record for split in ("train", "dev", "test") for record in read_records(explained / f"{split}.jsonl")]:
        if record.get("meta", {}).get("accession") == "P10007" or record["source"].endswith("train.csv:2"):
            found[record["task"]] = record
    assert found["explained/ec"]["completion"][0]["content"] == "3.4.21.78\nGranzyme A. Cuts peptide 7."
    assert found["explained/location"]["completion"][0]["content"] == "Cell membrane; Secreted\nGranzyme A. Cuts peptide 7."
    assert [message["content"] for message in found["explained/function"]["prompt"]][1] == "Cell membrane; Secreted"
    assert found["explained/promoter"]["completion"][0]["content"] == "background\nThat is a window without a transcription start site."
    counts = read_manifest(explained, "tasks")["counts"]
    for task, left_out in {"ec": 1, "location": 1, "function": 1, "promoter": 0}.items():
        (ledger, *_) = counts[f"explained/{task}"]["files"].values()
        assert ledger["rejected"] == ledger["left_out"] == left_out
        assert ledger["read"] == ledger["written"] + left_out


def test_a_split_anew_keeps_reasons_and_earlier_turns(explained: Path, tmp_path: Path) -> None:
    audit(AuditRecipe(records=[explained], write_split=tmp_path / "anew"))
    spoken = {}
    for folder in (explained, tmp_path / "anew"):
        records = [record for split in ("train", "dev", "test") for record in read_records(folder / f"{split}.jsonl")]
        spoken[folder] = {
            (record["task"], record["source"], record["completion"][0]["content"], record.get("reason"), json.dumps(record["prompt"][:-1]))
            for record in records
        }
    assert spoken[tmp_path / "anew"] <= spoken[explained]
    assert any(reason for *_, reason, _ in spoken[tmp_path / "anew"])


def test_a_reason_that_is_not_behind_the_answer_is_refused(explained: Path) -> None:
    path = explained / "test.jsonl"
    path.write_text(path.read_text("utf-8").replace('"reason": "That', '"reason": "This'), encoding="utf-8")
    with pytest.raises(UserError, match="its reason is not the text behind the first line"):
        read_records(path)
