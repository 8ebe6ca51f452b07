"""DNABERT-2 without its remote code: a post-LayerNorm BERT with ALiBi instead of positions and a gated feed-forward (MosaicBERT).

Its config.json calls itself `bert`, so `AutoModel` would quietly fill a plain BERT with random weights. Parameter names are those of
the released file. Memory grows with the square of the length, for ALiBi is a bias per pair of tokens.

Legend of shapes: B sequences, T tokens (padded), D width, H heads.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artefacts.errors import UserError
from eval.baselines.embedding.auto import AutoEncoder, load_tokenizer
from eval.baselines.lucaone.checkpoint import load_exactly, read_state

FILES = ("model.safetensors", "pytorch_model.bin")


def slopes(heads: int) -> list[float]:
    """ALiBi's slope of each head: powers of 2^(-8/n) for n a power of two, else those of the one below and every second of twice it."""
    if math.log2(heads).is_integer():
        return [2.0 ** (-8.0 * (i + 1) / heads) for i in range(heads)]
    lower = 2 ** int(math.log2(heads))
    return slopes(lower) + slopes(2 * lower)[::2][: heads - lower]


class Layer(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + wo(gelu(gate) * value))`."""

    def __init__(self, width: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})
        self.attention = nn.ModuleDict({"self": nn.ModuleDict({"Wqkv": nn.Linear(width, 3 * width)}), "output": output})
        gated = {"gated_layers": nn.Linear(width, 2 * inner, bias=False), "wo": nn.Linear(inner, width)}
        self.mlp = nn.ModuleDict({**gated, "layernorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x_BTD: Tensor, bias_BHTT: Tensor) -> Tensor:
        inside: Any = self.attention
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in inside["self"]["Wqkv"](x_BTD).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_BHTT).transpose(1, 2).flatten(2)
        x_BTD = inside["output"]["LayerNorm"](x_BTD + inside["output"]["dense"](attended))
        gate, value = self.mlp["gated_layers"](x_BTD).chunk(2, dim=-1)
        return self.mlp["layernorm"](x_BTD + self.mlp["wo"](F.gelu(gate) * value))


class DnaBert2(nn.Module):
    """The encoder under `bert.` in the released file, without its pooler."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config.get("layer_norm_eps", 1e-12)
        self.heads: int = config["num_attention_heads"]
        tables = {
            name: nn.Embedding(config[size], width)
            for name, size in (("word_embeddings", "vocab_size"), ("token_type_embeddings", "type_vocab_size"))
        }
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": nn.LayerNorm(width, eps=eps)})
        layers = (Layer(width, self.heads, config["intermediate_size"], eps) for _ in range(config["num_hidden_layers"]))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTD = self.embeddings["word_embeddings"](ids_BT) + self.embeddings["token_type_embeddings"](torch.zeros_like(ids_BT))
        x_BTD = self.embeddings["LayerNorm"](x_BTD)
        place_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        distance_TT = (place_T[None] - place_T[:, None]).abs()
        bias_HTT = -torch.tensor(slopes(self.heads), device=ids_BT.device)[:, None, None] * distance_TT
        bias_BHTT = bias_HTT[None].masked_fill(~mask_BT[:, None, None, :], float("-inf")).to(x_BTD.dtype)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            x_BTD = layer(x_BTD, bias_BHTT)
        return x_BTD


class DnaBert2Encoder(AutoEncoder):
    """Rows of DNABERT-2's tokens, which are pieces of several bases."""

    def __init__(self, name: str | Path, config: dict[str, Any], batch_tokens: int, device: torch.device, dtype: torch.dtype) -> None:
        path = _weights(name)
        state = {
            key: tensor.to(dtype)
            for key, tensor in read_state(path).items()
            if key.startswith("bert.") and not key.startswith("bert.pooler.")
        }
        with torch.device("meta"):
            model = DnaBert2(config)
        load_exactly(model, {key.removeprefix("bert."): tensor for key, tensor in state.items()}, path)
        self.model, self.tokenizer = model, load_tokenizer(name)
        self._opened(name, config["hidden_size"], batch_tokens, device)

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        return self.model(ids_BT, mask_BT)


def _weights(name: str | Path) -> Path:
    from transformers.utils import cached_file

    for file in FILES:  # of a folder too
        if (found := cached_file(str(name), file, _raise_exceptions_for_missing_entries=False)) is not None:
            return Path(found)
    raise UserError(f"{name}: no weights ({', '.join(FILES)})")
