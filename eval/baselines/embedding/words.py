"""Encoders without a model and with one row per sequence: the plainest baselines, which need as little memory for genomes as for peptides.

`kmer` says which short words occur and how often, `placed` which letter stands at which place (for windows that are all laid around
the same kind of site). `one-hot`, which keeps a row per letter, is beside LucaOne, whose alphabet it has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from eval.baselines.embedding.encoder import Encoder, Piece
from sequences.alphabets import PLAIN_LETTERS


class OneRow(Encoder):
    """The row stands in the place of ids, `[1, D]`, and is handed through."""

    def __init__(self, batch_tokens: int, device: torch.device) -> None:
        self.batch_tokens, self.device = batch_tokens, device

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
        size, codes, row_1D = len(PLAIN_LETTERS[modality]), _codes(modality, letters), np.zeros((1, self.width), dtype=np.float32)
        word, known, column = np.zeros(len(codes), dtype=np.int64), np.ones(len(codes), dtype=bool), 0
        for k in range(1, self.LONGEST[modality] + 1):
            windows = max(len(codes) - k + 1, 0)  # the word that begins at each place, one letter longer in each round
            word, known = word[:windows] * size + codes[k - 1 :], known[:windows] & (codes[k - 1 :] >= 0)
            shares = np.bincount(word[known], minlength=size**k) / max(windows, 1)
            row_1D[0, column : column + size**k] = np.sqrt(shares * size**k) - 1
            column += size**k
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


def _codes(modality: str, letters: str) -> np.ndarray:
    """The place of each letter in its alphabet, -1 for others."""
    table = np.full(256, -1)
    table[np.frombuffer(PLAIN_LETTERS[modality].encode(), dtype=np.uint8)] = np.arange(len(PLAIN_LETTERS[modality]))
    if modality == "rna":
        letters = letters.replace("U", "T")
    return table[np.frombuffer(letters.encode("latin-1", "replace"), dtype=np.uint8)]
