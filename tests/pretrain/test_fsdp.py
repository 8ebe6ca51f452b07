"""FSDP2 on two CPU ranks over gloo: the losses of one process, whatever is trained, and so behind a kill on any number of ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from artefacts.errors import UserError
from artefacts.recipe import load
from pretrain.recipe import PretrainRecipe

SHORT: dict[str, Any] = {"steps": 6, "evaluate_every": 99, "heldout_blocks": 4, "english": None, "sample_tokens": 3, "save_every": 2}
SPREAD: dict[str, Any] = {"deepspeed": None, "fsdp": True, "ranks": 2, "micro_batch": 2}

ADAPTERS: dict[str, Any] = {"train": "lora", "rows": "none", "lora": {"dropout": 0}}  # ranks draw other numbers


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("more", "far"),
    [
        ({}, 1e-5),
        ({"micro_batch": 1, "accumulation": 2}, 1e-5),
        ({"activation_checkpointing": True}, 1e-5),
        ({"rows": "new"}, 1e-5),
        ({"train": "rows", "rows": "new"}, 1e-5),
        (ADAPTERS, 1e-5),
        ({"precision": "bf16"}, 5e-3),
    ],
    ids=str,
)
def test_two_ranks_have_the_losses_of_one_process(nursery, make_recipe, extended_folder, tmp_path, more, far):
    own = {name: value for name, value in more.items() if name not in ("micro_batch", "accumulation")}
    one, two = make_recipe(tmp_path / "one", deepspeed=None, **SHORT, **own), make_recipe(tmp_path / "two", **{**SHORT, **SPREAD, **more})
    for recipe in (one, two):
        done = nursery.run(recipe, ranks=recipe.ranks)
        assert set(done.codes) == {0}, done.text[-3000:]
    assert losses(two.out) == pytest.approx(losses(one.out), abs=far)
    counts = [json.loads((recipe.out / "losses.json").read_text(encoding="utf-8")) for recipe in (one, two)]
    assert [found["parameters"] for found in counts] == [counts[0]["parameters"]] * 2
    assert counts[0]["trained"] == counts[1]["trained"]
    assert "distributed_config" not in (two.out / "config.json").read_text(encoding="utf-8")
    AutoModelForCausalLM.from_pretrained(two.out)
    if own.get("rows") == "new":
        before, after = (load_file(folder / "model.safetensors") for folder in (extended_folder, two.out))
        old = json.loads((extended_folder.parent / "base" / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert before[name][:old].equal(after[name][:old])
            assert not before[name][old:].equal(after[name][old:])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("train", [{}, ADAPTERS], ids=["all", "lora"])
def test_a_killed_run_goes_on_with_any_number_of_ranks(nursery, make_recipe, tmp_path, train, before, after):
    """By the same command: weights and optimiser lie in the checkpoint by their names, not by ranks."""
    whole = make_recipe(tmp_path / "whole", deepspeed=None, **SHORT, **train)
    assert nursery.run(whole).codes == [0]
    parts = {
        number: make_recipe(tmp_path / "model", **{**SHORT, **SPREAD, **train, "ranks": number, "micro_batch": 4 // number})
        for number in (1, 2)
    }
    assert -9 in nursery.run(parts[before], ranks=before, die={"event": "step", "step": 5}).codes
    done = nursery.run(parts[after], ranks=after)
    assert set(done.codes) == {0}, done.text[-3000:]
    assert losses(whole.out) == pytest.approx(losses(parts[after].out), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["fsdp=true"], "fsdp takes the place of DeepSpeed, and deepspeed is zero1; set deepspeed=null or fsdp=false"),
        (["fsdp=true", "deepspeed=null", "train=lora"], "train=lora with rows=all needs DeepSpeed"),
        (["deepspeed=null", "ranks=2"], "set deepspeed=zero1 or fsdp=true"),
    ],
)
def test_what_does_not_go_together(words, match):
    with pytest.raises(UserError, match=match):
        load(PretrainRecipe, None, ["model=m", "shards=s", "out=o", *words])
