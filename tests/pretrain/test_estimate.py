"""The estimate against models that are made, and `--dry-run` of everything that ships."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from artefacts.errors import UserError
from artefacts.recipe import load
from configs import CONFIGS
from pretrain.recipe import PretrainRecipe
from pretrain.train import preview
from training import estimate
from training.estimate import Sizes, checkpoint_bytes, memory, planned_sizes, sizes_of, total, trained
from training.loss import CHUNK_BYTES
from training.model import adapter

SHIPPED = sorted((CONFIGS / "pretrain").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_recipes_dry_run(path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = load(PretrainRecipe, path)
    preview(recipe)
    text = capsys.readouterr().out
    for words in ("tokens per step: ", "memory per rank: ", "checkpoint: ", "hours on ", "assumed, not measured"):
        assert words in text
    assert "too little" not in text, "a recipe that ships must fit the hardware it names"


def test_bases_take_a_chunk_in_float32_more(tmp_path):
    shape = {"shape": "llama3-1b", "new_ids": 4096}
    recipes = [
        PretrainRecipe(model=tmp_path, shards=tmp_path, out=tmp_path / "o", planned=shape, loss=loss) for loss in ("chunked", "bases")
    ]
    chunked, bases = (memory(planned_sizes(recipe), recipe, 1, 4096) for recipe in recipes)
    assert bases["loss"] - chunked["loss"] == CHUNK_BYTES  # fp32
    assert {**bases, "loss": 0} == {**chunked, "loss": 0}


def test_all_sizes_ship():
    assert {path.stem for path in SHIPPED} >= {"llama3-1b", "llama3-3b", "llama3-8b", "llama2-7b", "tiny"}


@pytest.mark.parametrize(
    ("shape", "billions"), [("llama3-1b", 1.236), ("llama3-3b", 3.213), ("llama3-8b", 8.030), ("llama2-7b", 6.738)], ids=str
)
def test_shapes_have_the_published_sizes(shape, billions, tmp_path):
    """Parameters as the makers' model cards give them, without new ids."""
    recipe = PretrainRecipe(model=tmp_path, shards=tmp_path, out=tmp_path / "o", planned={"shape": shape, "new_ids": 0})
    sizes = planned_sizes(recipe)
    assert (sizes.body + sizes.vocabulary) / 1e9 == pytest.approx(billions, abs=5e-4)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("train", "rows"), [("all", "all"), ("all", "none"), ("lora", "all"), ("lora", "none"), ("rows", "new")])
def test_parameters_are_those_of_a_real_model(tied, train, rows, tmp_path):
    config = LlamaConfig(
        vocab_size=96, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=16,
        intermediate_size=80, tie_word_embeddings=tied,
    )  # fmt: skip
    recipe = PretrainRecipe(model=tmp_path, shards=tmp_path, out=tmp_path / "o", train=train, rows=rows)
    model = LlamaForCausalLM(config)
    sizes = sizes_of(config)
    assert sizes.body + sizes.vocabulary == sum(parameter.numel() for parameter in model.parameters())
    if train == "lora":
        wrapped = get_peft_model(model, adapter(recipe, config, merged=True))
        moving = {id(p): p.numel() for p in wrapped.parameters() if p.requires_grad}
        assert trained(sizes, recipe) == sum(moving.values())
        assert total(sizes, recipe) == sum({id(p): p.numel() for p in wrapped.parameters()}.values())


def test_zero_divides_what_it_says(tmp_path):
    sizes = Sizes(2, 64, 4, 4, 16, 128, 1000, False, 512)

    def needs(stage: str) -> dict[str, float]:
        return memory(sizes, PretrainRecipe(model=tmp_path, shards=tmp_path, out=tmp_path / "o", deepspeed=stage, precision="bf16"), 8, 128)

    whole = needs("zero0")
    assert whole["optimiser"] == 6 * whole["weights"] == 6 * whole["gradients"]
    for stage, divided in {
        "zero1": {"optimiser"},
        "zero2": {"optimiser", "gradients"},
        "zero3": {"optimiser", "gradients", "weights"},
    }.items():
        found = needs(stage)
        for name, value in whole.items():
            assert found[name] == (value / 8 if name in divided else value), (stage, name)
    assert needs("zero2_offload")["optimiser"] == 0
    assert needs("zero3_offload")["weights"] == 0


def test_checkpoints_are_as_large_as_reckoned(nursery, make_recipe, tmp_path, extended_folder):
    from transformers import AutoConfig

    recipe = make_recipe(tmp_path / "model")
    assert nursery.run(recipe, die={"event": "step", "step": 8}).codes == [-9]
    folder = tmp_path / "model.checkpoints" / "checkpoint-6"
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".pt")]
    found = sum(path.stat().st_size for path in files)
    assert found == pytest.approx(checkpoint_bytes(sizes_of(AutoConfig.from_pretrained(extended_folder)), recipe), rel=0.1)


def test_dry_run_shows_a_sample_and_checks(make_recipe, tmp_path, capsys, extended_folder):
    preview(make_recipe(tmp_path / "out", no_loss_on=["N", "tags"]))
    text = capsys.readouterr().out
    assert "blocks of dna" in text
    sample = text.partition("in brackets:\n")[2]
    assert "[" in sample
    assert "<dna>" in sample or "<protein>" in sample or "TATA" in sample or " the " in sample
    with pytest.raises(UserError, match="choose one of A100"):
        preview(make_recipe(tmp_path / "out", planned={"hardware": "abacus"}))
    config = json.loads((extended_folder / "config.json").read_text())
    folder = tmp_path / "short"
    import shutil

    shutil.copytree(extended_folder, folder)
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10}))
    with pytest.raises(UserError, match="the model's context is 10"):
        preview(make_recipe(tmp_path / "out", model=folder))


def test_the_command_line_prints_it(tmp_path):
    command = [sys.executable, "-m", "llama_gene", "pretrain", "--recipe", str(CONFIGS / "pretrain" / "llama3-8b.yaml"), "--dry-run"]
    done = subprocess.run([*command, "planned.hardware=H200"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "8.52 G" in done.stdout
    assert "hours on 8 x H200" in done.stdout


def test_flops_against_the_profiler():
    """Of the products a backward pass really makes, by torch's own counter (attention's share and the embedding aside)."""
    from torch.utils.flop_counter import FlopCounterMode

    config = LlamaConfig(vocab_size=512, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256)
    model = LlamaForCausalLM(config)
    ids = torch.randint(512, (1, 64))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    recipe = PretrainRecipe(model=Path("m"), shards=Path("s"), out=Path("o"))
    mine = estimate.flops_per_token(sizes_of(config), recipe, 64) * 64
    assert counter.get_total_flops() == pytest.approx(mine, rel=0.1)


def test_fsdp_needs_what_zero3_needs(tmp_path):
    """In float32 weights, gradients and moments, where DeepSpeed has bf16 and a float32 copy; of the trained ones the sum is the same."""
    found = []
    for way in ({"deepspeed": "zero3"}, {"deepspeed": None, "fsdp": True}):
        recipe = PretrainRecipe(
            model=tmp_path, shards=tmp_path, out=tmp_path / "o", planned={"shape": "llama3-1b"}, precision="bf16", **way
        )
        found.append(memory(planned_sizes(recipe), recipe, 8, 4096))
    zero3, fsdp = found
    states = ("weights", "gradients", "optimiser")
    assert sum(fsdp[name] for name in states) == pytest.approx(sum(zero3[name] for name in states))
    assert fsdp["activations"] == zero3["activations"]
