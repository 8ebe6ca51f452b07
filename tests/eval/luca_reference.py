"""LucaOne's formulas in plain numpy, one sequence at a time and without padding, from the published description."""

from __future__ import annotations

from collections.abc import Mapping
from math import erf

import numpy as np

Weights = Mapping[str, np.ndarray]
ERF = np.vectorize(erf)


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(x: np.ndarray, weights: Weights, name: str, eps: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + ERF(x / np.sqrt(2)))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def turned(x: np.ndarray) -> np.ndarray:
    """Rotary positions of one head: the complex number of channels (i, i + K/2) times exp(i position base^(-2i/K))."""
    length, width = x.shape
    half = width // 2
    z = x[:, :half] + 1j * x[:, half:]
    angle = np.arange(length)[:, None] * 10000.0 ** (-2 * np.arange(half) / width)
    z = z * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=1)


def attend(x: np.ndarray, weights: Weights, names: tuple[str, str, str], heads: int, *, rotary: bool) -> np.ndarray:
    q, k, v = (linear(x, weights, name) for name in names)
    width = x.shape[1] // heads
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        qh, kh = q[:, part], k[:, part]
        if rotary:
            qh, kh = turned(qh), turned(kh)
        out.append(softmax(qh @ kh.T / np.sqrt(width), 1) @ v[:, part])
    return np.concatenate(out, axis=1)


def block(x: np.ndarray, weights: Weights, name: str, heads: int) -> np.ndarray:
    """Pre-LayerNorm block of the encoder and of LucaBase's optional encoder."""
    names = tuple(f"{name}.self_attn.{part}_proj" for part in "qkv")
    attended = attend(norm(x, weights, f"{name}.pre_layer_norm"), weights, names, heads, rotary=True)
    x = x + linear(attended, weights, f"{name}.self_attn.out_proj")
    return x + linear(gelu(linear(norm(x, weights, f"{name}.post_layer_norm"), weights, f"{name}.fc1")), weights, f"{name}.fc2")


def encode(ids: np.ndarray, kind: int, weights: Weights, layers: int, heads: int) -> np.ndarray:
    """Rows of the last layer for `[CLS] letters [SEP]` in the original layout's names."""
    x = weights["embed_tokens.weight"][ids] + weights["embed_type.weight"][kind]
    for i in range(layers):
        x = block(x, weights, f"layers.{i}", heads)
    return norm(x, weights, "last_layer_norm")


def bert_layer(x: np.ndarray, weights: Weights, name: str, heads: int) -> np.ndarray:
    """Post-LayerNorm BERT layer of LucaPPI's optional encoder."""
    names = tuple(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
    attended = linear(attend(x, weights, names, heads, rotary=False), weights, f"{name}.attention.output.dense")
    x = norm(x + attended, weights, f"{name}.attention.output.LayerNorm", 1e-12)
    inner = linear(gelu(linear(x, weights, f"{name}.intermediate.dense")), weights, f"{name}.output.dense")
    return norm(x + inner, weights, f"{name}.output.LayerNorm", 1e-12)


def value_attention(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    u, v, w = (weights[f"{name}.{part}"] for part in "UVW")
    return (softmax(np.tanh(x @ u + x @ v) @ w, 0) * x).sum(0)


def head(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Hidden layer and classifier, dropout off."""
    return linear(gelu(linear(x, weights, "hidden_layer")), weights, "classifier")
