"""Log-likelihoods along the branches of a trie, read behind prompts that a model has read.

All nodes can be read in one pass, or those only that can still matter: what stands before a node bounds every candidate below
it from above, and one finished candidate bounds the best one from below.

Shapes: P prompts, p of them in a part, C candidates, T prompt tokens, N nodes of the trie, K nodes read in one pass, L columns
behind the prompts, E edges of the trie, V vocabulary. q: the prompts of one chunk of logits. n and e: pairs of such a prompt and a
node, or an edge, that was just read, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from eval.ask.trie import Trie

CHUNK = 1 << 20
"""Logits turned to float32 at a time."""
PRUNE_FROM = 32
"""Nodes up to which a trie is always read whole."""
ALIKE = 8
"""Nodes up to which prompts are read together whatever each of them needs; from there with those that need at most twice as many."""


@dataclass
class Prefix:
    """Prompts that a model has read."""

    prompts: Sequence[Sequence[int]]
    mask_PT: Tensor
    cache: Any
    logits_PV: Tensor
    """float32, behind the last prompt token."""


class Found:
    """What is known of every prompt's trie, on the CPU."""

    def __init__(self, trie: Trie, logits_PV: Tensor) -> None:
        P, N = len(logits_PV), len(trie)
        self.trie = trie
        self.nodes_E, self.tokens_E = torch.tensor(trie.edges).T
        self.sees_NN = torch.nn.functional.pad(trie.sees(), (1, 0, 1, 0))
        """[1 + N, 1 + N]; node 0 stands for padding."""
        self.tokens_N, self.depths_N, self.parents_N = (
            torch.tensor([first, *rest]) for first, rest in ((0, trie.tokens), (1, trie.depths()), (0, trie.parents))
        )
        self.edges_PE = torch.zeros(P, len(trie.edges))
        """Log-probabilities; 0 behind nodes that are not read, so that a sum along a path bounds it from above."""
        self.best_PN = torch.full((P, 1 + N), -1)
        """Likeliest token behind each node; -1 behind those that are not read."""
        first = self.nodes_E == 0
        self.edges_PE[:, first] = logits_PV.log_softmax(-1)[:, self.tokens_E[first].to(logits_PV.device)].cpu()
        self.best_PN[:, 0] = logits_PV.argmax(-1).cpu()

    def likeliest(self, node_p: Tensor, rows_p: Tensor) -> Tensor:
        """The node behind each row's likeliest edge from `node_p`; 0 where a candidate ends there."""
        edges_pE = self.edges_PE[rows_p].masked_fill(self.nodes_E != node_p[:, None], -torch.inf)
        edge_p = edges_pE.argmax(1)
        ends_p = torch.isin(edge_p, torch.tensor(self.trie.last))
        ways = zip(node_p.tolist(), self.tokens_E[edge_p].tolist(), strict=True)
        return torch.tensor([self.trie.children[node].get(token, 0) for node, token in ways]).masked_fill(ends_p, 0)

    def open(self, rows_p: Tensor, nats: float) -> Tensor:
        """bool [p, 1 + N]: unread nodes behind read ones, that some candidate within `nats` of the best one can lie below."""
        edges_pE, read_pN = self.edges_PE[rows_p], self.best_PN[rows_p] >= 0
        ended_pC = read_pN[:, self.nodes_E[self.trie.last]]
        bound_p = self.trie.total(edges_pE).masked_fill(~ended_pC, -torch.inf).amax(1)
        before_pN = self.trie.before(edges_pE)
        return ~read_pN & read_pN[:, self.parents_N] & (before_pN > bound_p[:, None] - nats)


@dataclass
class Part:
    """Some of the prompts, and what is cached behind them."""

    rows_p: Tensor
    mask_pT: Tensor
    cache: Any
    nodes_pL: Tensor
    """Node in every column behind the prompts; 0: padding."""

    def of(self, index: Tensor) -> Part:
        """A copy of these rows alone; the part itself where they are all of it."""
        if len(index) == len(self.rows_p):
            return self
        cache, there = DynamicCache(), index.to(self.mask_pT.device)
        for place, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[there], layer.values[there], place)
        return Part(self.rows_p[index], self.mask_pT[there], cache, self.nodes_pL[index])


def score(model: Any, prefix: Prefix, trie: Trie, prune_nats: float | None = None) -> tuple[Tensor, Tensor]:
    """Log-likelihoods and the likeliest token behind every node.

    Args:
        prune_nats: None reads every node. A margin lets tries of more than `PRUNE_FROM` nodes be read where they matter only: first
            the likeliest branch, then all nodes that may lie above a candidate less than the margin below it. Any other candidate
            is given the log-likelihood of its beginning that was read, which is at least its own and at least the margin below the best
            one's: the likeliest candidate is the same, and a probability among C candidates is off by less than C exp(-margin).

    Returns:
        float32 [P, C] and int64 [P, 1 + N], -1 for nodes that were not read, both on the CPU. The prefix is left as it was.
    """
    P, N = len(prefix.prompts), len(trie)
    found = Found(trie, prefix.logits_PV)
    part = Part(torch.arange(P), prefix.mask_PT, prefix.cache, torch.zeros(P, 0, dtype=torch.long))
    if prune_nats is None or N <= PRUNE_FROM:
        if N:
            _read(model, found, part, torch.arange(1, 1 + N).expand(P, N))
    else:
        node_p = found.likeliest(torch.zeros(P, dtype=torch.long), part.rows_p)
        while node_p.any():
            _read(model, found, part, node_p[:, None])
            node_p = torch.where(node_p > 0, found.likeliest(node_p, part.rows_p), 0)
        _read_open(model, found, part, prune_nats)
    if part.nodes_pL.shape[1]:
        prefix.cache.crop(-part.nodes_pL.shape[1])  # the prompts alone again
    return trie.total(found.edges_PE), found.best_PN


def _read_open(model: Any, found: Found, part: Part, nats: float) -> None:
    """Level by level; prompts of which many nodes are open apart from those with few, or all would wait for them."""
    open_pN = found.open(part.rows_p, nats)
    size_p = open_pN.sum(1)
    group_p = (size_p / ALIKE).clamp(min=1).log2().ceil()
    for group in group_p.unique().tolist():
        index = torch.nonzero((group_p == group) & (size_p > 0))[:, 0]
        if len(index):
            sub = part.of(index)
            K = int(size_p[index].max())
            # open nodes first, in order; padding behind
            order = open_pN[index].int().sort(dim=1, descending=True, stable=True)
            _read(model, found, sub, order.indices[:, :K] * order.values[:, :K])
            _read_open(model, found, sub, nats)


def _read(model: Any, found: Found, part: Part, nodes_pK: Tensor) -> None:
    """Read one or more nodes behind every prompt of the part; 0 is padding."""
    device, (p, K) = part.mask_pT.device, nodes_pK.shape
    part.nodes_pL = torch.cat([part.nodes_pL, nodes_pK], 1)
    before = part.mask_pT.bool()[:, None, None, :].expand(p, 1, K, -1)
    behind = found.sees_NN[nodes_pK[:, :, None], part.nodes_pL[:, None, :]][:, None].to(device)
    out = model(
        input_ids=found.tokens_N[nodes_pK].to(device),
        attention_mask=_as_asked(model, torch.cat([before, behind], -1)),
        position_ids=part.mask_pT.sum(1, keepdim=True) + found.depths_N[nodes_pK].to(device) - 1,
        past_key_values=part.cache,
        use_cache=True,
    )
    column_pN = torch.full((p, found.best_PN.shape[1]), -1).scatter(1, nodes_pK, torch.arange(K).expand(p, K))
    column_pN[:, 0] = -1
    step = max(1, CHUNK // out.logits[0].numel())
    for start in range(0, p, step):
        logprobs_qKV = out.logits[start : start + step].float().log_softmax(-1)
        column_qE = column_pN[start : start + step, found.nodes_E]
        row_e, edge_e = (column_qE >= 0).nonzero(as_tuple=True)
        its_e = (row_e.to(device), column_qE[row_e, edge_e].to(device), found.tokens_E[edge_e].to(device))
        found.edges_PE[part.rows_p[start + row_e], edge_e] = logprobs_qKV[its_e].cpu()
        row_n, node_n = (column_pN[start : start + step] >= 0).nonzero(as_tuple=True)
        best_qK = logprobs_qKV.argmax(-1).cpu()
        found.best_PN[part.rows_p[start + row_n], node_n] = best_qK[row_n, column_pN[start + row_n, node_n]]


def _as_asked(model: Any, mask: Tensor) -> Tensor:
    """sdpa takes truth values; eager attention adds the mask to its scores."""
    if model.config.get_text_config()._attn_implementation != "eager":
        return mask
    dtype = next(model.parameters()).dtype
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
