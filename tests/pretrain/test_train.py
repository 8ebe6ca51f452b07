"""Pre-training end to end in processes of its own, as a launcher would start them.

`golden_losses.json` holds the training losses of a fixed seed. After a change that is meant to change them, record anew:

    LLAMA_GENE_RECORD=1 python -m pytest tests/pretrain/test_train.py -k golden
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import ENVIRONMENT, STEPS

from artefacts.folder import read_manifest
from artefacts.recipe import dump
from data_convert.corpus.pack import PackRecipe, Source, pack

GOLDEN = Path(__file__).with_name("golden_losses.json")


def history(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if name in line]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in history(folder, "loss")]


def test_heldout_bits_fall(pretrained):
    losses = json.loads((pretrained / "losses.json").read_text())
    for modality in ("dna", "protein", "text"):
        assert losses["after"][modality]["bits_per_letter"] < 0.9 * losses["before"][modality]["bits_per_letter"]
    heldout = history(pretrained, "heldout")
    assert [line["step"] for line in heldout] == [0, 8, 16, STEPS]
    for line, place in ((heldout[0], "before"), (heldout[-1], "after")):
        assert line["heldout"] == {name: value["bits_per_letter"] for name, value in losses[place].items()}
    assert losses["after"].keys() == {"dna", "protein", "text", "english"}
    assert losses["steps"] == STEPS
    assert losses["tokens"] == STEPS * 4 * 128
    assert sum(losses["blocks"].values()) == STEPS * 4
    assert losses["seconds"] > 0
    assert [line["step"] for line in history(pretrained, "loss")] == list(range(1, STEPS + 1))
    for line in history(pretrained, "loss"):
        assert line["tokens_per_second"] > line["real_tokens_per_second"] > 0


def test_the_folder_is_plain(pretrained, extended_folder, shards):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, loading = AutoModelForCausalLM.from_pretrained(pretrained, output_loading_info=True)
    assert not any(loading[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before = AutoModelForCausalLM.from_pretrained(extended_folder)
    assert model.config.vocab_size == before.config.vocab_size
    assert (model.lm_head.weight != before.lm_head.weight).any()
    text = "The gene <dna>ACGTNACGATTAG</dna> makes <protein>MKV*</protein>, naïve."
    assert AutoTokenizer.from_pretrained(pretrained)(text).input_ids == AutoTokenizer.from_pretrained(extended_folder)(text).input_ids
    manifest = read_manifest(pretrained, "pretrained")
    assert manifest["counts"]["steps"] == STEPS
    # a corpus is known by the manifest that its making wrote: nobody reads it once more
    packed = json.loads((shards / "manifest.json").read_text())
    made = json.dumps({name: packed[name] for name in ("recipe", "inputs", "counts")}, sort_keys=True)
    assert manifest["inputs"]["shards"] == hashlib.sha256(made.encode()).hexdigest()[:16]
    assert manifest["counts"]["parameters"] == manifest["counts"]["trained"] == sum(p.numel() for p in before.parameters())
    suffixes = {file.suffix for file in pretrained.rglob("*")}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}, "pickles have no place in a model folder"
    assert [path.name for path in pretrained.parent.iterdir() if path.is_dir()] == ["model"], "checkpoints or partial folders were left"


def test_the_card_holds_recipe_data_and_losses(pretrained):
    card = (pretrained / "README.md").read_text()
    after = json.loads((pretrained / "losses.json").read_text())["after"]
    for name, value in after.items():
        assert f"| {name} | " in card
        assert f" {value['bits_per_letter']:.3f} | {value['unit']} | {value['letters']:,} | " in card
    assert "learning_rate: 0.01" in card
    assert "| dna | " in card.partition("## Data")[2]


def test_golden_losses(pretrained):
    found = losses(pretrained)
    if os.environ.get("LLAMA_GENE_RECORD"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert len(found) == 20
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


SHORT = {"steps": 6, "evaluate_every": 99, "heldout_blocks": 4, "english": None, "sample_tokens": 0}


@pytest.fixture(scope="module")
def short(nursery, make_recipe, tmp_path_factory) -> Path:
    """Six steps of one process."""
    out = tmp_path_factory.mktemp("short") / "model"
    done = nursery.run(make_recipe(out, **SHORT))
    assert done.codes == [0], done.text[-3000:]
    return out


@pytest.mark.parametrize(
    "more",
    [
        {"micro_batch": 1, "accumulation": 4},
        {"micro_batch": 2, "batch": 4},
        {"deepspeed": None},
        {"loss": "full"},
        {"activation_checkpointing": True},
        {"deepspeed": "zero2_offload"},
        {"deepspeed": "zero3_offload"},
    ],
    ids=str,
)
def test_another_way_to_the_same_losses(short, nursery, make_recipe, tmp_path, more):
    """One process: a batch cut into passes, no DeepSpeed, all logits at once, activations computed again, states on the CPU."""
    done = nursery.run(make_recipe(tmp_path / "model", **SHORT, **more))
    assert done.codes == [0], done.text[-3000:]
    assert losses(tmp_path / "model") == pytest.approx(losses(short), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_ranks_under_the_launcher(short, make_recipe, tmp_path, stage):
    """`llama-gene pretrain` with two ranks: each takes half of the batch, so the run is the same."""
    wanted = make_recipe(tmp_path / "model", ranks=2, deepspeed=f"zero{stage}", micro_batch=2, **SHORT)
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(wanted), encoding="utf-8")
    command = [sys.executable, "-m", "llama_gene", "pretrain", "--recipe", str(file)]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(wanted.out) == pytest.approx(losses(short), abs=1e-4)  # float32 sums in another order
    alone, shared = (json.loads((folder / "losses.json").read_text()) for folder in (short, wanted.out))
    for place in ("before", "after"):
        for modality, value in alone[place].items():
            assert shared[place][modality]["letters"] == value["letters"]
            assert shared[place][modality]["bits_per_letter"] == pytest.approx(value["bits_per_letter"], rel=1e-4)
    for name in ("tokens", "parameters", "trained", "blocks"):
        assert shared[name] == alone[name]
    assert not (tmp_path / "model.checkpoints").exists()


def test_every_source_of_packed_shards_is_measured(nursery, make_recipe, corpus, extended_folder, tmp_path):
    """Two files of DNA and one of protein, packed: held-out bits of each file of DNA, and both together as of the whole."""
    letters = {}
    for name, base in (("poor.fa", "AT"), ("rich.fa", "GC")):
        records = [base[number % 2] * 3 + (base * 60)[: 90 + number] for number in range(8)]
        (tmp_path / name).write_text("".join(f">{name}{number}\n{record}\n" for number, record in enumerate(records)), encoding="utf-8")
        letters[f"dna/{name}"] = sum(map(len, records))
    sources = [
        Source(modality="dna", files=[corpus / "dna.train.fa"], heldout_files=[tmp_path / "poor.fa", tmp_path / "rich.fa"]),
        Source(modality="protein", files=[corpus / "protein.train.fa"], heldout_files=[corpus / "protein.heldout.fa"]),
    ]
    pack(PackRecipe(tokenizer=extended_folder, out=tmp_path / "shards", block_tokens=128, sources=sources))
    done = nursery.run(make_recipe(tmp_path / "model", shards=tmp_path / "shards", steps=2, english=None))
    assert done.codes == [0], done.text[-3000:]
    for place, found in json.loads((tmp_path / "model" / "losses.json").read_text()).items():
        if place not in ("before", "after"):
            continue
        assert found.keys() == {"dna", "protein", *letters}
        assert {name: found[name]["letters"] for name in letters} == letters
        both = sum(found[name]["bits_per_letter"] * found[name]["letters"] for name in letters) / sum(letters.values())
        assert found["dna"]["bits_per_letter"] == pytest.approx(both)
        assert found["dna/poor.fa"]["bits_per_letter"] != pytest.approx(found["dna/rich.fa"]["bits_per_letter"], rel=1e-3)
    assert "| dna/rich.fa | " in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("way", [{"deepspeed": "zero2"}, {}, {"train": "lora", "rows": "all"}])
def test_bf16_trains(nursery, make_recipe, tmp_path, way):
    recipe = {"precision": "bf16", "steps": 10, "deepspeed": None, "sample_tokens": 4}
    done = nursery.run(make_recipe(tmp_path / "model", **recipe | way))
    assert done.codes == [0], done.text[-3000:]
    found = losses(tmp_path / "model")
    assert found[-1] < found[0] - 0.5
    from safetensors import safe_open

    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as weights:
        assert weights.get_tensor("model.norm.weight").dtype == torch.bfloat16
