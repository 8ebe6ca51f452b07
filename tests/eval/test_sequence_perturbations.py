"""`eval sequences perturb`: the changes by their laws, and pairs whose outcome is known."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import letters
from table_model import TableModel
from test_sequence_scores import CHANCES, fasta, figures, rows, run

from artefacts.errors import Ledger
from artefacts.folder import read_manifest
from eval.sequences.inputs import read_all
from eval.sequences.perturb import reordered, shuffled, synonymous, why_not_coding, with_repeats
from sequences.alphabets import DNA
from sequences.codons import CODONS, translate
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of

DRAWS = st.integers(0, 2**31)


@given(st.text("ACGT", min_size=2, max_size=60), DRAWS)
def test_shuffles_keep_every_count_of_neighbours(text: str, seed: int) -> None:
    found = shuffled(text, np.random.default_rng(seed))
    assert Counter(pairwise(found)) == Counter(pairwise(text))
    assert (found[0], found[-1]) == (text[0], text[-1])


def test_every_order_is_drawn_as_often_as_the_others() -> None:
    text = "ACAGATCA"
    drawn = Counter(shuffled(text, np.random.default_rng(seed)) for seed in range(3000))
    orders = {"".join(order) for order in permutations(text)}
    possible = {order for order in orders if Counter(pairwise(order)) == Counter(pairwise(text))}
    assert drawn.keys() == possible
    assert max(drawn.values()) < 1.5 * min(drawn.values())


@given(st.lists(st.sampled_from([codon for codon, residue in CODONS.items() if residue != "*"]), min_size=1, max_size=40), DRAWS)
def test_synonyms_spell_the_same_protein_in_other_codons(codons: list[str], seed: int) -> None:
    coding = "ATG" + "".join(codons) + "TAA"
    assert why_not_coding(coding) == ""
    found = synonymous(coding, np.random.default_rng(seed))
    assert translate(found) == translate(coding)
    for place in range(0, len(coding), 3):
        alone = CODONS[coding[place : place + 3]] in "MW*"
        assert (found[place : place + 3] == coding[place : place + 3]) == alone


@given(st.lists(st.sampled_from([codon for codon, residue in CODONS.items() if residue != "*"]), min_size=1, max_size=40), DRAWS)
def test_codons_that_change_places_spell_the_same_protein_in_the_same_codons(codons: list[str], seed: int) -> None:
    found = reordered("".join(codons), np.random.default_rng(seed))
    assert translate(found) == translate("".join(codons))
    assert Counter(found[place : place + 3] for place in range(0, len(found), 3)) == Counter(codons)


def test_repeats_stand_inside() -> None:
    found = with_repeats("ACGTACGT", 3, np.random.default_rng(0))
    assert found.replace("CAG" * 3, "", 1) == "ACGTACGT"
    assert found[0] == "A"
    assert found[-1] == "T"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ATGTAA", ""),
        ("ATGGCTTAA", ""),
        ("ATGGCTAA", "no whole codons"),
        ("ATGTAAGCTTAA", "a stop codon inside"),
        ("GCTTAA", "from ATG"),
        ("ATGGCT", "from ATG"),
        ("ATGNNNTAA", "beside A, C"),
    ],
)
def test_what_is_a_coding_sequence(text: str, why: str) -> None:
    assert (why in why_not_coding(text)) if why else why_not_coding(text) == ""


def test_pairs_of_known_chances(tmp_path: Path, byte_level_base: Base) -> None:
    """T is likely and G is not: codons that end in T beat their synonyms, a shuffle changes nothing, CAG costs."""
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 1))
    for letter, chance in CHANCES.items():
        model.table[:, model.ids[letter]] = math.log(chance)
    coding = {f"c{number}": "ATG" + "".join(np.random.default_rng(number).choice(["GCT", "GGT", "GTT"], 30)) + "TAA" for number in range(8)}
    source = fasta(tmp_path / "in.fa", {**coding, "long": letters("T", 400, 1), "short": "ATGA"})
    words = [source, "--model", model.save(), "--out", tmp_path / "out", "letters=90", "pairs=20"]
    assert run("perturb", *words) == 0
    found = figures(tmp_path / "out")
    assert found["synonymous", "real likelier"]["value"] == 1.0
    assert found["synonymous", "real likelier"]["n"] == 8
    assert found["dinucleotide", "real likelier"]["value"] == found["reordered", "real likelier"]["value"] == 0.5
    assert found["cag", "real likelier"]["value"] == 1.0
    for row in rows(tmp_path / "out"):
        extra = 60 if row["change"] == "cag" else 0
        assert int(row["letters_changed"]) - int(row["letters"]) == extra
    ledger = read_manifest(tmp_path / "out")["counts"]["records"]
    assert ledger["read"] == 10 == ledger["written"] + ledger["rejected"]
    assert list(ledger["reasons"].values()) == [1]


def test_no_coding_sequence_is_one_line(extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fasta(tmp_path / "in.fa", {"a": letters("C", 700, 0)})
    assert run("perturb", source, "--model", extended_folder, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "in.fa:1: no coding sequence" in said
    assert "leave synonymous and reordered out of changes" in said
    assert said.count("\n") == 1


def test_real_transcripts(tmp_path: Path, shared_data: Path, extended_folder: Path) -> None:
    source = shared_data / "annotated" / "C.elegans_transcripts.fa.gz"
    if not source.is_file():
        pytest.skip(f"no {source}")
    records = read_all([source], "dna", Ledger())
    assert len([record for _, record in records if not why_not_coding(record.letters)]) == 573
    assert run("perturb", source, "--model", extended_folder, "--out", tmp_path / "out", "pairs=10", "letters=300") == 0
    found = figures(tmp_path / "out")
    assert {own["n"] for own in found.values()} == {10}
    assert {about for about, _ in found} == {"synonymous", "reordered", "cag", "dinucleotide"}
    for row in rows(tmp_path / "out"):
        assert float(row["bits_per_letter"]) > 2
