"""One rule for what is done: the output with its manifest, of this recipe, no older than what the step reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from artefacts.folder import manifest_path, new_folder, write_manifest
from artefacts.recipe import Recipe
from artefacts.steps import Step, done, run_steps


class Read(Recipe):
    WRITES = ("out", "log")
    out: Path
    log: Path | None = None
    reads: list[Path] = []
    name: str = ""


class Steps:
    """Steps that note what ran."""

    def __init__(self, *recipes: Read) -> None:
        self.ran: list[str] = []
        self.steps = [Step(recipe.out.name, recipe, self.work(recipe)) for recipe in recipes]

    def work(self, recipe: Read):
        def run(replace: bool) -> None:
            self.ran.append(recipe.out.name)
            with new_folder(recipe.out, overwrite=replace) as folder:
                write_manifest(folder, "test", recipe=recipe.model_dump(mode="json"), inputs={}, counts={})
            if recipe.log is not None:
                recipe.log.write_text(recipe.out.name)

        return run

    def go(self, overwrite: bool = False) -> list[str]:
        self.ran.clear()
        run_steps(self.steps, overwrite)
        return list(self.ran)


def later(path: Path) -> None:
    """As if it had been changed now, after all that is there."""
    newest = max(file.stat().st_mtime_ns for file in path.parent.parent.rglob("*"))
    os.utime(path, ns=(newest + 1_000_000, newest + 1_000_000))


def test_what_depends_on_a_change_runs_again_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, log = tmp_path / "source" / "file", tmp_path / "gathered"
    source.parent.mkdir()
    source.write_text("1")
    run = tmp_path / "run"
    steps = Steps(
        Read(out=run / "pre", reads=[source], log=log),
        Read(out=run / "pretrained", log=log),
        Read(out=run / "model", reads=[run / "pretrained" / "weights"]),
        Read(out=run / "both", name=f"{run}/pre+{run}/model"),
    )
    assert steps.go() == ["pre", "pretrained", "model", "both"]
    capsys.readouterr()
    assert steps.go() == [], "what a step writes beside its output is nothing that it reads"
    assert capsys.readouterr().out.splitlines()[0] == "[1/4] pre: done already"
    later(source)
    assert not done(steps.steps[0])
    os.utime(source, ns=(0, 0))
    manifest_path(run / "pretrained").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="so --overwrite does not remove it"):
        steps.go()
    manifest_path(run / "pretrained").write_text(json.dumps({"stage": "", "recipe": {}, "created": ""}), encoding="utf-8")
    assert steps.go() == ["pretrained", "model", "both"]
    assert steps.go(overwrite=True) == ["pre", "pretrained", "model", "both"]


def test_an_output_of_an_earlier_version_is_done_where_what_is_new_is_at_its_default(tmp_path: Path) -> None:
    """A version with one more field would otherwise train for hours again what it has."""
    steps = Steps(Read(out=tmp_path / "out", name="same"))
    steps.go()
    path = manifest_path(tmp_path / "out")
    noted = json.loads(path.read_text(encoding="utf-8"))
    for recipe, done_already in (({"out": noted["recipe"]["out"], "name": "same"}, True), ({"out": noted["recipe"]["out"]}, False)):
        path.write_text(json.dumps({**noted, "recipe": recipe}), encoding="utf-8")
        assert done(steps.steps[0]) is done_already


def test_inputs_by_content(tmp_path: Path) -> None:
    (step,) = Steps(Read(out=tmp_path / "out")).steps
    step.run(False)
    assert done(step)
    assert done(Step("a", step.recipe, step.run, inputs=dict))
    assert not done(Step("a", step.recipe, step.run, inputs=lambda: {"model": "another"}))


def test_a_folder_of_several_sources_is_visited_again_and_what_reads_it_is_not(tmp_path: Path) -> None:
    """`convert fetch` notes each source below its output, and keeps files that are right."""
    out = tmp_path / "run" / "data"

    def fetch(replace: bool) -> None:
        steps.ran.append("data")
        (out / "one").mkdir(parents=True, exist_ok=True)
        if not (out / "one" / "file").exists():
            (out / "one" / "file").write_text("1")
        (out / "one" / "manifest.json").write_text("{}")

    steps = Steps(Read(out=tmp_path / "run" / "read", reads=[out / "one" / "file"]))
    steps.steps.insert(0, Step("data", Read(out=out), fetch))
    assert steps.go() == ["data", "read"]
    later(out / "one" / "manifest.json")
    assert steps.go() == ["data"]
    later(out / "one" / "file")
    assert steps.go() == ["data", "read"]
