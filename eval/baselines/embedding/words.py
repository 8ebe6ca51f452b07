"""Composition as an encoder: how often each short word occurs, in one row per sequence, whatever its length.

With it LucaOne's heads become the plainest baseline of all, and one that needs no more memory for genomes than for peptides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from eval.baselines.embedding.encoder import Encoder, Piece

LONGEST = {"dna": 4, "rna": 4, "protein": 2}
"""Words of one letter to so many."""
WIDTH = 20 + 20**2
"""Channels; a nucleic acid uses the first 4 + 16 + 64 + 256."""


class Words(Encoder):
    """Square root of each word's share over that expected of random letters, minus 1: about 0 for what is as frequent as by chance,
    -1 for what is absent; the root keeps rare words of short sequences within bounds. Words with other letters are not counted."""

    def __init__(self, batch_tokens: int, device: torch.device) -> None:
        self.name, self.width, self.batch_tokens, self.device = "kmer", WIDTH, batch_tokens, device

    def ids(self, modality: str, letters: str) -> np.ndarray:
        """The row itself, `[1, D]`: there is no model behind it."""
        from eval.baselines.kmer import LETTERS, kmer_shares  # scikit-learn takes a second to import

        longest, size = LONGEST[modality], len(LETTERS[modality])
        shares = kmer_shares([letters.replace("U", "T") if modality != "protein" else letters], modality, longest).toarray()[0]
        expected = np.concatenate([np.full(size**k, float(size**k)) for k in range(1, longest + 1)])
        row_1D = np.zeros((1, WIDTH), dtype=np.float32)
        row_1D[0, : len(shares)] = np.sqrt(shares * expected) - 1
        return row_1D

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        return [], []

    def rows(self, batch: Sequence[Piece]) -> list[np.ndarray]:
        return [row_1D for _, row_1D in batch]
