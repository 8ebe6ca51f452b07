"""A tuning run that is killed goes on as if it had not been: the same losses, metrics and weights, bit by bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from holding import other

from instruct.tune.recipe import InstructRecipe
from training.checkpoints import PARTIAL, newest_complete

WAYS: dict[str, dict[str, Any]] = {
    "lora": {"rows": "all", "lora": {"rank": 4, "alpha": 8, "dropout": 0.2}, "log_every": 5},
    "new-rows-packed-metric": {"rows": "new", "packing": True, "micro_batch": 2, "steps": 16, "metric_every": 4, "loss_per": "task"},
    "all-balanced-zero2": {"train": "all", "rows": "all", "balance": True, "deepspeed": "zero2", "learning_rate": 3e-3},
}
KILLS = [
    ("lora", {"event": "step", "step": 9}),
    ("new-rows-packed-metric", {"event": "saving", "step": 12}),
    ("all-balanced-zero2", {"event": "placing", "step": 12}),
    ("new-rows-packed-metric", {"event": "train_end", "step": 16}),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_tuning, nursery, text_shards):
    """Way -> folder of a run that nobody disturbed."""
    WAYS["new-rows-packed-metric"]["shards"] = text_shards  # documents stand between its records
    folder = tmp_path_factory.mktemp("whole")

    def run(way: str) -> Path:
        out = folder / way
        if not out.exists():
            done = nursery.run(make_tuning(out, save_every=6, **WAYS[way]))
            assert done.codes == [0], done.text[-3000:]
        return out

    return run


def assert_same(one: Path, other: Path) -> None:
    for name in ("history.jsonl", *(path.name for path in one.glob("*.safetensors"))):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(nursery, make_tuning, whole, tmp_path, name):
    wanted = make_tuning(tmp_path / "out", save_every=6, **WAYS["lora"])
    assert nursery.run(wanted, die={"event": "step", "step": 14}).codes == [-9]
    file = tmp_path / "out.checkpoints" / "checkpoint-12" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = nursery.run(wanted)
    assert done.codes == [0], done.text[-3000:]
    assert f"checkpoint-12: {name} is damaged; the one before it is taken" in done.text
    assert_same(whole("lora"), wanted.out)


def test_two_at_one_output(nursery, make_tuning, tmp_path):
    with other(tmp_path / "out") as process:
        refused = nursery.run(make_tuning(tmp_path / "out"))
        assert refused.codes == [2]
        assert f"out: process {process.pid} on" in refused.text
    assert not (tmp_path / "out.checkpoints").exists()


@pytest.mark.parametrize(("way", "die"), KILLS)
def test_a_killed_run_continues_exactly(nursery, make_tuning, whole, tmp_path, way, die):
    wanted: InstructRecipe = make_tuning(tmp_path / "out", save_every=6, **WAYS[way])
    killed = nursery.run(wanted, die=die)
    assert killed.codes == [-9], killed.text[-3000:]
    assert not wanted.out.exists()
    work = tmp_path / "out.checkpoints"
    newest = newest_complete(work)
    assert newest is not None
    assert newest.name == ("checkpoint-12" if die["event"] == "train_end" else "checkpoint-6")
    assert (work / PARTIAL / f"checkpoint-{die['step']}").exists() == (die["event"] in ("saving", "placing"))
    done = nursery.run(wanted)
    assert done.codes == [0], done.text[-3000:]
    assert_same(whole(way), wanted.out)
    told, told_undisturbed = (re.findall(r"step \d+/\d+: loss.+", text) for text in (done.text, whole(way).with_suffix(".log").read_text()))
    assert told
    assert set(told) <= set(told_undisturbed)
    assert not work.exists()


def test_sigterm_saves_and_leaves(nursery, make_tuning, whole, tmp_path):
    wanted = make_tuning(tmp_path / "out", save_every=6, **WAYS["lora"])
    asked = nursery.run(wanted, die={"event": "step", "step": 8, "ask": True})
    assert asked.codes == [143], asked.text[-3000:]
    assert "stopped at step 8 with a checkpoint" in asked.text
    assert nursery.run(wanted).codes == [0]
    assert_same(whole("lora"), wanted.out)


def test_other_settings_are_refused(nursery, make_tuning, tmp_path):
    wanted = make_tuning(tmp_path / "out", save_every=6)
    assert nursery.run(wanted, die={"event": "step", "step": 8}).codes == [-9]
    refused = nursery.run(make_tuning(tmp_path / "out", save_every=6, balance=True))
    assert refused.codes == [2]
    assert "checkpoints of a run with balance=False, now it is True" in refused.text


def test_two_ranks_equal_one(nursery, make_tuning, tmp_path):
    """The rows of a step, and so its gradient, are the same for any number of ranks."""
    losses = []
    for ranks in (1, 2):
        wanted = make_tuning(tmp_path / f"out{ranks}", ranks=ranks, micro_batch=8 // ranks, steps=4, deepspeed="zero2", rows="all")
        done = nursery.run(wanted, ranks=ranks)
        assert done.codes == [0] * ranks, done.text[-3000:]
        lines = (wanted.out / "history.jsonl").read_text().splitlines()
        losses.append([float(part) for line in lines if '"loss"' in line for part in [line.split(":")[-1].strip(" }")]])
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.parametrize(
    "way",
    [
        {"deepspeed": "zero2", "rows": "all"},
        {"deepspeed": "zero3", "train": "all"},
        {"fsdp": True, "train": "all", "rows": "all"},
        {"fsdp": True},
    ],
    ids=str,
)
def test_the_same_command_goes_on_with_other_ranks(nursery, make_tuning, tmp_path, way):
    """Killed on one rank, ended on two: the losses of a run that nobody disturbed."""
    wanted = {ranks: make_tuning(tmp_path / "out", save_every=2, steps=6, ranks=ranks, micro_batch=8 // ranks, **way) for ranks in (1, 2)}
    whole = make_tuning(tmp_path / "whole", steps=6, **{**way, "fsdp": False})
    assert nursery.run(whole).codes == [0]
    assert nursery.run(wanted[1], die={"event": "step", "step": 5}).codes == [-9]
    done = nursery.run(wanted[2], ranks=2)
    assert done.codes == [0, 0], done.text[-3000:]
    losses = [
        [line["loss"] for line in map(json.loads, (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()) if "loss" in line]
        for folder in (whole.out, wanted[2].out)
    ]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
