"""A run that is killed, anywhere, goes on as if it had not been: the same losses and the same weights, bit by bit.

Six kills by default, one for each way of training (ZeRO 1 to 3, LoRA on 2 and 3, new rows alone); more of them with

    LLAMA_GENE_KILLS=20 python -m pytest tests/pretrain/test_resume.py -k killed
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from ranks import SAVE_EVERY, STEPS, Nursery
from test_train import history

from training.checkpoints import PARTIAL, newest_complete, read_run

WAYS: dict[str, dict[str, Any]] = {
    "zero1": {},
    "zero2": {"deepspeed": "zero2", "accumulation": 2, "micro_batch": 2},
    "zero3": {"deepspeed": "zero3", "mixture": {"share": {"dna": 2, "protein": 1, "text": 1}}},
    "lora": {"deepspeed": "zero2", "train": "lora", "lora": {"dropout": 0.2}},
    "lora-zero3": {"deepspeed": "zero3", "train": "lora", "rows": "none"},
    "new-rows": {"train": "rows", "rows": "new"},
}
KILLS = int(os.environ.get("LLAMA_GENE_KILLS", "6"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_recipe, nursery: Nursery):
    """Way -> folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")

    def run(way: str) -> Path:
        out = folder / way
        if not out.exists():
            done = nursery.run(make_recipe(out, **WAYS[way]))
            assert done.codes == [0], done.text[-3000:]
        return out

    return run


def assert_same(one: Path, other: Path) -> None:
    for name in ("loss", "heldout"):
        first, second = history(one, name), history(other, name)
        for line in first + second:
            for speed in ("tokens_per_second", "real_tokens_per_second"):
                line.pop(speed, None)
        assert first == second
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    first, second = ({**json.loads((folder / "losses.json").read_text()), "seconds": 0} for folder in (one, other))
    assert first == second


def draw(number: int) -> tuple[str, dict[str, Any]]:
    """The way, step and event of one kill."""
    way = list(WAYS)[number % len(WAYS)]
    chance = random.Random(number)
    event = chance.choice(["step", "step", "saving", "placing", "train_end"])
    steps = {"step": range(1, STEPS + 1), "train_end": [STEPS]}.get(event, range(SAVE_EVERY, STEPS, SAVE_EVERY))
    return way, {"event": event, "step": chance.choice(list(steps))}


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_continues_exactly(nursery, make_recipe, whole, tmp_path, number):
    way, die = draw(number)
    wanted = make_recipe(tmp_path / "model", **WAYS[way])
    killed = nursery.run(wanted, die=die)
    assert killed.codes == [-9], f"{way} {die}\n{killed.text[-3000:]}"
    assert not wanted.out.exists()
    work = tmp_path / "model.checkpoints"
    saved = [
        step for step in range(SAVE_EVERY, STEPS, SAVE_EVERY) if step < die["step"] or (step == die["step"] and die["event"] == "train_end")
    ]
    newest = newest_complete(work)
    assert (newest.name if newest else None) == (f"checkpoint-{saved[-1]}" if saved else None)
    assert (work / PARTIAL / f"checkpoint-{die['step']}").exists() == (die["event"] in ("saving", "placing"))
    done = nursery.run(wanted)
    assert done.codes == [0], f"{way} {die}\n{done.text[-3000:]}"
    assert_same(whole(way), wanted.out)
    assert not work.exists()


def test_killed_again_and_again(nursery, make_recipe, whole, tmp_path):
    """Three kills of one run, the second before the first new checkpoint, the third while one is written."""
    wanted = make_recipe(tmp_path / "model")
    for die in ({"event": "step", "step": 9}, {"event": "step", "step": 11}, {"event": "saving", "step": 12}):
        assert nursery.run(wanted, die=die).codes == [-9]
        assert newest_complete(tmp_path / "model.checkpoints") == tmp_path / "model.checkpoints" / "checkpoint-6"
    assert nursery.run(wanted).codes == [0]
    assert_same(whole("zero1"), wanted.out)


def test_two_ranks_one_of_them_killed(nursery, make_recipe, tmp_path):
    for name in ("whole", "model"):
        wanted = make_recipe(tmp_path / name, ranks=2, micro_batch=2, deepspeed="zero2", steps=9, sample_tokens=0)
        if name == "model":
            killed = nursery.run(wanted, ranks=2, die={"event": "step", "step": 8, "rank": 1})
            assert -9 in killed.codes, killed.text[-3000:]
            assert 0 not in killed.codes
        done = nursery.run(wanted, ranks=2)
        assert done.codes == [0, 0], done.text[-3000:]
    assert_same(tmp_path / "whole", tmp_path / "model")


def test_sigterm_saves_and_leaves(nursery, make_recipe, whole, tmp_path):
    wanted = make_recipe(tmp_path / "model")
    asked = nursery.run(wanted, die={"event": "step", "step": 8, "ask": True})
    assert asked.codes == [143], asked.text[-3000:]
    assert "stopped at step 8 with a checkpoint" in asked.text
    newest = newest_complete(tmp_path / "model.checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-8"
    note = read_run(newest)
    assert note["position"]["blocks"] == 8 * 4
    assert sum(note["position"]["of_modality"].values()) == 8 * 4
    assert nursery.run(wanted).codes == [0]
    assert_same(whole("zero1"), wanted.out)


def test_one_rank_of_two_is_asked_to_stop(nursery, make_recipe, tmp_path):
    """Slurm and people signal whom they like; all ranks save at the same step."""
    wanted = make_recipe(tmp_path / "model", ranks=2, micro_batch=2)
    asked = nursery.run(wanted, ranks=2, die={"event": "step", "step": 3, "rank": 1, "ask": True})
    assert asked.codes == [143, 143], asked.text[-3000:]
    newest = newest_complete(tmp_path / "model.checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-3"


def test_steps_of_another_size_are_refused_and_the_way_out_works(nursery, make_recipe, whole, tmp_path):
    wanted = make_recipe(tmp_path / "model")
    assert nursery.run(wanted, die={"event": "step", "step": 8}).codes == [-9]
    refused = nursery.run(wanted, ranks=2)
    assert 2 in refused.codes
    checkpoint = tmp_path / "model.checkpoints" / "checkpoint-6"
    for words in ("have 4 blocks, now they would have 8", "set micro_batch and accumulation", f"model={checkpoint}"):
        assert words in refused.text
    assert nursery.run(make_recipe(wanted.out, learning_rate=2e-2)).codes == [2]
    anew = nursery.run(make_recipe(tmp_path / "anew", model=checkpoint, ranks=2, micro_batch=2, steps=2), ranks=2)
    assert anew.codes == [0, 0], anew.text[-3000:]
    untrained, begun = (history(folder, "heldout")[0]["heldout"]["dna"] for folder in (whole("zero1"), tmp_path / "anew"))
    assert begun < 0.9 * untrained


UNIVERSAL = {"steps": 8, "save_every": 3, "evaluate_every": 99, "heldout_blocks": 2, "english": None, "sample_tokens": 0}
UNIVERSAL |= {"weight_decay": 0.5, "embedding_learning_rate": 2e-2}  # groups that differ: DeepSpeed's loading mixes them up in ZeRO-3


ADAPTERS = {"train": "lora", "rows": "none", "lora": {"dropout": 0}}  # ranks would draw other numbers


@pytest.mark.parametrize(("stage", "before", "train"), [(1, 1, {}), (2, 1, {}), (3, 1, {}), (3, 2, {}), (2, 1, ADAPTERS), (2, 2, ADAPTERS)])
def test_the_same_command_goes_on_with_other_ranks(nursery, make_recipe, tmp_path, stage, before, train):
    """From one rank to two and from two to one, the losses are those of a run that nobody disturbed."""
    ways = {ranks: {"deepspeed": f"zero{stage}", "ranks": ranks, "micro_batch": 4 // ranks} for ranks in (1, 2)}
    whole = make_recipe(tmp_path / "whole", **UNIVERSAL, **train, **ways[before])
    done = nursery.run(whole, ranks=before)
    assert set(done.codes) == {0}, done.text[-3000:]
    first = make_recipe(tmp_path / "model", **UNIVERSAL, **train, **ways[before])
    assert -9 in nursery.run(first, ranks=before, die={"event": "step", "step": 5}).codes
    after = 3 - before
    other = make_recipe(tmp_path / "model", **UNIVERSAL, **train, **ways[after])
    done = nursery.run(other, ranks=after)
    assert set(done.codes) == {0}, done.text[-3000:]
    expected, found = ([line["loss"] for line in history(recipe.out, "loss")] for recipe in (whole, other))
    assert len(found) == UNIVERSAL["steps"]
    assert found == pytest.approx(expected, abs=1e-5)
