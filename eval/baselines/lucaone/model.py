"""The LucaOne encoder: pre-LayerNorm Transformer with rotary positions, written from its published description.

Attention runs through `scaled_dot_product_attention` and no attention map is kept, so memory grows with the length, not with its
square. Padding is masked and a sequence has the same rows alone and in any batch. Not supported: attention maps, contacts,
absolute positions, training dropout.

Legend of shapes: B sequences, T tokens with [CLS] and [SEP] (padded), D width, H heads, K width of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import can_return_tuple

from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.letters import FIRST_RESIDUE

NORM_EPS = 1e-5
ROPE_BASE = 10000.0


def rotary(length: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position times frequency, `[length, width]` each; computed in float32 whatever the model's dtype."""
    frequency = ROPE_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle_TK = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequency).repeat(1, 2)
    return angle_TK.cos().to(dtype), angle_TK.sin().to(dtype)


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn each pair of channels (i, i + K/2) by its angle."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return x_BHTK * cos_TK + torch.cat([-second, first], dim=-1) * sin_TK


class Attention(nn.Module):
    """Multi-head self-attention with biases and rotary positions."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor | None, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (p(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        dropout = self.dropout if self.training else 0.0
        out_BHTK = F.scaled_dot_product_attention(rotate(q, *turn), rotate(k, *turn), v, attn_mask=mask_B11T, dropout_p=dropout)
        return self.out_proj(out_BHTK.transpose(1, 2).flatten(2))


class Block(GradientCheckpointingLayer):
    """`x += attention(norm(x)); x += fc2(gelu(fc1(norm(x))))`."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.pre_layer_norm, self.post_layer_norm = (nn.LayerNorm(width, eps=NORM_EPS) for _ in range(2))
        self.self_attn = Attention(width, heads, dropout)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor | None, turn: tuple[Tensor, Tensor]) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.pre_layer_norm(x_BTD), mask_B11T, turn)
        return x_BTD + self.fc2(F.gelu(self.fc1(self.post_layer_norm(x_BTD))))


class LucaOnePreTrainedModel(PreTrainedModel):
    """What all LucaOne models share."""

    config_class = LucaOneConfig
    base_model_prefix = "lucaone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Block"]
    # the rotary frequencies are computed, and older files store them
    _keys_to_ignore_on_load_unexpected = [r"rot_emb\.inv_freq"]

    def __init__(self, config: LucaOneConfig) -> None:
        config.check()  # from_pretrained sets fields of a configuration that is made already
        super().__init__(config)


class Embeddings(nn.Module):
    """Token plus molecule; rows of padding are zero."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.embed_type = nn.Embedding(config.type_vocab_size, config.hidden_size)

    def forward(self, letters_BTD: Tensor, types_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return (letters_BTD + self.embed_type(types_BT)) * mask_BT[..., None]


class Encoder(nn.Module):
    """The blocks and the final LayerNorm."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__()
        size = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        self.layers = nn.ModuleList(Block(*size) for _ in range(config.num_hidden_layers))
        self.last_layer_norm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.head_width = config.hidden_size // config.num_attention_heads

    def forward(self, x_BTD: Tensor, mask_BT: Tensor, *, keep: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Normalised rows of the last layer, and with `keep` the rows before each block."""
        turn = rotary(x_BTD.shape[1], self.head_width, x_BTD.device, x_BTD.dtype)
        # without padding no mask at all, so that the fastest kernel may run
        mask_B11T = None if bool(mask_BT.all()) else mask_BT[:, None, None, :]
        before = []
        for layer in self.layers:
            if keep:
                before.append(x_BTD)
            x_BTD = layer(x_BTD, mask_B11T, turn)
        return self.last_layer_norm(x_BTD), before


class LucaOneModel(LucaOnePreTrainedModel):
    """Rows of the last layer after the final LayerNorm."""

    def __init__(self, config: LucaOneConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.register_module("embed_tokens", value)

    def mask(self, ids_BT: Tensor | None, mask_BT: Tensor | None, embeds_BTD: Tensor | None) -> Tensor:
        """The tokens that count: the mask that is given, else what is not [PAD], else all."""
        if mask_BT is not None:
            return mask_BT.bool()
        if ids_BT is not None:
            return ids_BT != self.config.pad_token_id
        if embeds_BTD is None:
            raise ValueError("give input_ids or inputs_embeds")
        return torch.ones(embeds_BTD.shape[:2], dtype=torch.bool, device=embeds_BTD.device)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Rows of every token.

        Args:
            attention_mask: 1 for tokens; what is not [PAD] where it is not given.
            token_type_ids: 0 gene, 1 protein; told by each row's own ids where it is not given.
            inputs_embeds: rows of `get_input_embeddings()` in place of input_ids, `[B, T, D]`, the types not added yet.

        Raises:
            ValueError: attention maps are asked for; both of input_ids and inputs_embeds, neither, or the latter without types.
        """
        if output_attentions or kwargs.get("return_contacts") or kwargs.get("need_head_weights"):
            raise ValueError("attention maps are not kept: they need memory with the square of the length")
        if input_ids is not None and inputs_embeds is not None:
            raise ValueError("give input_ids or inputs_embeds, not both")
        mask_BT = self.mask(input_ids, attention_mask, inputs_embeds)
        if inputs_embeds is None:
            inputs_embeds = self.embeddings.embed_tokens(input_ids)
        if token_type_ids is None:
            if input_ids is None:
                raise ValueError("inputs_embeds do not say which molecule they are of: give token_type_ids, 0 for a gene, 1 for a protein")
            token_type_ids = (input_ids >= FIRST_RESIDUE).any(dim=1, keepdim=True).long().expand_as(input_ids)
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        x_BTD, before = self.encoder(self.embeddings(inputs_embeds, token_type_ids, mask_BT), mask_BT, keep=bool(keep))
        return BaseModelOutput(last_hidden_state=x_BTD, hidden_states=(*before, x_BTD) if keep else None)


# From the rows of a sequence to one vector; masks are 1 for rows that count.

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
