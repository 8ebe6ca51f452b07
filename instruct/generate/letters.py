"""Let through what goes on with a sequence, and nothing else. Suffixes: B sequences, T tokens, V vocabulary."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor


class OnlyLetters(LogitsProcessor):
    """Pieces that fit into the letters left, and the closing tag from `least` letters on; nothing but the tag once they are full."""

    def __init__(self, letters: Mapping[int, str], rows: int, closing: int, begins: int, least: int, most: int) -> None:
        """
        Args:
            letters: id -> letters of every piece that may be drawn.
            rows: rows of the model's output matrix.
            closing: id of the closing tag.
            begins: tokens of the prompt, padding included.
            least, most: letters to be drawn.
        """
        self._letters_V = torch.zeros(rows, dtype=torch.long)
        for index, piece in letters.items():
            self._letters_V[index] = len(piece)
        self._closing, self._begins, self._least, self._most = closing, begins, least, most

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        letters_V = self._letters_V = self._letters_V.to(scores.device)
        drawn_B: Tensor = letters_V[input_ids[:, self._begins :]].sum(1)
        allowed_BV = (letters_V > 0) & (letters_V <= self._most - drawn_B[:, None])
        allowed_BV[:, self._closing] = drawn_B >= self._least
        return scores.masked_fill(~allowed_BV, -torch.inf)
