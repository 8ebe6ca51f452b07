"""The exact trainer against `tokenizers`' BpeTrainer, and the windows it learns from."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from samples import letters
from tokenizers import Tokenizer, models, trainers

from artefacts.errors import Ledger
from sequences.alphabets import DNA, PROTEIN, reverse_complement
from sequences.readers import read_sequences
from tokenizer.bpe.learn import BREAK, learn
from tokenizer.bpe.train import plain_tokenizer
from tokenizer.bpe.windows import Cutting, WindowStore


def strings(codes: NDArray[np.uint8], letters: str) -> list[str]:
    """The windows as text, for trainers that want lines."""
    table = bytes(ord(letters[code]) if code < len(letters) else 10 for code in range(256))
    return codes.tobytes().translate(table).decode("ascii").split()


def as_codes(windows: list[str], alphabet: str) -> NDArray[np.uint8]:
    codes = []
    for window in windows:
        codes += [alphabet.index(letter) for letter in window] + [BREAK]
    return np.array(codes, np.uint8)


def reference(windows: list[str], alphabet: str, pieces: int, longest: int | None) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
        **({} if longest is None else {"max_token_length": longest + 1}),  # the library's bound is exclusive
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(windows, trainer)
    return tokenizer


def model_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[list[str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


corpora = st.integers(2, 7).flatmap(
    lambda size: st.tuples(st.just("ABCDEFG"[:size]), st.lists(st.text("ABCDEFG"[:size], min_size=1, max_size=60), min_size=1, max_size=20))
)


@settings(max_examples=150, deadline=None)
@given(corpus=corpora, merges=st.integers(1, 80), longest=st.sampled_from([None, 2, 3, 5, 12]), repeats=st.integers(1, 3))
@pytest.mark.parametrize(
    "phases",
    [{}, {"dense_share": 0}, {"dense_share": 10**9}, {"dense_share": 3, "floor_ratio": 2}],
    ids=["default", "lists only", "passes only", "many rebuilds"],
)
def test_the_merge_list_is_the_reference_trainers(corpus, merges, longest, repeats, phases):
    alphabet, windows = corpus
    windows = windows + ["".join(windows[:3])] * repeats
    pieces = len(alphabet) + merges
    found = learn(as_codes(windows, alphabet), len(alphabet), pieces, longest, **phases)
    assert model_of(plain_tokenizer(alphabet, found)) == model_of(reference(windows, alphabet, pieces, longest))


@pytest.mark.parametrize("run", ["A" * 1001, "AB" * 500, "AAB" * 300 + "A" * 7])
def test_runs_and_repeats_agree_with_the_reference(run):
    found = learn(as_codes([run, run[::-1]], "AB"), 2, 40, None, dense_share=0)
    assert model_of(plain_tokenizer("AB", found)) == model_of(reference([run, run[::-1]], "AB", 40, None))


def test_counts_fall_and_never_reach_zero():
    found = learn(as_codes([letters("ACGT", 400, seed) for seed in range(50)], "ACGT"), 4, 300, 8)
    assert (np.diff(found.counts) <= 0).all()
    assert found.counts[-1] >= 1


def test_a_text_that_supports_fewer_pieces_gives_fewer():
    assert len(learn(as_codes(["ACGT"], "ACGT"), 4, 100, None).pairs) == 3


@pytest.mark.parametrize("sizes", [(0, 5, None), (4, 4, None), (4, 9, 1), (255, 300, None)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="do not fit together"):
        learn(np.zeros(3, np.uint8), *sizes)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("alphabet", "file", "pieces"),
    [(DNA, "genomes/celegans_1pct.fa", 30_000), (PROTEIN, "proteins/prokka_sprot_archaea.faa", 8_000)],
    ids=["dna", "protein"],
)
def test_real_sequence_gives_the_reference_vocabulary(shared_data, alphabet, file, pieces):
    store = WindowStore(alphabet, Cutting(512, alphabet is DNA))
    for record in read_sequences(shared_data / file, alphabet, Ledger()):
        store.add(record.letters.encode())
    codes = store.codes()
    windows = strings(codes, store.letters)
    found = learn(codes, len(store.letters), pieces, 12)
    assert model_of(plain_tokenizer(store.letters, found)) == model_of(reference(windows, store.letters, pieces, 12))


def windows_of(store: WindowStore) -> list[str]:
    return strings(store.codes(), store.letters)


@given(st.lists(st.text(DNA.letters + DNA.letters.lower(), max_size=300), max_size=8), st.integers(2, 50))
def test_windows_lose_no_letter(records, window):
    store = WindowStore(DNA, Cutting(window))
    for record in records:
        store.add(record.encode())
    found = windows_of(store)
    assert "".join(found) == "".join(records).upper()
    assert all(0 < len(one) <= window for one in found)
    assert store.windows == len(found)


def test_every_second_window_is_the_other_strand():
    sequence = letters(DNA.letters, 1000, 5)
    store = WindowStore(DNA, Cutting(128, reverse_complement=True))
    store.add(sequence.encode())
    expected = [sequence[start : start + 128] for start in range(0, 1000, 128)]
    assert windows_of(store) == [reverse_complement(one) if turn % 2 else one for turn, one in enumerate(expected)]


def test_long_unknown_runs_and_ambiguity_codes_end_windows():
    store = WindowStore(DNA, Cutting(100, unknown_run=5, keep_ambiguous=False))
    store.add(b"ACGTNNACGT" + b"N" * 7 + b"GGRCCnnnnnTT")
    assert windows_of(store) == ["ACGTNNACGT", "GG", "CC", "TT"]
    assert store.counts() == {"windows": 4, "unknown_left_out": 12, "ambiguous_left_out": 1, "masked_left_out": 0}


def test_soft_masked_repeats_are_left_out_or_drawn():
    record = ("ACGTACGT" + "ggcc") * 400

    def kept(share: float, seed: int = 0) -> tuple[str, int]:
        store = WindowStore(DNA, Cutting(512, soft_masked=share, seed=seed))
        store.add(record.encode())
        return "".join(windows_of(store)), store.counts()["masked_left_out"]

    assert kept(1) == (record.upper(), 0)
    assert kept(0) == ("ACGTACGT" * 400, 1600)
    half, left_out = kept(0.5)
    assert len(half) == len(record) - left_out
    assert 0.4 < left_out / 1600 < 0.6
    assert kept(0.5) == (half, left_out)
    assert kept(0.5, seed=1) != (half, left_out)


def test_a_sample_is_uniform_bounded_and_seeded():
    draw = random.Random(3)
    records = ["".join(draw.choices("ACGT", k=8)) for _ in range(2000)]

    def sampled(seed: int) -> list[str]:
        store = WindowStore(DNA, Cutting(8, seed=seed), max_letters=8 * 200)
        for record in records:
            store.add(record.encode())
        return windows_of(store)

    taken = sampled(0)
    assert len(taken) == 200
    assert taken == sampled(0) != sampled(1)
    first_half = sum(one in set(records[:1000]) for one in taken)
    assert 60 < first_half < 140  # 100 expected, 7 standard deviation
    store = WindowStore(DNA, Cutting(8), max_letters=8 * 200)
    store.add(records[0].encode())
    assert windows_of(store) == records[:1], "a corpus smaller than the sample is taken whole"


@settings(max_examples=60)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=120), st.integers(1, 3000), st.integers(1, 64), st.integers(0, 5))
def test_a_sample_has_as_many_letters_as_fit_in_whatever_pieces_they_come(lengths, most, window, seed):
    store = WindowStore(DNA, Cutting(window, seed=seed), max_letters=most)
    for index, length in enumerate(lengths):
        store.add(letters("ACGT", length, index).encode())
    kept = store.kept_letters
    found = windows_of(store)
    assert sum(map(len, found)) == kept <= most
    if sum(lengths) <= most:
        assert kept == sum(lengths)
    else:
        assert kept > most - window, "another window would have fitted"
