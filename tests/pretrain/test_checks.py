"""What is refused before anything is loaded: the model folders here have no weights at all."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from artefacts.errors import UserError
from artefacts.recipe import load
from pretrain.recipe import PretrainRecipe
from pretrain.train import train
from training.model import kmer_tables
from training.recipe import check_precision


@pytest.fixture
def model(extended_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(extended_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def configure(model: Path, **more: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **more}))


def refused(recipe: PretrainRecipe, match: str) -> None:
    with pytest.raises(UserError, match=match):
        train(recipe)
    assert not list(recipe.out.parent.glob(f"{recipe.out.name}*"))


def test_shards_of_another_tokenizer(make_recipe, model, tmp_path):
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"].pop()
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    refused(make_recipe(tmp_path / "out", model=model), "packed with another tokenizer")


@pytest.mark.parametrize("deepspeed", ["zero1", "zero3"])
def test_a_base_that_was_not_extended(make_recipe, model, tmp_path, deepspeed):
    configure(model, vocab_size=405)
    refused(
        make_recipe(tmp_path / "out", model=model, deepspeed=deepspeed), r"405 embedding rows for \d+ ids.*under ZeRO-3 it could not be"
    )


def test_documents_beyond_the_context(make_recipe, model, tmp_path):
    configure(model, max_position_embeddings=100)
    refused(
        make_recipe(tmp_path / "out", model=model), r"the longest document has 128 tokens, the model's context is 100.*block_tokens=100"
    )


def test_a_block_may_be_longer_than_the_context(make_recipe, model, tmp_path, corpus):
    """Positions begin anew at every document, so short ones may share a long block."""
    from data_convert.corpus.pack import PackRecipe, Source, pack

    sources = [Source(modality="dna", files=[corpus / "dna.train.fa"], heldout_files=[corpus / "dna.heldout.fa"], window=60)]
    pack(PackRecipe(tokenizer=model, out=tmp_path / "shards", block_tokens=256, sources=sources))
    configure(model, max_position_embeddings=100)
    with pytest.raises(OSError, match="safetensors"):  # all checks are passed, and now the weights are missing
        train(make_recipe(tmp_path / "out", model=model, shards=tmp_path / "shards"))


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["batch=30", "micro_batch=4", "ranks=2"], "batch=30 is no multiple of micro_batch=4 x 2 ranks = 8; set batch=32"),
        (["batch=8", "accumulation=2"], "give batch or accumulation, not both"),
        (["keep_checkpoints=1"], "greater than or equal to 2"),
        (["train=rows", "rows=none"], "trains nothing"),
        (["deepspeed=null", "ranks=2"], "needs a DeepSpeed config"),
        (["lora.targets=[q_proj, lm_head]"], "lm_head cannot be adapted and trained at once"),
        (["report_to=[wandb]"], "report_to=wandb: that package is not installed"),
        (["spike.then=skip"], "did you mean 'spikes'"),
        (["epochs=0"], "epochs must be positive"),
        (["bases_from=5"], "bases_from says when loss=bases begins, and loss is auto"),
        (["loss=bases", "bases_from=0"], "greater than or equal to 1"),
    ],
    ids=str,
)
def test_recipes_that_cannot_work(tmp_path, overrides, match):
    with pytest.raises(UserError, match=match):
        load(PretrainRecipe, None, [f"model={tmp_path}", f"shards={tmp_path}", f"out={tmp_path}/out", *overrides])


def test_more_ranks_than_the_batch_divides(make_recipe, model, tmp_path, monkeypatch):
    """The recipe says one rank, the launcher starts three."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    refused(make_recipe(tmp_path / "out", model=model, micro_batch=2, batch=4), "no multiple of micro_batch=2 x 3 ranks")


def test_bf16_needs_hardware():
    check_precision("bf16", None)
    check_precision("bf16", (8, 9))
    check_precision("fp32", (7, 0))
    with pytest.raises(UserError, match=r"compute capability 7\.5"):
        check_precision("bf16", (7, 5))


def test_no_disk_for_checkpoints(make_recipe, model, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 1 << 40, 1 << 16))
    refused(
        make_recipe(tmp_path / "out", model=model),
        r"2 checkpoints and the one being written need [\d.]+ .B, but only 65\.5 kB of disk are free; make room",
    )


def test_a_mixture_the_shards_cannot_give(make_recipe, model, tmp_path):
    refused(make_recipe(tmp_path / "out", model=model, mixture={"share": {"dna": 1, "rna": 1}}), "hold no rna")


def test_bases_without_kmers(make_recipe, model, tmp_path):
    refused(
        make_recipe(tmp_path / "out", model=model, loss="bases"), "loss=bases scores k-mers .*, and this vocabulary has none; set loss=auto"
    )


def test_bases_of_a_base_that_was_not_extended(extended_folder):
    with pytest.raises(UserError, match=r"loss=bases needs a vocabulary of k-mers: .*run `llama-gene tokenizer extend`"):
        kmer_tables(extended_folder.parent / "base")


def test_an_unknown_deepspeed_config(make_recipe, model, tmp_path):
    with pytest.raises(UserError, match="neither a file nor one of zero0"):
        train(make_recipe(tmp_path / "out", model=model, deepspeed="zero7"))
