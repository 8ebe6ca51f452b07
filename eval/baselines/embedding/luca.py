"""LucaOne as an encoder, and the one-hot encoder that the original compares with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.baselines.embedding.encoder import Encoder
from eval.baselines.lucaone.letters import CLS, SEP, TOKENS, letter_ids


class _LucaOneLetters(Encoder):
    """One id per letter between [CLS] and [SEP]."""

    def ids(self, modality: str, letters: str) -> np.ndarray:
        return letter_ids(letters, modality)

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        return [CLS], [SEP]


class LucaOneEncoder(_LucaOneLetters):
    """LucaOne, LucaOne-Gene or LucaOne-Prot; nucleic acids and proteins may share a batch."""

    def __init__(self, folder: str | Path, batch_tokens: int, device: torch.device, dtype: torch.dtype) -> None:
        from eval.baselines.lucaone.checkpoint import load

        self.model: Any = cast(Any, load(folder, dtype=dtype)).to(device)
        self.name, self.batch_tokens, self.device = str(folder), batch_tokens, device
        self.width: int = self.model.config.hidden_size

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        types_B = torch.tensor([int(modality == "protein") for modality in modalities], device=ids_BT.device)
        return self.model(ids_BT, attention_mask=mask_BT, token_type_ids=types_B[:, None].expand_as(ids_BT)).last_hidden_state

    def move(self, device: torch.device) -> None:
        self.model.to(device)
        self.device = device


class OneHot(_LucaOneLetters):
    """A channel for each of LucaOne's 39 ids: what a head learns without any pre-training."""

    def __init__(self, batch_tokens: int, device: torch.device) -> None:
        self.name, self.width, self.batch_tokens, self.device = "one-hot", len(TOKENS), batch_tokens, device

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        return F.one_hot(ids_BT, self.width)
