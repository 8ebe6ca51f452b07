"""Verification finds every document of both families of tokenizers, and says so when one is changed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from artefacts.folder import read_manifest
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.verify import verify


@pytest.fixture
def recipe(family_folder, tmp_path: Path) -> PackRecipe:
    draw = random.Random(0)
    (tmp_path / "g.fa").write_text(f">c\n{''.join(draw.choices('ACGTN', k=3000))}\n")
    texts = ["  The gene\n\n binds the naïve cell, 5 % of it. " * draw.randint(1, 20) for _ in range(12)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": f"{i}{text}"}) + "\n" for i, text in enumerate(texts)))
    sources = [
        Source(modality="dna", files=[tmp_path / "g.fa"], window=700, max_n_share=1, both_strands=True, heldout_share=0.3),
        Source(modality="text", files=[tmp_path / "t.jsonl"], heldout_share=0.3, max_tokens=900),
    ]
    return PackRecipe(tokenizer=family_folder, out=tmp_path / "out", block_tokens=64, sources=sources, verify=True)


def test_both_families_and_a_changed_file(recipe, tmp_path):
    counts = pack(recipe)
    assert counts["verified"]["documents"] > 10
    assert read_manifest(recipe.out, "shards")["counts"]["verified"] == counts["verified"]
    text = (tmp_path / "g.fa").read_text()
    (tmp_path / "g.fa").write_text(text[:-2] + ("A" if text[-2] != "A" else "C") + "\n")
    with pytest.raises(RuntimeError, match=r"[12] stand in no file"):
        verify(recipe, recipe.out, counts)
    (tmp_path / "g.fa").write_text(text)
    counts["sources"][0]["train"]["written"] += 1
    with pytest.raises(RuntimeError, match="were counted"):
        verify(recipe, recipe.out, counts)
