"""Drawn sequences: letters of the alphabet alone, the same bytes from the same seed, figures that add up."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from artefacts.errors import Ledger, UserError
from data_convert.simulate.genes import CODONS
from instruct.generate.generate import GenerateRecipe, generate
from instruct.generate.letters import OnlyLetters
from instruct.generate.spectrum import CODON_NAMES, ORF_CODONS, beside, codon_counts, divergence, kmer_counts, read_reference
from sequences.alphabets import ALPHABETS, DNA, PLAIN_LETTERS, PROTEIN
from sequences.readers import read_sequences

BASES = st.text("ACGTN", max_size=40)


def drawn(folder: Path, modality: str) -> list[Any]:
    return list(read_sequences(folder / "sequences.fasta", ALPHABETS[modality], Ledger()))


@pytest.mark.parametrize("modality", ["dna", "rna", "protein"])
def test_what_comes_out_is_sequence_and_the_seed_decides_it(extended_folder, tmp_path, modality):
    """The model knows nothing: without the constraint hardly a token would be a letter of the alphabet."""
    shared = {"model": extended_folder, "modality": modality, "count": 7, "batch": 3, "min_letters": 5, "max_letters": 40}
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        generate(GenerateRecipe(out=tmp_path / name, seed=seed, **shared))
    one, two, other = ((tmp_path / name / "sequences.fasta").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()
    found = drawn(tmp_path / "one", modality)
    assert [record.id for record in found] == [f"1/{number}" for number in range(1, 8)]
    for record in found:
        assert 5 <= len(record.letters) <= 40
        assert set(record.letters) <= {*PLAIN_LETTERS[modality]}
        assert record.description.split()[0] == modality
    assert ("U" in one.decode().replace(">", "")) == (modality == "rna")
    statistics = json.loads((tmp_path / "one" / "statistics.json").read_text())
    assert statistics["drawn"]["letters"] == sum(len(record.letters) for record in found)
    assert statistics["real"] is None
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["counts"]["sequences"] == 7


def test_a_prompt_is_gone_on_with(extended_folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("A promoter:\n\nof E. coli <dna>acgtac\nafter <protein>MKV</protein> \n")
    generate(
        GenerateRecipe(model=extended_folder, modality="dna", prompts=tmp_path / "prompts.txt", count=2, max_letters=9, out=tmp_path / "a")
    )
    found = drawn(tmp_path / "a", "dna")
    assert [record.id for record in found] == ["1/1", "1/2", "3/1", "3/2", "4/1", "4/2"]
    assert [record.letters.startswith("ACGTAC") and "given=6" in record.description for record in found][2:4] == [True, True]
    (tmp_path / "starts.fa").write_text(">x first\nACGTACGT\n>y\nGGG\n>x again\nTTTTT\n")
    generate(GenerateRecipe(model=extended_folder, modality="dna", prompts=tmp_path / "starts.fa", max_letters=9, out=tmp_path / "b"))
    assert [(record.id, record.letters[:3]) for record in drawn(tmp_path / "b", "dna")] == [("x/1", "ACG"), ("y/1", "GGG"), ("x/1", "TTT")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": "see <protein>MKV"}, "prompt: ends in an open <protein>, but modality=dna"),
        ({"prompt": "see <dna>ACGE"}, "prompt: 'E' behind the open <dna> is no letter of it"),
        ({"prompts": "no.txt"}, "no.txt: no such file of prompts"),
        ({"prompts": "empty.txt"}, "no prompt in it"),
        ({"prompts": "bytes.txt"}, r"not UTF-8 \(byte 0\)"),
        ({"prompt": "word " * 3000}, "prompt 1: .* tokens, the model has"),
        ({"reference": ["empty.fa"]}, "empty.fa"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_opened(extended_folder, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "empty.fa").write_text(">a\n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\n")
    monkeypatch.setattr("tokenizer.generation.load_causal", None)
    with pytest.raises(UserError, match=message):
        generate(GenerateRecipe(**{"model": extended_folder, "modality": "dna", "out": tmp_path / "out", **more}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more", [{"prompt": "a", "prompts": "b"}, {"min_letters": 9, "max_letters": 3}, {"temperature": 0, "count": 2}], ids=str
)
def test_settings_that_contradict_each_other(more):
    with pytest.raises(ValueError, match=r"give one of them|is more than|the same sequence"):
        GenerateRecipe(model="m", modality="dna", out="o", **more)


def test_temperature_top_k_and_top_p_reach_the_model(extended_folder, tmp_path):
    """One token left to draw from, each way, is the greedy sequence: the constraint stands before them, not behind."""
    shared = {"model": extended_folder, "modality": "protein", "max_letters": 30, "prompt": "some words"}
    ways = {"greedy": {"temperature": 0}, "k": {"top_k": 1}, "p": {"top_p": 1e-6}, "cold": {"temperature": 1e-4}, "free": {}}
    for name, way in ways.items():
        generate(GenerateRecipe(out=tmp_path / name, **shared, **way))
    found = {name: (tmp_path / name / "sequences.fasta").read_text().split("\n", 1)[1] for name in ways}
    assert found["k"] == found["p"] == found["cold"] == found["greedy"] != found["free"]


def test_a_record_says_whether_the_model_closed_it(extended_folder, tmp_path):
    """Every token alike: some spans are closed at once, the others are cut where the letters are full."""
    for file in extended_folder.iterdir():
        if file.is_file() and file.name != "manifest.json":  # which notes the weights that are changed here
            (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(extended_folder / "model.safetensors")
    tensors["model.norm.weight"].zero_()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    generate(GenerateRecipe(model=tmp_path, modality="dna", count=60, batch=60, max_letters=6, out=tmp_path / "drawn"))
    found = drawn(tmp_path / "drawn", "dna")
    ends = {(len(record.letters) < 6, record.description.split()[-1]) for record in found}
    assert ends == {(True, "closed"), (False, "cut")}
    counts = json.loads((tmp_path / "drawn" / "manifest.json").read_text())["counts"]
    assert counts["closed"] == sum(len(record.letters) < 6 for record in found)


@given(
    most=st.integers(1, 12),
    least=st.integers(1, 12),
    pieces=st.lists(st.text("ACGT", min_size=1, max_size=4), unique=True, max_size=9),
    seed=st.integers(0, 999),
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_drawn_ends_within_its_bounds(most, least, pieces, seed):
    least, letters = min(least, most), dict(enumerate(["A", *(piece for piece in pieces if piece != "A")], 3))
    only = OnlyLetters(letters, 20, 1, 2, least, most)
    draw, ids = torch.Generator().manual_seed(seed), torch.tensor([[5, 5]])
    for _ in range(most + 1):
        scores = only(ids, torch.zeros(1, 20))
        token = torch.multinomial(scores.softmax(-1), 1, generator=draw)
        if token.item() == 1:
            break
        ids = torch.cat([ids, token], 1)
    assert token.item() == 1
    assert least <= sum(len(letters[index]) for index in ids[0, 2:].tolist()) <= most


# --- figures ----------------------------------------------------------------------------------------------------------


@given(sequences=st.lists(BASES, max_size=6), k=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_kmers_are_counted_within_sequences(sequences, k):
    wanted: dict[str, int] = {}
    for sequence in sequences:
        for at in range(len(sequence) - k + 1):
            if "N" not in (kmer := sequence[at : at + k]):
                wanted[kmer] = wanted.get(kmer, 0) + 1
    counts = kmer_counts(sequences, DNA, k)
    assert len(counts) == 4**k
    assert counts.sum() == sum(wanted.values())
    for kmer, count in wanted.items():
        assert counts[sum("ACGT".index(letter) * 4 ** (k - 1 - place) for place, letter in enumerate(kmer))] == count


@given(seed=st.integers(0, 10**6), others=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_coding_stretches_are_those_of_a_plain_search(seed, others):
    draw = random.Random(seed)
    codons = [codon for codon in CODON_NAMES if CODONS[codon] != "*"]
    genes = ["ATG" + "".join(draw.choices(codons, k=draw.randint(ORF_CODONS - 3, ORF_CODONS + 9))) + "TAA" for _ in range(4)]
    sequences = ["".join(draw.choices("ACGTN", k=draw.randint(0, 20))) + gene + "ACGT" * others for gene in genes]
    stretches, wanted = 0, dict.fromkeys(CODON_NAMES, 0)
    for sequence in sequences:
        for frame in range(3):
            inside: list[str] = []
            for at in range(frame, len(sequence) - 2, 3):
                codon = sequence[at : at + 3]
                if CODONS.get(codon, "*") == "*":
                    if codon in CODONS and len(inside) >= ORF_CODONS:
                        stretches += 1
                        for one in inside:
                            wanted[one] += 1
                    inside = []
                elif inside or codon == "ATG":
                    inside.append(codon)
    found, counts = codon_counts(sequences, DNA)
    assert found == stretches
    assert dict(zip(CODON_NAMES, counts.tolist(), strict=True)) == wanted


def test_a_reference_is_read_up_to_a_limit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("instruct.generate.spectrum.REFERENCE_LETTERS", 7)
    (tmp_path / "a.fa").write_text(">a\nACGT\n>b\nACGT\n>c\nA\n")
    assert read_reference([tmp_path / "a.fa", tmp_path / "a.fa"], DNA) == ["ACGT", "ACG"]
    assert "read up to 7 letters" in capsys.readouterr().err


def test_divergence_of_shares_that_are_known():
    one, two = np.array([1, 0]), np.array([0, 5])
    assert divergence(one, one * 7) == 0
    assert divergence(one, two) == 1
    half = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    assert divergence(np.array([2, 2]), np.array([3, 0])) == pytest.approx((half + math.log2(1 / 0.75)) / 2)
    assert divergence(one, np.zeros(2, dtype=np.int64)) is None


def test_real_sequence_stands_nearer_to_itself_than_random_letters(shared_data):
    """E. coli beside pieces of itself, and beside letters at random; the codons are those that E. coli is known for."""
    path = shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz"
    genome = next(read_sequences(path, DNA, Ledger())).letters[:1_000_000]
    draw = random.Random(1)
    parts = [genome[at : at + 1000] for at in draw.sample(range(len(genome) - 1000), 50)]
    noise = ["".join(draw.choices("ACGT", k=1000)) for _ in range(50)]
    near, far = (beside(DNA, part, [genome], 0) for part in (parts, noise))
    for real, random_letters in zip(near["distance"], far["distance"], strict=True):
        assert real["drawn"] < random_letters["drawn"]
        assert real["drawn"] < 3 * real["as_many_real"]
    assert near["real"]["gc"] == pytest.approx(0.51, abs=0.01)
    codons = near["real"]["coding"]["shares"]
    assert codons["CTG"] > 4 * codons["CTA"]
    assert near["real"]["coding"]["stretches"] > far["drawn"]["coding"]["stretches"]
    assert "coding" not in beside(PROTEIN, ["MKV"], [], 0)["drawn"]
