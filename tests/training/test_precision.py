"""Trained weights are held in float32, and the loss in the head follows autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training.loss import score
from training.model import widen_trained


def test_small_steps_are_lost_in_bf16_and_not_in_float32():
    moved = {}
    for widened in (False, True):
        layer = nn.Linear(4, 4, bias=False, dtype=torch.bfloat16)
        nn.init.ones_(layer.weight)
        if widened:
            widen_trained(layer)
        optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-4, weight_decay=0)
        for _ in range(20):
            layer.weight.grad = torch.ones_like(layer.weight)
            optimiser.step()
        moved[widened] = 1 - layer.weight.float().mean().item()
    assert moved[False] == 0
    assert moved[True] == pytest.approx(20e-4, rel=1e-3)


def test_frozen_weights_stay_as_they_are():
    both = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).bfloat16()
    both[0].requires_grad_(False)
    widen_trained(both)
    assert {parameter.dtype for parameter in both[0].parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in both[1].parameters()} == {torch.float32}


@pytest.mark.parametrize("way", ["full", "chunked"])
@pytest.mark.parametrize("each", [False, True])
def test_the_loss_in_the_head_follows_autocast(way, each):
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(2, 9, 16), torch.randn(50, 16, requires_grad=True), torch.randint(50, (2, 9))
    exact = F.cross_entropy((hidden[:, :-1] @ weight.t()).flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    (wanted,) = torch.autograd.grad(exact, weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = score(way, hidden, weight, labels, each, None)
    assert found.sum().item() == pytest.approx(exact.item(), rel=1e-2)
    if not each:
        found.backward()
        assert weight.grad.dtype == torch.float32
        assert torch.allclose(weight.grad, wanted, atol=0.05)
