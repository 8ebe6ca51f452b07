"""Temperatures: what is fitted, on which records, and where the figures before and after stand."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked_records import of_cards
from invented_run import make_line, write_lines
from scipy.special import log_softmax

import llama_gene
from artefacts.errors import UserError
from artefacts.folder import fingerprint, write_manifest
from eval.judge.calibration import RANGE, fit, nll
from eval.judge.score import score
from eval.predictions import read_lines


def drawn(n: int, classes: int, seed: int) -> tuple[Any, Any]:
    """Gold labels that come as often as honest probabilities say, and those probabilities."""
    rng = np.random.default_rng(seed)
    honest_nC = log_softmax(rng.normal(0, 2, (n, classes)), axis=1)
    return np.array([rng.choice(classes, p=np.exp(row)) for row in honest_nC]), honest_nC


@pytest.mark.parametrize("spoilt", [0.25, 1.0, 4.0])
def test_the_temperature_that_spoilt_honest_likelihoods_is_found(spoilt: float) -> None:
    gold_n, honest_nC = drawn(4000, 3, 0)
    found = fit(gold_n, honest_nC / spoilt)
    assert found == pytest.approx(1 / spoilt, rel=0.08)
    assert nll(gold_n, honest_nC / spoilt, found) <= min(nll(gold_n, honest_nC / spoilt, t) for t in np.geomspace(*RANGE, 400)) + 1e-6


def test_records_that_are_all_right_or_all_wrong_end_the_range() -> None:
    likely_nC = np.array([[-0.1, -5.0]] * 20)
    assert fit(np.zeros(20, dtype=int), likely_nC) < 0.1
    assert fit(np.ones(20, dtype=int), likely_nC) == pytest.approx(RANGE[1], rel=0.01)


def spoil(folder: Path, split: str, place: Path, factor: float = 6.0, model: str = "m") -> Path:
    """Predictions of a split that are far too sure of themselves."""
    draw = random.Random(split)
    lines = [make_line(record, 0.15, draw) for record in read_lines(folder / "records" / f"{split}.jsonl")]
    for line in lines:
        if line["kind"] in ("binary", "multiclass"):
            line["logprobs"] = [value * factor for value in line["logprobs"]]
    write_lines(place / "llama-gene.jsonl", lines)
    write_manifest(place, "predictions", recipe={}, inputs={"model": model, "records": fingerprint(folder / "records")}, counts={})
    return place


def test_calibration_error_falls_and_no_label_changes(invented: Path) -> None:
    test, dev = spoil(invented, "test", invented / "test"), spoil(invented, "dev", invented / "dev")
    plain = score(invented / "records", test, invented / "plain.json", seed=0)
    document = score(invented / "records", test, invented / "m.json", seed=0, dev=[dev])
    for before, after in zip(plain["tasks"], document["tasks"], strict=True):
        own = dict(after["systems"]["llama-gene"])
        found = own.pop("calibrated", None)
        assert own == before["systems"]["llama-gene"], "nothing else changes"
        if after["kind"] not in ("binary", "multiclass"):
            assert found is None
            continue
        ((run),) = found["runs"]
        assert (run["run"], run["n"], run["model"]) == ("test", 20, "m")
        assert run["temperature"] > 2
        assert run["nll"][1] < run["nll"][0]
        assert found["metrics"]["ece"]["value"] < own["metrics"]["ece"]["value"] - 0.1
        assert found["metrics"]["brier"]["value"] < own["metrics"]["brier"]["value"]
        if after["kind"] == "binary":
            assert found["metrics"]["auroc"]["value"] == own["metrics"]["auroc"]["value"]
    llama_gene.main(["eval", "report", "--metrics", str(invented / "m.json"), "--out", str(invented / "report.html")])
    for name in ("report.html", "report.md"):
        assert "by 20 dev records)" in (invented / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("test", r"'.*/test/0' is a record of test, and a temperature is fitted on dev records alone; predict them with"),
        ("empty", r"no predictions \(\*.jsonl\) here"),
        ("other", r"belong to the test predictions of the same model, and of 'llama-gene' 0 are"),
        ("twice", r"belong to the test predictions of the same model, and of 'llama-gene' 1 are"),
        ("part", r"no dev predictions of bench/species"),
        ("endpoint", r"no likelihoods of sim/promoter"),
    ],
)
def test_what_is_no_dev_prediction_of_the_model_is_refused(invented: Path, case: str, words: str) -> None:
    test, dev = (
        spoil(invented, "test", invented / "test"),
        [spoil(invented, "dev", invented / "dev", model="n" if case == "other" else "m")],
    )
    path = dev[0] / "llama-gene.jsonl"
    lines = list(read_lines(path))
    if case == "test":
        dev = [spoil(invented, "test", invented / "again", factor=5)]
    elif case == "empty":
        path.unlink()
    elif case == "twice":
        dev.append(spoil(invented, "dev", invented / "more", factor=2))
    elif case == "part":
        write_lines(path, [line for line in lines if line["task"] != "bench/species"])
    elif case == "endpoint":
        write_lines(path, [{**line, "logprobs": None} for line in lines])
    with pytest.raises(UserError, match=words):
        score(invented / "records", test, invented / "m.json", seed=0, dev=dev)
    assert not (invented / "m.json").exists()


def test_from_one_command_to_probabilities_of_a_table(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = of_cards(tmp_path / "records", ["sim/promoter", "sim/stability"], 12)
    (records / "dev.jsonl").write_text((records / "test.jsonl").read_text("utf-8").replace("/test/", "/dev/").replace('"test"', '"dev"'))
    run = ["eval", "run", "--records", str(records), "--out", str(tmp_path / "run"), f"models.llama-gene.model={model_folder}"]
    assert llama_gene.main([*run, "calibrate=true", "english=null"]) == 0, capsys.readouterr().err
    metrics = tmp_path / "run" / "metrics.json"
    (task,) = [one for one in json.loads(metrics.read_text("utf-8"))["tasks"] if one["task"] == "sim/promoter"]
    temperature = task["systems"]["llama-gene"]["calibrated"]["runs"][0]["temperature"]
    (tmp_path / "in.csv").write_text("id,sequence\n" + "".join(f"{n},{'ACGTTGCA' * n}\n" for n in range(1, 6)), encoding="utf-8")
    asked = ["predict", str(tmp_path / "in.csv"), "--model", str(model_folder), "--task", "sim/promoter"]
    found = {}
    for name, more in (("plain", []), ("calibrated", ["--temperatures", str(metrics)])):
        assert llama_gene.main([*asked, "--out", str(tmp_path / f"{name}.csv"), *more]) == 0, capsys.readouterr().err
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found[name] = [float(row["prob"]) for row in csv.DictReader(file)]
    odds = {name: [np.log(p / (1 - p)) for p in shares] for name, shares in found.items() if all(0 < p < 1 for p in shares)}
    assert odds["calibrated"] == pytest.approx([one / temperature for one in odds.get("plain", [])] or odds["calibrated"], rel=1e-2)
    assert found["calibrated"] != found["plain"]
    for more, words in (
        (["--temperatures", str(tmp_path / "in.csv")], "in.csv: not JSON"),
        (["--temperatures", str(tmp_path / "none.json")], "none.json: no such metrics"),
        (["--task", "sim/splice", "--temperatures", str(metrics)], "0 temperatures of sim/splice"),
        (["--task", "sim/stability", "--temperatures", str(metrics)], "a regression task has no temperature"),
    ):
        assert llama_gene.main([*asked, "--out", str(tmp_path / "no.csv"), *more]) == 2
        assert words in capsys.readouterr().err
