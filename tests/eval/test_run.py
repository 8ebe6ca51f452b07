"""`eval run`: several models to one report, continuing where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asked_records import of_cards, read

import llama_gene


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_cards(tmp_path_factory.mktemp("run") / "records", ["sim/promoter", "sim/stability"], 10)


def test_run(asked: Path, model_folder: Path, extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "eval"
    recipe = tmp_path / "run.yaml"
    recipe.write_text(
        f"title: Two models\nrecords: {asked}\nout: {out}\n"
        f"models:\n  llama-gene: {{model: {model_folder}}}\n  quiet: {{model: {extended_folder}}}\n"
        "predict: {controls: [shuffled, permuted], batch_tokens: 2000}\nscore: {seed: 5}\n",
        encoding="utf-8",
    )

    def run(*more: str) -> list[str]:
        capsys.readouterr()
        assert llama_gene.main(["eval", "run", "--recipe", str(recipe), *more]) == 0, capsys.readouterr().err
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("[", "#"))]

    names = ["predict llama-gene", "predict quiet", "retention", "score", "report"]
    assert [line.split(":")[0] for line in run("--dry-run")] == [f"# {name}" for name in names]
    assert not out.exists()
    assert run() == [f"[{number}/5] {name}" for number, name in enumerate(names, 1)]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    expected = [f"{model}{control}" for model in ("llama-gene", "quiet") for control in ("", "@permuted", "@shuffled")]
    by_task = {task["task"]: sorted(task["systems"]) for task in metrics["tasks"]}
    assert by_task == {"sim/promoter": expected, "sim/stability": [name for name in expected if "permuted" not in name]}
    assert metrics["provenance"]["seed"] == 5
    assert "Two models" in (out / "report.html").read_text(encoding="utf-8")
    assert len(json.loads((out / "retention.json").read_text(encoding="utf-8"))["models"]) == 2
    assert all(line.endswith("done already") for line in run())

    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("seed: 5", "seed: 6"), encoding="utf-8")
    assert [line.endswith("done already") for line in run()] == [True, True, True, False, False]
    manifest = out / "predictions" / "quiet" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"batch_tokens": 2000', '"batch_tokens": 1000'), encoding="utf-8")
    before = read(out / "predictions" / "quiet" / "quiet.jsonl")
    assert [line.endswith("done already") for line in run()] == [True, False, True, False, False]
    assert read(out / "predictions" / "quiet" / "quiet.jsonl") == before
    lines = (asked / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (asked / "test.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    assert [line.endswith("done already") for line in run()] == [False, False, True, False, False]
    (asked / "test.jsonl").write_text("".join(lines), encoding="utf-8")


def test_mistakes_before_the_first_step(asked: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["eval", "run", "--records", str(asked), "--out", str(tmp_path / "out"), f"models.a.model={model_folder}"]
    for more, message in (
        (["score.sed=3"], "eval run, step score: unknown key 'sed'; did you mean 'seed'?"),
        (["models.b.model=absent"], "absent/config.json: no such model"),
        (["models.b.mode=x"], "unknown key 'models.b.mode'"),
        (["models={a@b: {model: x}}"], "eval run, step predict a@b: 'system'"),
        (["predictions=[absent]"], "absent: no such folder of predictions"),
    ):
        assert llama_gene.main([*start, *more]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
