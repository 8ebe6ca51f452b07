"""From the rows of a sequence to one vector. Shapes: B sequences, T rows (padded), D width; mask 1 for rows that count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INSIDE_ONLY = -10000.0
"""Added to the attention of padded rows, on every channel."""
BELOW_ALL = -1023.0
"""Added to padded rows before the maximum."""


class ValueAttention(nn.Module):
    """Attention over the rows, one softmax per channel (arXiv 2210.03970): softmax over T of tanh(xU + xV) W, times x, summed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.U, self.V, self.W = (nn.Parameter(torch.empty(width, width)) for _ in range(3))
        self.reset()

    def reset(self) -> None:
        """Truncated normal, deviation 0.01."""
        for matrix in (self.U, self.V, self.W):
            nn.init.trunc_normal_(matrix, std=0.01)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        # xU + xV as x(U + V): the same function and the same gradients at two thirds of the cost
        energy_BTD = torch.tanh(x_BTD @ (self.U + self.V)) @ self.W
        energy_BTD = energy_BTD + INSIDE_ONLY * (1 - mask_BT.to(energy_BTD.dtype))[..., None]
        return (torch.softmax(energy_BTD, dim=1) * x_BTD).sum(dim=1)


class Maximum(nn.Module):
    """The largest value of each channel."""

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        return (x_BTD + BELOW_ALL * (1 - mask_BT.to(x_BTD.dtype))[..., None]).amax(dim=1)


class Mean(nn.Module):
    """The mean over the rows that count."""

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        return mean_rows(x_BTD, mask_BT)


def mean_rows(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the rows that count."""
    mask_BT1 = mask_BT.to(x_BTD.dtype)[..., None]
    return (x_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1)


def pooling(name: str, width: int) -> nn.Module:
    """`value_attention`, `max` or `mean`."""
    if name == "value_attention":
        return ValueAttention(width)
    return {"max": Maximum, "mean": Mean}[name]()
