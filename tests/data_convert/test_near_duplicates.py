"""Strains of one bacterium do not count thirty times, wherever their windows begin; nothing unrelated is lost."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_convert.corpus.choose import NEAR, UNJUDGED
from data_convert.corpus.documents import Document
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.shards import load_shards
from data_convert.corpus.sketch import FEWEST, KEPT, LENGTH, mostly_seen, sketches
from sequences.alphabets import reverse_complement

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def drawn(seed: int, length: int, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


def strain(letters: str, rate: float, seed: int, alphabet: str = "ACGT") -> str:
    """With so many of its letters drawn anew."""
    chance = random.Random(seed)
    return "".join(chance.choice(alphabet) if chance.random() < rate else letter for letter in letters)


def sketch_of(document: Document) -> set[int]:
    return set(sketches([document])[0].tolist())


@given(st.lists(st.lists(st.integers(1, 30), max_size=12, unique=True), max_size=12), st.floats(0.1, 1), st.randoms())
def test_the_same_as_sets(documents, share, chance):
    order = [number for number in range(len(documents)) if chance.random() < 0.9]
    chance.shuffle(order)
    seen, dropped = set(), [False] * len(documents)
    for number in order:
        mine = set(documents[number])
        if len(mine) >= FEWEST and len(mine & seen) >= share * len(mine):
            dropped[number] = True
        else:
            seen |= mine
    hashes = np.array([number for mine in documents for number in mine], dtype=np.uint64)
    sizes = np.array([len(mine) for mine in documents], dtype=np.uint32)
    assert mostly_seen(hashes, sizes, np.array(order, dtype=np.int64), share).tolist() == dropped


def test_a_sketch_depends_on_the_letters_alone():
    letters = drawn(1, 8000)
    whole = sketch_of(Document("a", "dna", letters))
    assert 0.6 < len(whole) * KEPT["dna"] / 8000 < 1.6
    assert sketch_of(Document("b", "dna", reverse_complement(letters))) == whole
    assert sketch_of(Document("b", "rna", letters.replace("T", "U"))) != whole
    halves = [Document("a", "dna", letters[: 4000 + LENGTH["dna"] - 1]), Document("b", "dna", letters[4000:])]
    hashes, sizes = sketches([*halves, Document("c", "dna", "ACGT"), Document("d", "protein", drawn(2, 3000, RESIDUES))])
    assert sizes[2] == 0
    assert set(hashes[: sizes[:2].sum()].tolist()) == whole
    assert set(hashes[sizes[:2].sum() :].tolist()) == sketch_of(Document("d", "protein", drawn(2, 3000, RESIDUES)))
    mixed = Document("m", "mixed", f"A gene: <dna>{letters}</dna>.")
    assert sketch_of(mixed) == whole, "its few words are too short for a stretch"
    text = " ".join(drawn(seed, 6, "abcdefgh") for seed in range(2000))
    assert sketch_of(Document("t", "text", text)) == sketch_of(Document("t", "text", text.upper().replace(" ", "\n"))) != set()


def packed(extended_folder: Path, out: Path, **more: object) -> tuple[dict, bytes]:
    counts = pack(PackRecipe(tokenizer=extended_folder, out=out, block_tokens=512, **more))
    return counts, repr(load_shards(out, "train")[:]).encode()


@pytest.fixture
def strains(tmp_path: Path) -> list[Path]:
    """One genome and nine strains of it, 1 % apart, some from the other strand, and beginning anywhere; and another genome."""
    genome, paths = drawn(3, 12_000), []
    for number in range(10):
        letters = strain(genome, 0.01 if number else 0, number)
        letters = letters[number * 137 :] + letters[: number * 137]
        paths.append(tmp_path / f"{number}.fa")
        paths[-1].write_text(f">{number}\n{reverse_complement(letters) if number % 2 else letters}\n")
    paths.append(tmp_path / "other.fa")
    paths[-1].write_text(f">other\n{drawn(99, 12_000)}\n")
    return paths


def test_ten_strains_are_not_ten_times_the_data(extended_folder, strains, tmp_path):
    found = {}
    for share in (None, 0.5):
        source = Source(modality="dna", files=strains, window=1000, heldout_share=0, near_duplicates=share)
        counts, _ = packed(extended_folder, tmp_path / str(share), sources=[source])
        found[share] = counts["sources"][0]
    assert found[None]["letters"] == {"packed_train": 11 * 12_000}
    documents, letters = found[0.5]["documents"], found[0.5]["letters"]
    assert documents["written"] + documents["reasons"][NEAR] == documents["read"] == 11 * 12
    assert letters["packed_train"] + letters[NEAR] == 11 * 12_000
    assert 24_000 <= letters["packed_train"] <= 27_000, "two genomes, and little more where strains differ by chance"
    assert not any(place.startswith(("0:", "other")) for place in documents["examples"][NEAR])


def test_the_same_bytes_for_any_parts_and_workers(extended_folder, tmp_path):
    genome = drawn(5, 6000)
    (tmp_path / "g.fa").write_text("".join(f">{number}\n{strain(genome, 0.02, number)}\n" for number in range(8)))
    source = Source(modality="dna", files=[tmp_path / "g.fa"], window=1500, heldout_share=0.1, near_duplicates=0.4)
    found = [
        packed(extended_folder, tmp_path / str(number), sources=[source], part_bytes=size, workers=workers)
        for number, (size, workers) in enumerate(((1 << 20, 1), (9000, 1), (7000, 2)))
    ]
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[0][0]["sources"][0]["documents"]["reasons"] == found[2][0]["sources"][0]["documents"]["reasons"]


def test_a_held_out_one_stays_and_other_sources_do_not_count(extended_folder, tmp_path):
    genome, short = drawn(7, 3000), drawn(8, 60)
    for name, letters in (("train", strain(genome, 0.01, 1)), ("held", genome), ("again", strain(genome, 0.01, 2))):
        (tmp_path / f"{name}.fa").write_text(
            f">{name}\n{letters}\n>short\n{strain(short, 0.1, len(name))}\n>kept-{name}\n{drawn(len(name), 2000)}\n"
        )
    more = {"modality": "dna", "near_duplicates": 0.5}
    sources = [
        Source(files=[tmp_path / "train.fa"], heldout_files=[tmp_path / "held.fa"], **more),
        Source(files=[tmp_path / "again.fa"], heldout_share=0, **more),
    ]
    counts, _ = packed(extended_folder, tmp_path / "out", sources=sources)
    first, second = counts["sources"]
    assert first["documents"]["examples"] == {NEAR: ["train"]}
    assert first["documents"]["notes"] == {UNJUDGED: 2}
    assert first["heldout"]["written"] == 3
    assert NEAR not in second["documents"]["reasons"]


def test_windows_that_overlap_are_refused(tmp_path):
    with pytest.raises(ValueError, match="near duplicates of each other"):
        Source(modality="dna", files=[tmp_path / "x"], window=100, stride=50, heldout_share=0, near_duplicates=0.5)
