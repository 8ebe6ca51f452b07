"""What the audit's searches find, against exhaustive ones."""

from __future__ import annotations

import random

import numpy as np
import pytest
from Bio import Align
from Bio.Align import substitution_matrices
from hypothesis import given, settings
from hypothesis import strategies as st
from records_folder import letters, mutated

from data_convert.splits.align import GAP, SCORES, equal_letters, identity
from data_convert.splits.contain import STRETCH, contained
from data_convert.splits.near import best_identity, join_near
from data_convert.splits.pool import Space, space_of
from data_convert.splits.union import Parents
from sequences.alphabets import DNA, PROTEIN, RESIDUES, Alphabet, reverse_complement

AMINO = "ACDEFGHIKLMNPQRSTVWY"


def space(alphabet: Alphabet, sequences: list[str]) -> tuple[Space, list[int]]:
    """A space, and the node of each sequence."""
    canonical = [min(s, reverse_complement(s)) if alphabet is DNA else s for s in sequences]
    numbers: dict[bytes, int] = {}
    places = [numbers.setdefault(s.encode(), len(numbers)) for s in canonical]
    found, rank = space_of(alphabet, numbers, 0)
    return found, rank[places].tolist()


def codes(alphabet: Alphabet, sequence: str) -> np.ndarray:
    return np.array([alphabet.letters.index(letter) for letter in sequence], dtype=np.uint8)


# containment


@st.composite
def families(draw):
    """Sequences of few letters, so that much stands in much: pieces of a few long ones, either strand, some with ambiguity codes."""
    alphabet = draw(st.sampled_from([DNA, PROTEIN]))
    few = "ACGTN" if alphabet is DNA else "AKL"
    rng = random.Random(draw(st.integers(0, 2**32)))
    unit = draw(st.integers(1, 12))
    long = [letters(rng, few, rng.randint(30, 90)) if rng.random() < 0.6 else letters(rng, few, unit) * rng.randint(4, 9) for _ in range(4)]
    pieces = []
    for _ in range(draw(st.integers(1, 14))):
        source = rng.choice(long)
        begin = rng.randrange(len(source))
        piece = source[begin : begin + rng.randint(5, 60)]
        pieces.append(reverse_complement(piece) if alphabet is DNA and rng.random() < 0.5 else piece)
    return alphabet, long + pieces


@given(families())
@settings(max_examples=60)
def test_containment_is_what_a_search_of_every_pair_finds(family):
    alphabet, sequences = family
    found, _ = space(alphabet, sequences)
    texts = [found.letters(node) for node in range(len(found))]
    expected = set()
    for a, short in enumerate(texts):
        strands = [short] + ([reverse_complement(short)] if alphabet is DNA else [])
        for b, long in enumerate(texts):
            if STRETCH[alphabet.name][0] <= len(short) < len(long):
                for turn, strand in enumerate(strands):
                    expected |= {(a, b, at, turn) for at in range(len(long) - len(short) + 1) if long.startswith(strand, at)}
    assert {tuple(row) for row in contained(found).tolist()} == expected


def test_nodes_do_not_depend_on_the_order_of_rows():
    rng = random.Random(0)
    sequences = [letters(rng, "ACGT", rng.randint(20, 40)) for _ in range(50)]
    one, _ = space(DNA, sequences)
    rng.shuffle(sequences)
    two, _ = space(DNA, sequences)
    assert np.array_equal(one.codes, two.codes)
    assert np.array_equal(one.starts, two.starts)


# alignment


def aligner(alphabet: Alphabet) -> Align.PairwiseAligner:
    tool = Align.PairwiseAligner(mode="local")
    if alphabet is DNA:
        tool.match_score, tool.mismatch_score = 1, -1
    else:
        tool.substitution_matrix = substitution_matrices.load("BLOSUM62")
    tool.open_gap_score = tool.extend_gap_score = -GAP[alphabet.name]
    return tool


def whole_table(alphabet: Alphabet, a: str, b: str) -> tuple[int, int]:
    """(score, equal letters) by the textbook; Biopython leaves out letters that add nothing to the score."""
    gap, scores = GAP[alphabet.name], SCORES[alphabet.name]
    table = {(i, j): (0, 0) for i in range(len(a) + 1) for j in range(len(b) + 1) if not i or not j}
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            (s, e), (up, up_equal), (left, left_equal) = table[i - 1, j - 1], table[i - 1, j], table[i, j - 1]
            step = int(scores[alphabet.letters.index(x), alphabet.letters.index(y)])
            best = max((s + step, e + (x == y)), (up - gap, up_equal), (left - gap, left_equal))
            table[i, j] = max(best, (0, 0))
    return max(table.values())


def test_protein_scores_are_blosum62():
    theirs = substitution_matrices.load("BLOSUM62")
    for i, a in enumerate(RESIDUES):
        for j, b in enumerate(RESIDUES):
            a_, b_ = ("X" if letter in "JUO" else letter for letter in (a, b))
            assert SCORES["protein"][i, j] == theirs[a_, b_], (a, b)


@given(st.sampled_from([DNA, PROTEIN]), st.integers(0, 2**32), st.integers(5, 60), st.floats(0.5, 1))
@settings(max_examples=80)
def test_scores_are_those_of_biopython(alphabet, seed, size, alike):
    rng, few = random.Random(seed), "ACGT" if alphabet is DNA else AMINO
    a = letters(rng, few, size)
    b = letters(rng, few, rng.randint(0, 20)) + mutated(rng, a, alike, few) + "A"
    score, equal = equal_letters(codes(alphabet, a), codes(alphabet, b), 0, len(a) + len(b), SCORES[alphabet.name], GAP[alphabet.name])
    assert score == aligner(alphabet).score(a, b)
    assert (score, equal) == whole_table(alphabet, a, b)


def test_a_band_that_holds_the_alignment_changes_nothing_and_identity_counts_the_shorter():
    rng = random.Random(1)
    a = letters(rng, "ACGT", 200)
    b = letters(rng, "ACGT", 50) + a[:100] + a[104:]  # four letters fall out
    wide = equal_letters(codes(DNA, a), codes(DNA, b), 0, 500, SCORES["dna"], GAP["dna"])
    assert equal_letters(codes(DNA, a), codes(DNA, b), 50, 16, SCORES["dna"], GAP["dna"]) == wide == (196 - 4 * 4, 196)
    assert equal_letters(codes(DNA, a), codes(DNA, b), 50, 3, SCORES["dna"], GAP["dna"])[1] < 110
    assert identity(DNA, a, a[50:150]) == 1
    assert identity(DNA, a[:100], a[50:150]) == pytest.approx(0.5, abs=0.05)


# near duplicates


def planted(alphabet: Alphabet, size: int, alike: float, number: int, seed: int) -> tuple[list[str], list[str]]:
    """Originals, and copies of them: DNA copies on either strand."""
    rng, few = random.Random(seed), "ACGT" if alphabet is DNA else AMINO
    originals = [letters(rng, few, size) for _ in range(number)]
    copies = [mutated(rng, original, alike, few) for original in originals]
    return originals, [reverse_complement(copy) if alphabet is DNA and place % 2 else copy for place, copy in enumerate(copies)]


@pytest.mark.parametrize(("alphabet", "size", "alike", "share"), [(DNA, 70, 0.9, 0.98), (DNA, 300, 0.85, 0.99), (PROTEIN, 100, 0.7, 0.99)])
def test_mutated_copies_are_found(alphabet, size, alike, share):
    originals, copies = planted(alphabet, size, alike, 150, 0)
    found, nodes = space(alphabet, originals + copies)
    best, where = best_identity(found, np.array(nodes[150:]), np.array(nodes[:150]))
    right = where == np.array(nodes[:150])
    assert right.mean() >= share
    for place in np.flatnonzero(right)[:20]:
        strands = [copies[place]] + ([reverse_complement(copies[place])] if alphabet is DNA else [])
        assert best[place] == pytest.approx(max(identity(alphabet, strand, originals[place]) for strand in strands))
    parents = Parents(len(found))
    join_near(found, parents, alike - 0.1)
    roots = parents.roots()
    assert (roots[nodes[:150]] == roots[nodes[150:]]).mean() >= share
    assert len(np.unique(roots)) >= 150  # and nothing else is joined


def test_what_is_not_alike_enough_is_not_joined():
    originals, copies = planted(DNA, 200, 0.85, 50, 3)
    found, _ = space(DNA, originals + copies)
    parents = Parents(len(found))
    join_near(found, parents, 0.95)
    assert len(np.unique(parents.roots())) == len(found)


def test_an_index_in_blocks_gives_the_same_groups(monkeypatch):
    originals, copies = planted(DNA, 120, 0.9, 80, 4)
    found, _ = space(DNA, originals + copies)
    whole, parts = Parents(len(found)), Parents(len(found))
    join_near(found, whole, 0.8)
    monkeypatch.setattr("data_convert.splits.near.INDEX_LETTERS", 2000)
    join_near(found, parts, 0.8)
    assert np.array_equal(whole.roots(), parts.roots())
    some = np.arange(0, len(found), 2)
    others = np.arange(1, len(found), 2)
    in_parts = best_identity(found, some, others)[0]
    monkeypatch.undo()
    assert np.allclose(in_parts, best_identity(found, some, others)[0])


def test_ambiguous_letters_and_short_sequences_do_no_harm():
    found, nodes = space(DNA, ["N" * 60, "ACGT", "A", "ACGTN" * 20, "RYSWKM" * 10])
    parents = Parents(len(found))
    join_near(found, parents, 0.8)
    best, _ = best_identity(found, np.array(nodes[1:3]), np.array(nodes[3:]))
    assert best.tolist() == [0, 0]
    assert len(contained(found)) == 0
