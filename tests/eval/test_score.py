"""Scoring a folder of predictions: the document, its determinism, and refusals of predictions that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import matthews_corrcoef

from artefacts.errors import UserError
from eval.predictions import read_lines
from eval.score import score


def run(folder: Path, name: str = "metrics.json", **options: Any) -> dict[str, Any]:
    return score(folder / "records", folder / "predictions", folder / name, seed=0, **options)


def task(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(task for task in document["tasks"] if task["task"] == name)


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], Any], system: str = "llama-gene") -> None:
    """Apply `change` to the lines of a system's file."""
    path = folder / "predictions" / f"{system}.jsonl"
    lines = list(read_lines(folder / "predictions" / "llama-gene.jsonl"))
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_figures_are_those_of_the_lines(invented: Path) -> None:
    document = run(invented)
    assert json.loads((invented / "metrics.json").read_text(encoding="utf-8")) == document
    found = task(document, "bench/species")
    lines = [line for line in read_lines(invented / "predictions" / "llama-gene.jsonl") if line["task"] == "bench/species"]
    gold = [line["gold"] for line in lines]
    model = found["systems"]["llama-gene"]
    assert model["metrics"]["mcc"]["value"] == pytest.approx(matthews_corrcoef(gold, [line["predicted"] for line in lines]), abs=1e-6)
    written = matthews_corrcoef(gold, [line["parsed"] or "invalid" for line in lines])
    assert model["greedy"]["metrics"]["mcc"]["value"] == pytest.approx(written, abs=1e-6)
    assert model["greedy"]["invalid_rate"] == pytest.approx(sum(line["status"] == "invalid" for line in lines) / len(lines), abs=1e-6)
    assert model["greedy"]["refused_rate"] == pytest.approx(sum(line["status"] == "refused" for line in lines) / len(lines), abs=1e-6)
    assert found["n"] == len(lines) == 60
    assert found["n_train"] == 40
    for interval in model["metrics"].values():
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert document["provenance"]["seed"] == 0


def test_the_same_inputs_give_the_same_bytes(invented: Path) -> None:
    run(invented, "one.json")
    run(invented, "two.json")
    assert (invented / "one.json").read_bytes() == (invented / "two.json").read_bytes()


def test_the_order_of_prediction_lines_does_not_matter(invented: Path) -> None:
    before = run(invented)["tasks"]
    rewrite(invented, lambda lines: lines.reverse())
    assert run(invented, "again.json")["tasks"] == before


def test_a_system_may_leave_out_a_task_but_not_a_record(invented: Path) -> None:
    def texts_only(lines: list[dict[str, Any]]) -> None:
        lines[:] = [line for line in lines if line["task"] == "sim/function"]

    rewrite(invented, texts_only, "other")
    document = run(invented)
    assert "other" in task(document, "sim/function")["systems"]
    assert "other" not in task(document, "sim/promoter")["systems"]


def test_differences_are_positive_where_the_model_is_better(invented: Path) -> None:
    def spoil(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line.update(text=None, parsed=None, status=None)
            if line["kind"] == "regression":
                line["predicted"] = 1 - line["gold"]
            else:
                line["predicted"] = None

    rewrite(invented, spoil, "worse")
    cards = json.loads((invented / "records" / "cards.json").read_text(encoding="utf-8"))
    next(card for card in cards if card["id"] == "sim/stability")["primary_metric"] = "mae"
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    document = run(invented)
    for found in document["tasks"]:
        assert found["differences"]["worse"]["low"] > 0, found["task"]
        assert "greedy" not in found["systems"]["worse"]
    assert task(document, "sim/promoter")["systems"]["worse"]["unanswered_rate"] == 1


def test_auroc_without_probabilities_is_named_as_not_computed(invented: Path) -> None:
    def drop(lines: list[dict[str, Any]]) -> None:
        lines[0]["logprobs"] = None

    rewrite(invented, drop)
    model = task(run(invented), "sim/promoter")["systems"]["llama-gene"]
    assert model["not_computed"] == ["auroc", "auprc", "ece", "brier"]
    assert not {"auroc", "auprc", "ece", "brier"} & model["metrics"].keys()


def remove_first(lines: list[dict[str, Any]]) -> None:
    del lines[0]


def repeat_first(lines: list[dict[str, Any]]) -> None:
    lines.append(lines[0])


def add_foreign(lines: list[dict[str, Any]]) -> None:
    lines.append({**lines[0], "id": "sim/promoter/test/999"})


def change_gold(lines: list[dict[str, Any]]) -> None:
    lines[0]["gold"] = "background" if lines[0]["gold"] == "promoter" else "promoter"


def invent_label(lines: list[dict[str, Any]]) -> None:
    lines[0]["predicted"] = "terminator"


def forget_field(lines: list[dict[str, Any]]) -> None:
    del lines[0]["status"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_first, "1 of 60 test records have no prediction, the first is 'sim/promoter/test/0'"),
        (repeat_first, "'sim/promoter/test/0' is predicted twice"),
        (add_foreign, "'sim/promoter/test/999'"),
        (change_gold, "predict again from these records"),
        (invent_label, "'terminator' is none of the choices"),
        (forget_field, r"llama-gene.jsonl:1: a prediction without 'status'"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(invented: Path, change: Callable[[list[dict[str, Any]]], None], message: str) -> None:
    rewrite(invented, change)
    with pytest.raises(UserError, match=message):
        run(invented)
    assert not (invented / "metrics.json").exists()


def test_an_existing_output_is_kept_unless_overwritten(invented: Path) -> None:
    (invented / "metrics.json").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="already exists"):
        run(invented)
    assert (invented / "metrics.json").read_text(encoding="utf-8") == "mine"
    run(invented, overwrite=True)
    assert (invented / "metrics.json").read_text(encoding="utf-8") != "mine"


def test_no_predictions_and_broken_lines_are_user_errors(invented: Path) -> None:
    path = invented / "predictions" / "llama-gene.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "{broken\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"llama-gene.jsonl:241: not a JSON line"):
        run(invented)
    path.unlink()
    with pytest.raises(UserError, match="no predictions"):
        run(invented)
