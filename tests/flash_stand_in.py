"""Attention with what decides in flash attention who sees whom, and plain products in place of its kernels.

transformers' own `_is_packed_sequence` says whether positions that restart part a row into documents; a padded batch, whose 2-d mask
the kernels read, is not stood in for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_flash_attention_utils import _is_packed_sequence

NAME = "flash_stand_in"


def attend(module: Any, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, mask: Any, scaling: float, **more: Any) -> tuple[Tensor, None]:
    """Causal; within documents where transformers sees packed ones. Returns [B, T, H, K]."""
    assert mask is None
    B, H, T, _ = q_BHTK.shape
    k, v = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (k_BGTK, v_BGTK))
    seen_TT = torch.ones(T, T, dtype=torch.bool).tril()
    places = more.get("position_ids")
    if _is_packed_sequence(places, B):
        document_T = (places[0] == 0).cumsum(0)
        seen_TT &= document_T[:, None] == document_T
    scores = (q_BHTK @ k.transpose(2, 3) * scaling).masked_fill(~seen_TT, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, flash_attention_mask)


def put_into(model: Any) -> None:
    """In place of the model's attention. Not when it is made: transformers would look for the kernels of a name with "flash" in it."""
    model.config._attn_implementation = NAME
