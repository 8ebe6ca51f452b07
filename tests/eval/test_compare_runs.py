"""`eval compare`: two runs, the same resamples, and tests corrected for how many tasks there are."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from invented_run import make_line, write_lines
from scipy.stats import norm

import llama_gene
from artefacts.errors import UserError
from eval.judge.bootstrap import Sampled
from eval.judge.compare import CompareRecipe, compare, holm
from eval.judge.score import score
from eval.predictions import read_lines


def predicted(folder: Path, name: str, skill: float, seed: int, tasks: tuple[str, ...] = ()) -> Path:
    records = [record for record in read_lines(folder / "records" / "test.jsonl") if not tasks or record["task"] in tasks]
    draw = random.Random(seed)
    write_lines(folder / name / "llama-gene.jsonl", [make_line(record, skill, draw) for record in records])
    return folder / name


def test_the_better_run_is_found_and_the_figures_are_those_of_score(invented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, poor = predicted(invented, "good", 0.9, 1), predicted(invented, "poor", 0.1, 2, ("bench/species", "sim/promoter"))
    out = invented / "compared.json"
    llama_gene.main(["eval", "compare", str(poor), str(good), "--records", str(invented / "records"), "--out", str(out)])
    assert "good on 2" in capsys.readouterr().out
    document = json.loads(out.read_text(encoding="utf-8"))
    assert [task["task"] for task in document["tasks"]] == ["sim/promoter", "bench/species"]
    alone = {task["task"]: task for task in score(invented / "records", good, invented / "m.json", seed=0)["tasks"]}
    for task in document["tasks"]:
        same = alone[task["task"]]["systems"]["llama-gene"]["metrics"][task["metric"]]
        assert task["good"] == same
        assert task["difference"]["value"] == pytest.approx(task["poor"]["value"] - task["good"]["value"], abs=2e-6)
        assert task["p_holm"] >= task["difference"]["p"]
        assert task["better"] == "good"


def test_a_run_beside_its_copy_with_another_seed_is_undecided(invented: Path) -> None:
    runs = [predicted(invented, name, 0.5, seed) for name, seed in (("a", 1), ("b", 2))]
    document = compare(CompareRecipe(runs=runs, records=invented / "records", out=invented / "compared.json"))
    assert all(task["better"] is None for task in document["tasks"])


def test_folders_of_several_systems_and_of_one_name_are_refused(invented: Path) -> None:
    run = predicted(invented, "a", 0.5, 1)
    write_lines(run / "other.jsonl", list(read_lines(run / "llama-gene.jsonl"))[:-1])
    recipe = {"records": invented / "records", "out": invented / "compared.json"}
    with pytest.raises(UserError, match=r"predictions of 2 systems \(llama-gene, other\)"):
        compare(CompareRecipe(runs=[run, invented / "predictions"], **recipe))
    with pytest.raises(UserError, match="have the same name"):
        compare(CompareRecipe(runs=[invented / "predictions"] * 2, **recipe))


def test_holm_is_the_textbook_s() -> None:
    """Holm (1979): the smallest times how many there are, the next times one fewer, never falling; an undefined one counts as no test."""
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [0.03, 0.06, None, 0.06, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_p_value_is_that_of_a_normal_difference() -> None:
    samples = np.random.default_rng(0).normal(0.1, 0.05, 200_000)
    assert Sampled(0.1, samples).p_value() == pytest.approx(2 * norm.cdf(-2), rel=0.05)
    assert Sampled(0.1, np.abs(samples[:1000]) + 1).p_value() == pytest.approx(2 / 1001, abs=1e-6)
    assert Sampled(0.1, np.array([np.nan])).p_value() is None
