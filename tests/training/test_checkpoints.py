"""An unfinished run goes on from its newest complete checkpoint, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from artefacts.errors import UserError
from artefacts.folder import SEAL, seal
from pretrain.recipe import PretrainRecipe
from training.checkpoints import RUN, check_position, check_run, newest_complete, put_in_place, settings

NAMES = ("model", "shards")


def checkpoint(work: Path, step: int, run: dict | None = None) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"weights of {step:3}")
    (folder / "trainer_state.json").write_text("{}")
    if run is not None:
        (folder / RUN).write_text(json.dumps({"run": run}))
    seal(folder)
    return folder


def test_newest_complete(tmp_path, capfd):
    assert newest_complete(tmp_path / "absent") is None
    checkpoint(tmp_path, 90)
    newest = checkpoint(tmp_path, 100, run={})  # by number, not by name
    shutil.copy(newest / "weights", checkpoint(tmp_path, 110) / "weights")  # of another checkpoint, of the same size
    (checkpoint(tmp_path, 120) / "trainer_state.json").write_text("{]")
    (checkpoint(tmp_path, 130) / "weights").write_text("")  # what a power cut leaves of it
    (checkpoint(tmp_path, 140, run={}) / "weights").unlink()
    (checkpoint(tmp_path, 150) / SEAL).unlink()
    assert newest_complete(tmp_path) == newest
    told = capfd.readouterr().err.splitlines()
    assert [line.partition("checkpoint-")[2] for line in told] == [
        f"{step}: {what}; the one before it is taken"
        for step, what in (
            (150, f"{SEAL} is missing"),
            (140, "weights is missing"),
            (130, "weights is damaged"),
            (120, "trainer_state.json is damaged"),
            (110, "weights is damaged"),
        )
    ]


def test_a_new_checkpoint_is_there_before_an_old_one_goes(tmp_path, monkeypatch):
    for step in (5, 10):
        checkpoint(tmp_path, step)
    written = checkpoint(tmp_path / ".partial", 15)
    seen = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        seen.append((self.name, Path(target).name, sorted(path.name for path in tmp_path.glob("checkpoint-*"))))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    put_in_place(written, tmp_path, 2)
    assert [names for *_, names in seen] == [["checkpoint-10", "checkpoint-5"], ["checkpoint-10", "checkpoint-15", "checkpoint-5"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial", "checkpoint-10", "checkpoint-15"]


def make(tmp_path: Path, **more: object) -> PretrainRecipe:
    for name in NAMES:
        (tmp_path / name).mkdir(exist_ok=True)
        if not (tmp_path / name / "manifest.json").exists():
            (tmp_path / name / "manifest.json").write_text(json.dumps({"created": "today"}))
    return PretrainRecipe(**{"model": tmp_path / "model", "shards": tmp_path / "shards", "out": tmp_path / "out", **more})


def continue_from(work: Path, run: dict) -> Path | None:
    """As a run begins."""
    if (found := newest_complete(work)) is not None:
        check_run(found, run)
    return found


def test_another_run_is_refused(tmp_path, monkeypatch):
    work = tmp_path / "out.checkpoints"
    assert continue_from(work, settings(make(tmp_path, seed=1))) is None
    newest = checkpoint(work, 5, run=settings(make(tmp_path, seed=2)))
    assert continue_from(work, settings(make(tmp_path, seed=2, evaluate_every=7, keep_checkpoints=4))) == newest
    with pytest.raises(UserError, match=rf"seed=2, now it is 1.*model={newest}"):
        continue_from(work, settings(make(tmp_path, seed=1)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"ranks=1, now it is 2.*model="):
        continue_from(work, settings(make(tmp_path, seed=2)))
    monkeypatch.delenv("WORLD_SIZE")
    (tmp_path / "shards" / "manifest.json").write_text(json.dumps({"created": "tomorrow"}))
    with pytest.raises(UserError, match=r"shards=made today, .*, now it is made tomorrow"):
        continue_from(work, settings(make(tmp_path, seed=2)))


def test_inputs_are_known_by_content_not_by_place(tmp_path):
    before = settings(make(tmp_path))
    (tmp_path / "model").rename(tmp_path / "moved")
    moved = settings(make(tmp_path, model=tmp_path / "moved"))
    assert moved == before
    (tmp_path / "moved" / "tokenizer.json").write_text("{}")
    one = settings(make(tmp_path, model=tmp_path / "moved"))["model"]
    (tmp_path / "moved" / "tokenizer.json").write_text("[]")  # of the same size
    assert one != settings(make(tmp_path, model=tmp_path / "moved"))["model"] != before["model"]


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path):
    checkpoint(tmp_path / "work", 5)
    with pytest.raises(UserError, match="remove that folder to start over"):
        continue_from(tmp_path / "work", settings(make(tmp_path)))


def test_other_rows_than_those_that_were_read_are_refused(tmp_path):
    noted = checkpoint(tmp_path / "work", 4)
    (noted / RUN).write_text(json.dumps({"position": {"step": 4, "blocks": 8, "of_modality": {"dna": 5, "text": 3}}}))
    check_position(noted, lambda step: {"step": step, "blocks": 2 * step, "of_modality": {"dna": 5, "text": 3}})
    with pytest.raises(UserError, match="the steps of checkpoint-4 have 2 blocks, now they would have 4; set micro_batch"):
        check_position(noted, lambda step: {"step": step, "blocks": 4 * step, "of_modality": {"dna": 10, "text": 6}})
    with pytest.raises(UserError, match=f"'dna': 5.*would have read others; .*model={noted}"):
        check_position(noted, lambda step: {"step": step, "blocks": 2 * step, "of_modality": {"dna": 6, "text": 2}})
