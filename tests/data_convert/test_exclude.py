"""Documents that contain a benchmark sequence are found, all of them and no other."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from data_convert.corpus.exclude import HOLDS, STRETCH, Excluded, read_excluded
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from sequences.alphabets import DNA, PROTEIN, reverse_complement


@given(
    documents=st.lists(st.text("AC", max_size=80), min_size=1, max_size=5),
    sequences=st.lists(st.text("AC", min_size=1, max_size=24), max_size=6),
    cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(12, 30), st.booleans()), max_size=4),
    alphabet=st.sampled_from([DNA, PROTEIN]),
)
def test_the_same_as_searching_for_each(documents, sequences, cuts, alphabet):
    for which, start, length, other in cuts:  # such that some are found
        piece = documents[which % len(documents)][start : start + length]
        sequences.append(reverse_complement(piece) if other and alphabet is DNA else piece)
    known = [letters for letters in sequences if len(letters) >= STRETCH[alphabet.name][0]]
    strands = [reverse_complement(letters) for letters in known] if alphabet is DNA else []
    expected = [any(letters in document for letters in known + strands) for document in documents]
    assert Excluded(sequences, alphabet).held_by(documents).tolist() == expected


def test_the_last_letter_counts():
    draw = random.Random(0)
    for alphabet in (DNA, PROTEIN):
        sequence = "".join(draw.choices(alphabet.letters[:4], k=50))
        excluded = Excluded([sequence], alphabet)
        documents = [f"AAA{sequence}", sequence, f"{sequence}C", sequence[:-1] + ("A" if sequence[-1] != "A" else "C"), sequence[1:], ""]
        assert excluded.held_by(documents).tolist() == [True, True, True, False, False, False]


def letters_of(seed: int, letters: str = "ACGT", length: int = 40) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


def test_every_format(tmp_path: Path):
    protein = letters_of(9, "DEFGHIKL")
    (tmp_path / "a.fa").write_text(f">x\n{letters_of(1)[:20].lower()}\n{letters_of(1)[20:]}\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(f"sequence,label\n{letters_of(2)},promoter\n{protein}*,0.5\n".encode()))
    item = {"name": "s", "modality": "rna", "letters": letters_of(3).replace("T", "U")}
    (tmp_path / "c.jsonl").write_text(json.dumps({"inputs": [item]}) + "\n")
    sets, ledgers = read_excluded(tuple(tmp_path / name for name in ("a.fa", "b.csv.gz", "c.jsonl")))
    assert [(ledger.read, ledger.written) for ledger in ledgers.values()] == [(1, 1), (2, 2), (1, 1)]
    documents = [letters_of(seed) for seed in range(5)]
    assert sets["dna"].held_by(documents).tolist() == sets["rna"].held_by(documents).tolist() == [False, True, True, True, False]
    assert sets["protein"].held_by([f"M{protein}*", protein]).tolist() == [True, True]
    (tmp_path / "a.fa").write_text(f">x\n{letters_of(4)}{letters_of(4)}\n")
    assert read_excluded((tmp_path / "a.fa",))[0]["dna"].held_by([letters_of(4) * 2]).tolist() == [True], "read anew once it has changed"
    (tmp_path / "d.csv").write_text("a,b\nACGT,1\n")
    with pytest.raises(UserError, match=r"d\.csv: not one usable benchmark sequence: too short: 1"):
        read_excluded((tmp_path / "d.csv",))
    (tmp_path / "f.csv.gz").write_bytes((tmp_path / "b.csv.gz").read_bytes()[:-12])
    with pytest.raises(UserError, match=r"f\.csv\.gz:1: the gz data is cut short or damaged"):
        read_excluded((tmp_path / "f.csv.gz",))
    (tmp_path / "e.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"e\.jsonl:1: not a record"):
        read_excluded((tmp_path / "e.jsonl",))


def test_packing_drops_and_counts_them(extended_folder: Path, tmp_path: Path):
    genome = letters_of(5, length=1000)
    (tmp_path / "g.fa").write_text(f">chr\n{genome}\n")
    (tmp_path / "test.csv").write_text(f"sequence,label\n{reverse_complement(genome[310:350])},1\n{genome[590:630]},0\n{letters_of(6)},0\n")
    source = Source(modality="dna", files=[tmp_path / "g.fa"], window=100, heldout_share=0)
    made = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=128, sources=[source], exclude=[tmp_path / "test.csv"])
    (report,) = pack(made)["sources"]
    assert report["documents"]["reasons"] == {HOLDS: 1}  # the second lies across two windows, and neither holds it
    assert report["documents"]["examples"] == {HOLDS: ["chr:300-400"]}
    assert report["letters"] == {HOLDS: 100, "packed_train": 900}
