"""A tiny corpus in shards, and processes to train on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ranks import SAVE_EVERY, STEPS, Nursery

from data_convert.corpus.pack import PackRecipe, Source, pack
from pretrain.recipe import PretrainRecipe


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A few kilobases and kiloresidues made of a small stock of words, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(5)
    for name, alphabet in (("dna", "ACGT"), ("protein", "ACDEFGHIKLMNPQRSTVWY")):
        words = ["".join(draw.choices(alphabet, k=12)) for _ in range(6)]
        for split, records in (("train", 24), ("heldout", 6)):
            sequences = ["".join(draw.choices(words, k=20)) for _ in range(records)]
            (folder / f"{name}.{split}.fa").write_text("".join(f">{split}{i}\n{s}\n" for i, s in enumerate(sequences)))
    texts = text_file.read_text(encoding="utf-8").split("\n\n")
    (folder / "text.train.txt").write_text("\n\n".join(texts[:150]), encoding="utf-8")
    (folder / "text.heldout.txt").write_text("\n\n".join(texts[350:380]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, corpus: Path, extended_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("shards") / "shards"
    sources = [
        Source(modality=name, files=[corpus / f"{name}.train.{end}"], heldout_files=[corpus / f"{name}.heldout.{end}"])
        for name, end in (("dna", "fa"), ("protein", "fa"), ("text", "txt"))
    ]
    pack(PackRecipe(tokenizer=extended_folder, out=out, block_tokens=128, sources=sources))
    return out


@pytest.fixture(scope="session")
def make_recipe(extended_folder: Path, shards: Path) -> Callable[..., PretrainRecipe]:
    """A recipe for the tiny corpus: `make_recipe(out, steps=3)`."""

    def make(out: Path, **more: Any) -> PretrainRecipe:
        values = {"steps": STEPS, "micro_batch": 4, "learning_rate": 1e-2, "log_every": 1, "evaluate_every": 8, "save_every": SAVE_EVERY}
        values |= {"model": extended_folder, "shards": shards, "out": out, "sample_tokens": 3}
        return PretrainRecipe(**{**values, **more})

    return make


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, make_recipe: Callable[..., PretrainRecipe], nursery: Nursery) -> Path:
    """An uninterrupted run of one process under ZeRO-1."""
    out = tmp_path_factory.mktemp("pretrained") / "model"
    done = nursery.run(make_recipe(out))
    assert done.codes == [0], done.text[-3000:]
    return out
