"""The optional Transformers in front of the pooling: LucaBase's (pre-LayerNorm, rotary) and LucaPPI's (BERT, post-LayerNorm).

Shapes: B sequences, T rows (padded), D input width, E width of the encoder; mask 1 for rows that count.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from eval.baselines.lucaone.model import NORM_EPS, Block, rotary

BERT_EPS = 1e-12
DROPOUT = 0.1


class LucaTransformer(nn.Module):
    """Linear to E, padded rows zeroed, LucaOne blocks, LayerNorm; dropout on attention probabilities only."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(width_in, width)
        self.encoder = nn.ModuleList(Block(width, heads, inner, DROPOUT) for _ in range(layers))
        self.last_layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.heads = heads
        _initialise(self)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTE = self.embeddings(x_BTD) * mask_BT[..., None]
        turn = rotary(x_BTE.shape[1], x_BTE.shape[2] // self.heads, x_BTE.device, x_BTE.dtype)
        for layer in self.encoder:
            x_BTE = layer(x_BTE, mask_BT.bool()[:, None, None, :], turn)
        return self.last_layer_norm(x_BTE)


class Bert(nn.Module):
    """Linear to E and BERT layers, without position embeddings; names as in BERT's own state dicts."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(width_in, width)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(BertLayer(width, heads, inner) for _ in range(layers))})
        _initialise(self)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTE = self.embeddings(x_BTD)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            x_BTE = layer(x_BTE, mask_BT.bool()[:, None, None, :])
        return x_BTE


class BertLayer(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + feed_forward(x))`."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": _normalised(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _normalised(inner, width)

    def forward(self, x_BTE: Tensor, mask_B11T: Tensor) -> Tensor:
        projections: Any = self.attention["self"]
        q, k, v = (projections[name](x_BTE).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value"))
        dropout = DROPOUT if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T, dropout_p=dropout).transpose(1, 2).flatten(2)
        x_BTE = self._add(x_BTE, attended, self.attention["output"])
        return self._add(x_BTE, F.gelu(self.intermediate["dense"](x_BTE)), self.output)

    def _add(self, x_BTE: Tensor, branch: Tensor, output: Any) -> Tensor:
        return output["LayerNorm"](x_BTE + F.dropout(output["dense"](branch), DROPOUT, self.training))


def _normalised(width_in: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width_in, width), "LayerNorm": nn.LayerNorm(width, eps=BERT_EPS)})


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) and zero biases, which upstream's post_init puts over the Xavier weights."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
