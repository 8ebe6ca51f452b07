"""What `precision` means for the weights."""

from __future__ import annotations

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def widen_trained(model: nn.Module) -> None:
    """Put trained weights into float32, frozen ones stay as they are; the passes run in bf16 all the same, by autocast.

    AdamW moves a weight by about the learning rate, and bf16 rounds away what is less than 1/512 of it, so a plain run in bf16 would hardly
    learn. Under DeepSpeed this is not needed: it keeps float32 copies of its own.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
