"""`eval leaderboard`: figures of several documents in one table, none of them changed on the way."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import rankdata

import llama_gene
from artefacts.errors import UserError
from eval.judge.ranks import critical_difference
from eval.show.leaderboard import LeaderboardRecipe, leaderboard, ranks, standings_of


def document(seed: int, tasks: tuple[str, ...] = ("a", "b", "c"), metric: str = "mcc", n: int = 100) -> dict[str, Any]:
    draw = random.Random(seed)
    found = []
    for task in tasks:
        systems = {}
        for name in ("ours", "kmer", "majority", "ours@shuffled"):
            value = round(draw.random(), 6)
            systems[name] = {"metrics": {metric: {"value": value, "low": value - 0.05, "high": value + 0.05}}}
        published = [{"model": "theirs", "metric": metric, "value": 0.9, "source": "a paper", "note": ""}]
        found.append({
            "task": task, "simulated": False, "split": "test", "split_note": "official", "n": n, "n_train": 9, "primary_metric": metric,
            "systems": systems, "published": published,
        })  # fmt: skip
    return {"provenance": {"seed": seed, "commit": f"c{seed}"}, "tasks": found}


def put(folder: Path, *documents: dict[str, Any]) -> list[Path]:
    paths = [folder / f"{number}.json" for number, _ in enumerate(documents)]
    for path, one in zip(paths, documents, strict=True):
        path.write_text(json.dumps(one), encoding="utf-8")
    return paths


def test_every_figure_of_every_document_is_a_row_and_the_best_of_a_task_is_bold(tmp_path, capsys):
    first, second = document(1, ("a", "b")), document(2, ("c",))
    files = put(tmp_path, first, second)
    llama_gene.main(["eval", "leaderboard", *map(str, files), "--out", str(tmp_path / "board")])
    assert "average rank" in capsys.readouterr().out
    with (tmp_path / "board" / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    given = {
        (task["task"], name): own["metrics"]["mcc"]["value"]
        for one in (first, second)
        for task in one["tasks"]
        for name, own in task["systems"].items()
        if "@" not in name
    }
    assert {(row["task"], row["system"]): float(row["value"]) for row in rows if row["published"] == "False"} == given
    assert sum(row["published"] == "True" for row in rows) == 3
    assert rows == [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in json.loads((tmp_path / "board" / "leaderboard.json").read_text("utf-8"))
    ]
    page = (tmp_path / "board" / "leaderboard.md").read_text("utf-8")
    for task in "abc":
        best = max(value for (name, _), value in given.items() if name == task)
        line = next(line for line in page.splitlines() if line.startswith(f"| {task} "))
        assert line.count("**") == 2
        assert f"**{best:.3f}**" in line
        assert "0.900 theirs" in line


def test_several_runs_are_a_mean_with_their_spread_and_their_widest_interval(tmp_path):
    documents = [document(seed, ("a",)) for seed in (1, 2, 3)]
    rows = standings_of(dict(zip(put(tmp_path, *documents), documents, strict=True)))
    values = [one["tasks"][0]["systems"]["ours"]["metrics"]["mcc"]["value"] for one in documents]
    ours = next(row for row in rows if row["system"] == "ours")
    assert ours["runs"] == 3
    assert ours["seed"] == "1 2 3"
    assert ours["commit"] == "c1 c2 c3"
    assert ours["value"] == pytest.approx(sum(values) / 3, abs=1e-6)
    assert (ours["low"], ours["high"]) == (min(values) - 0.05, max(values) + 0.05)
    assert next(row for row in rows if row["published"])["runs"] == 1


@pytest.mark.parametrize("other", [{"metric": "accuracy"}, {"n": 99}])
def test_figures_of_another_test_are_refused(tmp_path, other):
    files = put(tmp_path, document(1, ("a",)), document(2, ("a",), **other))
    with pytest.raises(UserError, match="not the same test"):
        leaderboard(LeaderboardRecipe(metrics=files, out=tmp_path / "board"))
    assert not (tmp_path / "board").exists()


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics.json: no tasks or provenance"):
        leaderboard(LeaderboardRecipe(metrics=[tmp_path], out=tmp_path / "board"))


def test_ranks_are_those_of_the_tasks_that_all_have_and_errors_rank_the_other_way(tmp_path):
    one = document(1)
    del one["tasks"][2]["systems"]["kmer"]
    one["tasks"][1]["primary_metric"] = "mae"
    for own in one["tasks"][1]["systems"].values():
        own["metrics"]["mae"] = own["metrics"].pop("mcc")
    found = ranks(standings_of({tmp_path / "x": one}))
    names = ["kmer", "majority", "ours"]
    first, second = ([task["systems"][name]["metrics"][task["primary_metric"]]["value"] for name in names] for task in one["tasks"][:2])
    expected = (rankdata([-value for value in first]) + rankdata(second)) / 2
    assert found.tasks == 2
    assert [found.average[name] for name in names] == pytest.approx(expected)


def test_the_critical_difference_is_demsars():
    """His table 5a: q = 2.343 for three systems, 2.850 for six, 2.569 for four."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=2e-3)
    assert critical_difference(3, 10) == pytest.approx(2.343 * (3 * 4 / 60) ** 0.5, abs=2e-3)
