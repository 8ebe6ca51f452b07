"""An unfinished run goes on from its newest complete checkpoint, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artefacts.checkpoints import continue_from, newest_complete, settings
from artefacts.errors import UserError
from pretrain.recipe import PretrainRecipe


def checkpoint(work: Path, step: int, state: str | None = "{}") -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "trainer_state.json").write_text(state)
    return folder


def test_newest_complete(tmp_path):
    assert newest_complete(tmp_path / "absent") is None
    checkpoint(tmp_path, 90)
    newest = checkpoint(tmp_path, 100)  # by number, not by name
    checkpoint(tmp_path, 110, state='{"global_step": 11')
    checkpoint(tmp_path, 120, state=None)
    assert newest_complete(tmp_path) == newest


def make(tmp_path: Path, **more: object) -> PretrainRecipe:
    for name in ("model", "shards"):
        (tmp_path / name).mkdir(exist_ok=True)
        if not (tmp_path / name / "manifest.json").exists():
            (tmp_path / name / "manifest.json").write_text(json.dumps({"created": "today"}))
    return PretrainRecipe(model=tmp_path / "model", shards=tmp_path / "shards", out=tmp_path / "out", **more)


def test_another_run_is_refused(tmp_path, monkeypatch):
    work = tmp_path / "out.checkpoints"
    names = ("model", "shards")
    assert continue_from(work, settings(make(tmp_path, seed=1), names)) is None
    assert continue_from(work, settings(make(tmp_path, seed=2), names)) is None  # nothing was trained yet: simply start
    newest = checkpoint(work, 5)
    assert continue_from(work, settings(make(tmp_path, seed=2, evaluate_every=7, keep_checkpoints=4), names)) == newest
    with pytest.raises(UserError, match="seed=2, now it is 1"):
        continue_from(work, settings(make(tmp_path, seed=1), names))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="ranks=1, now it is 2"):
        continue_from(work, settings(make(tmp_path, seed=2), names))
    monkeypatch.delenv("WORLD_SIZE")
    (tmp_path / "shards" / "manifest.json").write_text(json.dumps({"created": "tomorrow"}))
    with pytest.raises(UserError, match=r"shards of today, now it is .*shards of tomorrow"):
        continue_from(work, settings(make(tmp_path, seed=2), names))


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path):
    checkpoint(tmp_path / "work", 5)
    with pytest.raises(UserError, match="remove that folder to start over"):
        continue_from(tmp_path / "work", settings(make(tmp_path), ("model", "shards")))
