"""The optional Transformers in front of the pooling: LucaBase's (pre-LayerNorm, rotary) and LucaPPI's (BERT, post-LayerNorm).

Shapes: B sequences, T rows (padded), D input width, E width of the encoder; mask 1 for rows that count.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

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
    """Linear to E and the layers of transformers' BERT, without position embeddings."""

    def __init__(self, width_in: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embeddings = nn.Linear(width_in, width)
        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT,
            layer_norm_eps=BERT_EPS,
        )
        config._attn_implementation = "sdpa"
        self.encoder = BertEncoder(config)
        _initialise(self)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        found: Any = self.encoder(self.embeddings(x_BTD), attention_mask=mask_BT.bool()[:, None, None, :])
        return found.last_hidden_state


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) and zero biases, which upstream's post_init puts over the Xavier weights."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
