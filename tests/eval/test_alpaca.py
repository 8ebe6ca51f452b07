"""Answers made elsewhere: the published answers of the original, by the strict parser and by its own rule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from artefacts.errors import UserError
from data_convert.tasks.parse import parse_label
from eval.judge.alpaca import choices_of, lenient, score_answers
from eval.recipe import ScoreRecipe
from eval.show.content import overall
from eval.show.report import ReportRecipe, report
from llama_gene import main

FROM = "of following dna sequence, The result will be one of the following:"
INSTRUCTIONS = {
    "promoter-detection": f"Determine promoter  detection {FROM} Non-promoter, promoter.",
    "core-promoter-detection": f"Determine core promoter detection {FROM} Non-promoter, promoter.",
    "splice-site-prediction": f"Determine the Splice Site Prediction {FROM} Non-Splice Sites, Acceptor Sites, Donor Sites",
    "transcription-factor-prediction": f"Determine the Transcription Factor Prediction {FROM} Background Sequences, Binding Sites.",
}
ANSWERS: dict[str, dict[str, dict[str, int]]] = {
    "promoter-detection": {
        "Non-promoter": {" Non-promoter": 116, " promoter": 1, "promoter": 15},
        "promoter": {" Non-promoter": 17, " promoter": 11, "promoter": 115},
    },
    "core-promoter-detection": {
        "Non-promoter": {" Non-promoter": 98, " promoter": 2, "C promoter": 1, "Non-promoter": 2, "promoter": 71},
        "promoter": {" Non-promoter": 39, " promoter": 1, "Non-promoter": 1, "promoter": 128},
    },
    "splice-site-prediction": {
        "Acceptor Sites": {
            " Acceptor Sites": 13,
            " Donor Sites": 27,
            " Non-Splice Sites": 2,
            "Acceptor Sites": 1,
            "Donor Sites": 4,
            "Splice Sites": 1,
        },
        "Donor Sites": {
            " Acceptor Sites": 5,
            " Donor Sites": 107,
            " Non-Splice Sites": 9,
            "Acceptor Sites": 2,
            "D Donor Sites": 1,
            "Donor Sites": 7,
        },
        "Non-Splice Sites": {" Acceptor Sites": 4, " Donor Sites": 16, " Non-Splice Sites": 19, "Donor Sites": 2, "Splice Sites": 1},
    },
    "transcription-factor-prediction": {
        "Background Sequences": {" Background Sequences": 59, " Binding Sites": 17},
        "Binding Sites": {
            " Background Sequences": 20,
            " Binding Sites": 61,
            "Background Sequences": 1,
            "Courses": 1,
            "Coursing": 1,
            "Court": 1,
        },
    },
}
"""How often each gold label got each answer in maris205/llama-gene, dna_model/llama-sft-2.json (MIT), all 1,000 rows."""
KNOWN = {  # lenient, stripped, exact, accuracy, MCC
    "promoter-detection": (242, 242, 115, 0.880, 0.76),
    "core-promoter-detection": (229, 229, 130, 0.668, 0.35),
    "splice-site-prediction": (148, 147, 8, 0.665, 0.36),
    "transcription-factor-prediction": (120, 120, 0, 0.745, 0.50),
}


def rows() -> list[dict[str, str]]:
    """The published answers, put together again from their counts; the sequences play no part in a score."""
    return [
        {"instruction": INSTRUCTIONS[task], "input": "ACGT" * (1 + place % 30), "output": gold, "model_response": answer}
        for task, golds in ANSWERS.items()
        for gold, answers in golds.items()
        for answer, times in answers.items()
        for place in range(times)
    ]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("answers")
    return folder, score_answers([write(folder / "llama-sft-2.json", rows())], folder / "metrics.json", seed=0)


def test_the_known_figures_of_the_thousand_published_answers(published: tuple[Path, dict[str, Any]]) -> None:
    _, document = published
    overall = document["overall"]["llama-sft-2"]
    assert document["overall"]["n"] == 1000
    assert [overall[rule]["right"] for rule in ("lenient", "stripped", "exact")] == [739, 738, 253]
    # blanks, case and a final full stop apart, the strict parser asks for the label itself
    assert overall["accuracy"]["right"] == 738
    assert 1000 - overall["valid"]["right"] == 7
    assert {task["task"] for task in document["tasks"]} == set(KNOWN)
    for task in document["tasks"]:
        system = task["systems"]["llama-sft-2"]
        legacy = [system["legacy"][rule]["right"] for rule in ("lenient", "stripped", "exact")]
        accuracy, mcc = (system["metrics"][metric]["value"] for metric in ("accuracy", "mcc"))
        assert (*legacy, round(accuracy, 3), round(mcc, 2)) == KNOWN[task["task"]]
        mine = [row for row in rows() if row["instruction"] == task["instruction"]]
        said = [parse_label(row["model_response"], choices_of(row["instruction"], [])[0]).value or "invalid" for row in mine]
        assert mcc == pytest.approx(matthews_corrcoef([row["output"] for row in mine], said), abs=1e-6)
        interval = system["metrics"]["accuracy"]
        assert interval["low"] < interval["value"] < interval["high"]
    splice = next(task for task in document["tasks"] if task["task"] == "splice-site-prediction")
    assert splice["majority_share"] == pytest.approx(131 / 221, abs=1e-6)
    assert splice["gold"] == {"Donor Sites": 131, "Acceptor Sites": 48, "Non-Splice Sites": 42}


def test_the_seven_odd_answers_are_listed_and_invalid(published: tuple[Path, dict[str, Any]]) -> None:
    _, document = published
    shown = [row for task in document["tasks"] for row in task["systems"]["llama-sft-2"]["details"].get("unread", {}).get("shown", [])]
    assert {row["text"]: row["times"] for row in shown} == {
        "Courses": 1,
        "Court": 1,
        "Coursing": 1,
        "C promoter": 1,
        "D Donor Sites": 1,
        "Splice Sites": 2,
    }
    assert {row["status"] for row in shown} == {"invalid"}


def test_the_command_and_its_report(published: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, document = published
    assert main(["eval", "score", str(folder / "llama-sft-2.json"), "--out", str(folder / "again.json")]) == 0
    assert json.loads((folder / "again.json").read_text(encoding="utf-8")) == document
    assert (folder / "again.json.manifest.json").is_file()
    assert re.search(r"1,000 +738 .* 7 +739 .* 738 .* 253 ", capsys.readouterr().out)
    report(ReportRecipe(metrics=folder / "metrics.json", out=folder / "report.html"))
    for suffix in (".html", ".md"):
        text = (folder / "report").with_suffix(suffix).read_text(encoding="utf-8")
        assert "739" in text
        assert "0.760" in text
    assert "Coursing" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("gold", "answer", "credited", "label"),
    [
        ("Conform", "Not Conform", True, "Not Conform"),
        ("NPP", "non-NPP", True, "non-NPP"),
        ("promoter", "Non-promoter", False, "Non-promoter"),
        ("promoter", "promoter AGCC", True, None),
        ("promoter", "promoter Non-promoter", False, None),
        ("Non-promoter", "promoter Non-promoter", True, None),
        ("Non-promoter", " Non-promoter", True, "Non-promoter"),
        ("promoter", "Promoter", False, "promoter"),
    ],
)
def test_what_the_legacy_rule_credits_and_the_parser_reads(gold: str, answer: str, credited: bool, label: str | None) -> None:
    assert lenient(gold, answer) == credited
    choices = {"Conform": ["Conform", "Not Conform"], "NPP": ["NPP", "non-NPP"]}.get(gold, ["Non-promoter", "promoter"])
    assert parse_label(answer, choices).value == label


def test_kinds_without_a_list(tmp_path: Path) -> None:
    asked = {"How stable?": ("0.5", "1.5", "0.7"), "Which?": ("in", "out", "in", "out"), "What does it do?": ("Binds ATP.", "Binds DNA.")}
    content = [
        {"instruction": asked_, "input": "MKV", "output": text, "model_response": text} for asked_, texts in asked.items() for text in texts
    ]
    content[0]["model_response"] = "about half"
    document = score_answers([write(tmp_path / "a.json", content)], tmp_path / "m.json", seed=0)
    assert [task["kind"] for task in document["tasks"]] == ["regression", "binary", "text"]
    assert document["tasks"][0]["systems"]["a"]["statuses"] == {"invalid": 1, "valid": 2}
    assert document["overall"]["a"]["accuracy"]["right"] == 8
    assert [cell.text for cell in overall(document).rows[0][:4]] == ["a", "9", "8", "1"]


def test_json_lines_and_several_systems(tmp_path: Path) -> None:
    good = rows()[::10]
    bad = [{**row, "model_response": "promoter"} for row in good]
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good), encoding="utf-8")
    files = [tmp_path / "good.jsonl", write(tmp_path / "bad.json", bad)]
    document = score_answers(files, tmp_path / "m.json", seed=0)
    assert document["provenance"]["systems"] == ["good", "bad"]
    for task in document["tasks"]:
        assert list(task["differences"]) == ["bad"]
    assert np.mean([task["differences"]["bad"]["value"] for task in document["tasks"]]) > 0.3
    write(tmp_path / "bad.json", bad[1:])
    with pytest.raises(UserError, match="not the same questions"):
        score_answers(files, tmp_path / "again.json", seed=0)


ROW = {"instruction": "Which? The result will be one of the following: a, b.", "input": "x", "output": "a", "model_response": "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([ROW, {**ROW, "model_response": None}], "row 2 has no text 'model_response'"),
        ([{**ROW, "id": 7}, {**ROW, "id": 7}], "id '7' stands in the file twice"),
        ([{**ROW, "output": "c"}], "output 'c' .* is none of the labels a, b"),
        ([], "holds no answer"),
        (["text"], "row 1 has no text 'instruction'"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_answers([write(tmp_path / "a.json", content)], tmp_path / "m.json", seed=0)
    assert not (tmp_path / "m.json").exists()


def test_broken_json_and_mixed_recipes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n {"instruction": \n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a.json:2: the JSON array is broken here"):
        score_answers([tmp_path / "a.json"], tmp_path / "m.json", seed=0)
    with pytest.raises(ValueError, match="or a file of answers"):
        ScoreRecipe(out=tmp_path / "m.json", records=tmp_path)
    with pytest.raises(ValueError, match="or a file of answers"):
        ScoreRecipe(out=tmp_path / "m.json", records=tmp_path, predictions=[tmp_path], answers=[tmp_path / "a.json"])
