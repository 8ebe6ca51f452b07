"""The dev metric while tuning is the evaluation's own, its best weights are the result, and the run ends when it no longer rises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.folder import read_manifest
from artefacts.recipe import load
from data_convert.tasks.records import read_records
from eval.ask.answer import predictions
from eval.judge.answers import Answers, value
from instruct.tune.merge import MergeRecipe, merge
from instruct.tune.recipe import InstructRecipe
from instruct.tune.tune import tune


@pytest.fixture(scope="module")
def stopped(make_tuning, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scored every two steps; the learning rate is absurd, so that the metric soon falls."""
    out = tmp_path_factory.mktemp("stopped") / "adapter"
    tune(
        make_tuning(
            out, rows="all", epochs=16, metric_every=2, patience=3, learning_rate=0.3, schedule="constant_with_warmup", save_every=4
        )
    )
    return out


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in found if name in line]


def test_it_stops_when_patience_is_over(stopped):
    scored = lines(stopped, "eval_metric")
    counts = read_manifest(stopped)["counts"]
    best = max(range(len(scored)), key=lambda place: (scored[place]["eval_metric"], -place))
    assert counts["best_step"] == scored[best]["step"]
    assert len(scored) == best + 1 + 3, "three scorings without a better one"
    assert counts["steps"] == scored[-1]["step"] < 64
    assert len(lines(stopped, "loss")) == counts["steps"]
    assert [line["step"] for line in scored] == list(range(2, counts["steps"] + 1, 2))
    for line in scored:
        assert set(line["eval_metric_of"]) == {"sim/promoter", "sim/stability"}
        assert line["eval_metric"] == pytest.approx(sum(line["eval_metric_of"].values()) / 2, abs=1e-6)
    assert counts["scored"] == {"sim/promoter": 8, "sim/stability": 8}
    assert not list(stopped.parent.glob("*checkpoints*"))


def test_a_task_that_can_hardly_be_scored_is_named(make_tuning, records, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "records")
    dev = tmp_path / "records" / "dev.jsonl"
    dev.write_text("".join(line for line in dev.read_text().splitlines(keepends=True) if "sim/promoter" in line))
    recipe = make_tuning(tmp_path / "out", records=tmp_path / "records", steps=1, metric_every=1)
    tune(recipe)
    assert read_manifest(recipe.out)["counts"]["scored"] == {"sim/promoter": 8, "sim/stability": 0}
    printed = capsys.readouterr().out
    assert "sim/stability: no dev records to score" in printed
    assert "sim/promoter: 8 dev records to score" in printed


def test_the_result_is_the_best_and_scores_as_it_did(stopped, extended_folder, records, tmp_path):
    merge(MergeRecipe(model=extended_folder, adapter=stopped, out=tmp_path / "model"))
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path / "model"), AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    best = max(lines(stopped, "eval_metric"), key=lambda line: line["eval_metric"])
    found: dict[str, list[dict[str, Any]]] = {}
    for line in predictions(model, tokenizer, read_records(records / "dev.jsonl")):
        found.setdefault(line["task"], []).append(line)
    primary = {"sim/promoter": "mcc", "sim/stability": "spearman"}
    for task, figure in best["eval_metric_of"].items():
        assert value(primary[task], Answers.of(found[task], "predicted")) == pytest.approx(figure, abs=1e-4)


def test_dev_loss_by_task_is_the_plain_one(make_tuning, extended_folder, records, tmp_path):
    """A learning rate that moves nothing leaves the base, whose loss transformers can tell."""
    recipe = make_tuning(tmp_path / "out", steps=1, learning_rate=1e-12)
    tune(recipe)
    (line,) = lines(recipe.out, "eval_loss")
    tokenizer, model = AutoTokenizer.from_pretrained(extended_folder), AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    totals: dict[str, list[float]] = {}
    for record in read_records(records / "dev.jsonl"):
        prompt = tokenizer.apply_chat_template(record["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template([*record["prompt"], *record["completion"]], return_dict=False)
        labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
        with torch.no_grad():
            mean = model(torch.tensor([whole]), labels=labels).loss.item()
        totals.setdefault(record["task"], []).append(mean)
    # answers of one task have one length here, so the mean over tokens is that over records
    for task, means in totals.items():
        if task == "sim/stability":
            assert line["eval_loss_of"][task] == pytest.approx(sum(means) / len(means), rel=1e-3)
    assert set(line["eval_loss_of"]) == set(totals)


def test_patience_needs_a_metric():
    with pytest.raises(ValueError, match="set metric_every too"):
        load(InstructRecipe, None, ["model=m", "records=r", "out=o", "patience=2"])
