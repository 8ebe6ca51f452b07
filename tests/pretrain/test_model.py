"""Which weights a run moves, and that all others stay as they are, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_train import losses

from artefacts.errors import UserError
from data_convert.corpus.pack import PackRecipe, Source, pack
from pretrain.recipe import PretrainRecipe, Spikes
from pretrain.trainer import Guard, GuardedAdamW, parameter_groups
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base
from tokenizer.saving import new_ids

FEW = {"steps": 3, "evaluate_every": 99, "heldout_blocks": 2, "english": None, "sample_tokens": 0, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def tied(tmp_path_factory, text_file, extended_folder, corpus) -> tuple[Path, Path]:
    """A base whose two vocabulary matrices are one, extended, and shards for it."""
    folder = tmp_path_factory.mktemp("tied")
    create_base(
        CreateBase(
            out=folder / "base", text=[text_file], vocab_size=400, hidden_size=32, layers=2, heads=2, kv_heads=1,
            intermediate_size=64, tied=True,
        )
    )  # fmt: skip
    around = extended_folder.parent
    extend_base(Extend(base=folder / "base", dna=around / "dna.json", protein=around / "protein.json", out=folder / "extended"))
    sources = [Source(modality="dna", files=[corpus / "dna.train.fa"], heldout_files=[corpus / "dna.heldout.fa"])]
    pack(PackRecipe(tokenizer=folder / "extended", out=folder / "shards", block_tokens=128, sources=sources))
    return folder / "extended", folder / "shards"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero3", None])
def test_the_first_phase_trains_new_rows_alone(nursery, make_recipe, extended_folder, tmp_path, deepspeed):
    done = nursery.run(make_recipe(tmp_path / "model", train="rows", rows="new", deepspeed=deepspeed, **FEW))
    assert done.codes == [0], done.text[-3000:]
    before, after = weights(extended_folder), weights(tmp_path / "model")
    assert moved(before, after) == {"model.embed_tokens.weight", "lm_head.weight"}
    new = set(new_ids(extended_folder))
    for name in moved(before, after):
        rows = (before[name] != after[name]).any(dim=1).nonzero()[:, 0].tolist()
        assert rows
        assert set(rows) <= new
    pieces = json.loads((extended_folder / "new_ids.json").read_text())["pieces"]["dna"]
    heads = (before["lm_head.weight"] != after["lm_head.weight"]).any(dim=1)
    assert heads[pieces[0] : pieces[1] + 1].all(), "the softmax reaches every new row of the head"
    counts = json.loads((tmp_path / "model" / "losses.json").read_text())
    assert counts["trained"] == sum(before[name].numel() for name in ("model.embed_tokens.weight", "lm_head.weight"))


@pytest.mark.parametrize(
    ("rows", "deepspeed"), [("all", "zero1"), ("new", "zero2"), ("none", "zero1"), ("all", "zero3"), ("new", None)], ids=str
)
def test_lora_moves_the_targets_and_the_rows_it_should(nursery, make_recipe, extended_folder, tmp_path, rows, deepspeed):
    lora = {"rank": 4, "targets": ["q_proj", "down_proj"], "dropout": 0.0}
    done = nursery.run(make_recipe(tmp_path / "model", train="lora", rows=rows, lora=lora, deepspeed=deepspeed, **FEW))
    assert done.codes == [0], done.text[-3000:]
    before, after = weights(extended_folder), weights(tmp_path / "model")
    body = {name for name in moved(before, after) if "layers" in name}
    assert body == {f"model.layers.{layer}.{name}.weight" for layer in (0, 1) for name in ("self_attn.q_proj", "mlp.down_proj")}
    vocabulary = moved(before, after) - body
    assert vocabulary == (set() if rows == "none" else {"model.embed_tokens.weight", "lm_head.weight"})
    old = sorted(set(range(len(before["lm_head.weight"]))) - set(new_ids(extended_folder)))
    for name in vocabulary:
        assert torch.equal(before[name][old], after[name][old]) == (rows == "new")


@pytest.mark.parametrize("train", ["lora", "rows", "all"])
def test_a_tied_model_stays_tied(nursery, make_recipe, tied, tmp_path, train):
    model, shards = tied
    done = nursery.run(make_recipe(tmp_path / "model", model=model, shards=shards, train=train, rows="new", **FEW))
    assert done.codes == [0], done.text[-3000:]
    before, after = weights(model), weights(tmp_path / "model")
    assert "lm_head.weight" not in after
    rows = (before["model.embed_tokens.weight"] != after["model.embed_tokens.weight"]).any(dim=1).nonzero()[:, 0].tolist()
    assert rows
    assert set(rows) <= set(new_ids(model))
    from transformers import AutoModelForCausalLM

    loaded, problems = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(problems[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.tie_word_embeddings
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_the_merged_model_is_the_one_that_was_measured(nursery, make_recipe, tmp_path, extended_folder):
    """Adapters beside the weights, or merged into them: the same held-out bits."""
    lora = {"rank": 4, "alpha": 64, "dropout": 0.0}
    tuned = make_recipe(tmp_path / "model", train="lora", lora=lora, **{**FEW, "learning_rate": 3e-2})
    assert nursery.run(tuned).codes == [0]
    after = json.loads((tuned.out / "losses.json").read_text())
    done = nursery.run(make_recipe(tmp_path / "again", model=tuned.out, **{**FEW, "steps": 1}))
    assert done.codes == [0], done.text[-3000:]
    again = json.loads((tmp_path / "again" / "losses.json").read_text())
    for name, value in after["after"].items():
        assert again["before"][name]["bits_per_letter"] == pytest.approx(value["bits_per_letter"], rel=1e-5)
        assert value["bits_per_letter"] != pytest.approx(after["before"][name]["bits_per_letter"], rel=1e-3)


def test_new_ids_are_explicit(extended_folder, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    found = new_ids(extended_folder)
    assert set(tokenizer("<dna>ACGTTTAC</dna>", add_special_tokens=False).input_ids) <= set(found)
    assert not set(tokenizer("The gene", add_special_tokens=False).input_ids) & set(found)
    assert len(found) == json.loads((extended_folder / "manifest.json").read_text())["counts"]["new_ids"]
    with pytest.raises(UserError, match=r"no new_ids\.json"):
        new_ids(tmp_path)


class Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(5, 2)
        self.up_proj = torch.nn.Linear(2, 2, bias=False)
        self.norm = torch.nn.LayerNorm(2, bias=False)
        self.lm_head = torch.nn.Linear(2, 5, bias=False)


def test_embeddings_have_a_rate_of_their_own_and_no_decay(tmp_path):
    recipe = PretrainRecipe(
        model=tmp_path, shards=tmp_path, out=tmp_path / "o", learning_rate=1e-3, embedding_learning_rate=5e-3, weight_decay=0.2
    )
    model = Toy()
    model.norm.weight.requires_grad_(False)
    groups = parameter_groups(model, recipe, ["embed_tokens.weight", "up_proj.weight", "lm_head.weight"])
    assert [(group["weight_decay"], group["lr"], len(group["params"])) for group in groups] == [(0.2, 1e-3, 1), (0.0, 5e-3, 2)]
    assert groups[0]["params"][0] is model.up_proj.weight


def test_a_skipped_step_leaves_no_trace():
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = GuardedAdamW([weight], lr=0.1)
    weight.grad = torch.ones(3)
    optimiser.step()
    before, moments = weight.detach().clone(), optimiser.state[weight]["exp_avg"].clone()
    optimiser.skip = True
    weight.grad = torch.full((3,), 1e9)
    optimiser.step()
    assert torch.equal(weight, before)
    assert torch.equal(optimiser.state[weight]["exp_avg"], moments)


def test_what_is_a_spike():
    steady = [5.0 + 0.01 * (number % 7) for number in range(40)]
    guard = Guard(Spikes(then="skip", window=32, sigmas=6))
    assert not guard.judge(5.1, steady, 41)
    assert guard.judge(7.0, steady, 41)
    assert not guard.judge(7.0, steady[:20], 21), "too few steps were seen"
    assert guard.judge(float("nan"), [], 1)
    with pytest.raises(UserError, match="step 41: the loss, 7, stands far above"):
        Guard(Spikes(then="stop", window=32)).judge(7.0, steady, 41)
    assert not Guard(Spikes()).judge(70.0, steady, 41)
    with pytest.raises(UserError, match="is no number"):
        Guard(Spikes()).judge(float("inf"), steady, 41)


@pytest.mark.parametrize(("then", "deepspeed"), [("skip", "zero1"), ("skip", "zero3"), ("skip", None), ("stop", "zero1")])
def test_spikes_in_a_run(nursery, make_recipe, extended_folder, tmp_path, then, deepspeed):
    """With a limit that any loss passes, every step behind the window is one."""
    spikes: dict[str, Any] = {"then": then, "window": 8, "sigmas": 1e-9}
    steady = {**FEW, "steps": 12, "learning_rate": 1e-9, "schedule": "constant_with_warmup", "warmup": 0.0, "save_every": 5}
    done = nursery.run(make_recipe(tmp_path / "model", spikes=spikes, deepspeed=deepspeed, **steady))
    if then == "stop":
        assert done.codes == [2]
        assert "stands far above the 8 before it" in done.text
        assert (tmp_path / "model.checkpoints" / "checkpoint-5").is_dir()
        return
    assert done.codes == [0], done.text[-3000:]
    skipped = [line for line in done.text.splitlines() if "the step is skipped" in line]
    assert skipped
    assert len(losses(tmp_path / "model")) == 12
