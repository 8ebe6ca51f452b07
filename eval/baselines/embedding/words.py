"""Encoders without a model and with one row per sequence: the plainest baselines, which need as little memory for genomes as for peptides.

`kmer` says which short words occur and how often, `placed` which letter stands at which place (for windows that are all laid around
the same kind of site). `one-hot`, which keeps a row per letter, is beside LucaOne, whose alphabet it has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.baselines.embedding.encoder import Encoder, Piece
from sequences.alphabets import PLAIN_LETTERS


class OneRow(Encoder):
    """The row stands in the place of ids, `[1, D]`, and is handed through."""

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        return [], []

    def rows(self, batch: Sequence[Piece]) -> list[np.ndarray]:
        return [row_1D for _, row_1D in batch]


class Words(OneRow):
    """Square root of each word's share over that expected of random letters, minus 1: about 0 for what is as frequent as by chance,
    -1 for what is absent; the root keeps rare words of short sequences within bounds. Words with other letters are not counted."""

    LONGEST = {"dna": 4, "rna": 4, "protein": 2}
    """Words of one letter to so many."""

    name, width = "kmer", 20 + 20**2
    """A nucleic acid uses the first 4 + 16 + 64 + 256 channels."""

    def ids(self, modality: str, letters: str) -> np.ndarray:
        size, longest = len(PLAIN_LETTERS[modality]), self.LONGEST[modality]
        [shares] = word_shares([letters.replace("U", "T") if modality == "rna" else letters], PLAIN_LETTERS[modality], longest, np.float64)
        expected = np.repeat([size**k for k in range(1, longest + 1)], [size**k for k in range(1, longest + 1)])
        row_1D = np.zeros((1, self.width), dtype=np.float32)
        row_1D[0, : len(shares)] = np.sqrt(shares * expected) - 1
        return row_1D


class Placed(OneRow):
    """Each letter one-hot at its place: the first 320 nucleotides or 64 residues, what is beyond is not seen."""

    name, width = "placed", 1280

    def ids(self, modality: str, letters: str) -> np.ndarray:
        size, row_1D = len(PLAIN_LETTERS[modality]), np.zeros((1, self.width), dtype=np.float32)
        codes = _codes(modality, letters[: self.width // size])
        places = np.flatnonzero(codes >= 0)
        row_1D[0, places * size + codes[places]] = 1
        return row_1D


def word_shares(sequences: Sequence[str], letters: str, longest: int, dtype: Any = np.float32) -> np.ndarray:
    """Each word's count over the number of windows of its length, `[sequences, sum of letters**k]`, k = 1..longest in turn.

    Words with a letter that is none of `letters` are not counted.
    """
    table = np.full(256, -1, dtype=np.int64)
    table[np.frombuffer(letters.encode(), dtype=np.uint8)] = np.arange(len(letters))
    lengths = np.array([len(sequence) for sequence in sequences])
    codes = table[np.frombuffer("".join(sequences).encode("latin-1", "replace"), dtype=np.uint8)]
    row = np.repeat(np.arange(len(sequences)), lengths)
    counts = np.zeros((len(sequences), sum(len(letters) ** k for k in range(1, longest + 1))), dtype=dtype)
    word, known = np.zeros(len(codes), dtype=np.int64), np.ones(len(codes), dtype=bool)
    column = 0
    for k in range(1, longest + 1):
        starts = len(codes) - k + 1  # the word that begins at each place, one letter longer in each round
        if starts <= 0:
            break
        word = word[:starts] * len(letters) + codes[k - 1 :]
        known = known[:starts] & (codes[k - 1 :] >= 0) & (row[:starts] == row[k - 1 :])  # never across two sequences
        words = len(letters) ** k
        cells = np.bincount(row[:starts][known] * words + word[known], minlength=len(sequences) * words).reshape(-1, words)
        counts[:, column : column + words] = cells / np.maximum(lengths - k + 1, 1)[:, None]
        column += words
    return counts


def _codes(modality: str, letters: str) -> np.ndarray:
    """The place of each letter in its alphabet, -1 for others."""
    table = np.full(256, -1)
    table[np.frombuffer(PLAIN_LETTERS[modality].encode(), dtype=np.uint8)] = np.arange(len(PLAIN_LETTERS[modality]))
    if modality == "rna":
        letters = letters.replace("U", "T")
    return table[np.frombuffer(letters.encode("latin-1", "replace"), dtype=np.uint8)]
