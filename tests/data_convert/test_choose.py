"""Duplicates over all files, shares of tokens, repetition: what is taken is what was asked for, and everything else is counted."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from artefacts.errors import UserError
from artefacts.recipe import load
from data_convert.corpus import choose as choosing
from data_convert.corpus.choose import DUPLICATE
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.shards import load_shards
from sequences.alphabets import reverse_complement
from sequences.spans import TAG

BLOCK = 64


def fasta(path: Path, sequences: list[str]) -> Path:
    path.write_text("".join(f">{path.stem}{i}\n{letters}\n" for i, letters in enumerate(sequences)))
    return path


def drawn(letters: str, records: int, length: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(letters, k=length)) for _ in range(records)]


def packed(extended_folder: Path, out: Path, sources: list[Source], **changes: object) -> tuple[dict, dict[str, Counter]]:
    """The counts, and split -> (modality, letters) -> how often."""
    made = PackRecipe(**{"tokenizer": extended_folder, "out": out, "block_tokens": BLOCK, "sources": sources, **changes})
    counts = pack(made)
    tokenizer = Tokenizer.from_file(str(extended_folder / "tokenizer.json"))
    found: dict[str, Counter] = {}
    for split in ("train", "heldout"):
        found[split] = Counter()
        if not (out / split).is_dir():
            continue
        for row in load_shards(out, split):
            start = 0
            for length in row["seq_lengths"]:
                text = TAG.sub("", tokenizer.decode(row["input_ids"][start : start + length]))
                found[split][row["modality"], "".join(text.split())] += 1
                start += length
    return counts, found


@settings(max_examples=15)
@given(data=st.data())
def test_equal_documents_stand_once_over_all_files(tmp_path_factory, extended_folder, data):
    """Held-out files win wherever they stand; DNA is the same on both strands; other modalities are others."""
    folder = tmp_path_factory.mktemp("duplicates")
    stock = ["AACGT", "ACGTT", "GATTACA", "TTTT", "AAAA", "CCAGT"]
    files = {name: data.draw(st.lists(st.sampled_from(stock), min_size=1, max_size=6)) for name in ("one", "two", "held", "rna")}
    paths = {name: fasta(folder / f"{name}.fa", letters) for name, letters in files.items()}
    sources = [
        Source(modality="dna", files=[paths["one"]], heldout_share=0),
        Source(modality="rna", files=[paths["rna"]], heldout_share=0),
        Source(modality="dna", files=[paths["two"]], heldout_files=[paths["held"]]),
    ]

    def key(letters: str) -> str:
        return min(letters, reverse_complement(letters))

    held = {key(letters) for letters in files["held"]}
    train = {key(letters) for letters in files["one"] + files["two"]} - held
    counts, found = packed(extended_folder, folder / "out", sources)
    assert Counter(key(letters) for kind, letters in found["train"].elements() if kind == "dna") == Counter(train)
    assert Counter(key(letters) for _, letters in found["heldout"].elements()) == Counter(held)
    assert Counter(letters for kind, letters in found["train"].elements() if kind == "rna") == Counter(set(files["rna"]))
    dropped = sum(report["documents"]["reasons"].get(DUPLICATE, 0) for report in counts["sources"])
    assert dropped == sum(map(len, files.values())) - len(held) - len(train) - len(set(files["rna"]))
    for report, names in zip(counts["sources"], (["one"], ["rna"], ["two", "held"]), strict=True):
        given_letters = sum(len(letters) for name in names for letters in files[name])
        assert sum(report["letters"].values()) == given_letters


def test_many_documents_are_compared_in_several_goes(extended_folder, tmp_path, monkeypatch):
    file = fasta(tmp_path / "p.fa", drawn("AC", 300, 8, 1))
    sources = [Source(modality="protein", files=[file], heldout_share=0.3)]
    once, found = packed(extended_folder, tmp_path / "a", sources)
    monkeypatch.setattr(choosing, "DOCUMENTS_AT_ONCE", 40)
    again, same = packed(extended_folder, tmp_path / "b", sources)
    assert again == once
    assert same == found
    assert 20 < once["sources"][0]["documents"]["reasons"][DUPLICATE] < 280


def sources_of(tmp_path: Path, **more: object) -> list[Source]:
    dna = fasta(tmp_path / "d.fa", drawn("ACGT", 200, 60, 2))
    protein = fasta(tmp_path / "p.fa", drawn("ACDEFGHIKLMNPQRSTVWY", 40, 30, 3))
    return [
        Source(modality="dna", files=[dna], heldout_share=0, share=2),
        Source(modality="protein", files=[protein], heldout_share=0, share=1, **more),
    ]


def test_shares_of_tokens(extended_folder, tmp_path):
    counts, found = packed(extended_folder, tmp_path / "a", sources_of(tmp_path), total_tokens=1500)
    tokens = [report["train"]["tokens"] for report in counts["sources"]]
    assert 1000 - BLOCK < tokens[0] <= 1000
    assert 500 - BLOCK < tokens[1] <= 500
    assert max(found["train"].values()) == 1
    # without a total: as much as the scarcer source allows, all of it
    counts, found = packed(extended_folder, tmp_path / "b", sources_of(tmp_path))
    dna, protein = counts["sources"]
    assert protein["train"]["left_out_by_budget"] == 0
    assert dna["train"]["asked_tokens"] == 2 * protein["train"]["tokens"]
    assert 0 <= dna["train"]["asked_tokens"] - dna["train"]["tokens"] < BLOCK


def test_scarce_sources_repeat_as_often_as_allowed(extended_folder, tmp_path):
    sources = sources_of(tmp_path, max_repeats=3)
    once = packed(extended_folder, tmp_path / "once", [source.model_copy(update={"share": None}) for source in sources])[0]
    protein = once["sources"][1]["train"]["tokens"]
    counts, found = packed(extended_folder, tmp_path / "some", sources, total_tokens=int(2.5 * protein) * 3, verify=True)
    times = Counter(times for (kind, _), times in found["train"].items() if kind == "protein")
    assert set(times) == {2, 3}, "whole rounds, then a part of one"
    assert counts["sources"][1]["train"]["repeated"] == times[2] + 2 * times[3]
    counts, found = packed(extended_folder, tmp_path / "most", sources, total_tokens=99 * protein)
    assert {times for (kind, _), times in found["train"].items() if kind == "protein"} == {3}
    assert counts["sources"][1]["train"]["tokens"] == 3 * protein < counts["sources"][1]["train"]["asked_tokens"]


def test_mistakes_in_shares(tmp_path):
    path = tmp_path / "r.yaml"
    for text, message in (
        ("[{modality: dna, files: [a], share: 1}, {modality: dna, files: [b]}]", "every source a share, or none"),
        ("[{modality: dna, files: [a]}]\ntotal_tokens: 5", "total_tokens needs a share"),
        ("[{modality: dna, files: [a]}]\npart: 3/2", "K runs from 1 to N"),
        ("[{modality: dna, files: [a]}]\npart: x", "part"),
    ):
        path.write_text(f"tokenizer: x\nout: y\nsources: {text}\n")
        with pytest.raises(UserError, match=message):
            load(PackRecipe, path)
