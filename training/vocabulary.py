"""The two vocabulary matrices of a LLaMA in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.loss import ScoringHead

VOCABULARY = ("embed_tokens", "lm_head")


def is_vocabulary(name: str) -> bool:
    """Whether a parameter of this name is one of the two matrices."""
    return any(part in name for part in VOCABULARY)


def keep_old_rows(model: Any, new: list[int]) -> None:
    """Zero the gradients of all rows but `new` in both vocabulary matrices.

    AdamW then never moves them, not by one bit, as long as they have no weight decay: their moments stay zero. Its states
    take memory for all rows. The loss in chunks does not even reckon the gradients of old rows, where the head scores already.
    """
    for module in model.modules():
        if isinstance(module, ScoringHead):
            module.trained = slice(min(new), max(new) + 1)
    for name, parameter in model.named_parameters():
        if is_vocabulary(name) and parameter.requires_grad:
            rows = getattr(parameter, "ds_shape", parameter.shape)[0]
            mask_V1 = torch.zeros(rows, 1, dtype=parameter.dtype)
            mask_V1[new] = 1

            def masked(gradient_VD: Tensor, mask_V1: Tensor = mask_V1) -> Tensor:
                return gradient_VD * mask_V1.to(gradient_VD.device)

            parameter.register_hook(masked)
