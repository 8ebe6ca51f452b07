"""Next-token loss at the output layer without the full logits.

With V = 60,000 to 190,000 ids, logits of a batch of tokens N, their softmax and their gradient are several arrays
[N, V] in float32: 6 GB each for 8,192 tokens and 190,000 ids, more than all else together. Here the positions that have a
label are scored in chunks; each chunk's gradient is taken at once and its logits are dropped.

A k-mer can also be scored base by base (`loss: bases`; Carbon, 2026, calls it factorized nucleotide supervision). The
probability that base b stands at place j is the sum over all k-mers with b at j, of a softmax over the whole vocabulary;
the loss of a k-mer is the sum over its places of -log of the probability of the true base. All other targets (text, tags,
single letters) keep their cross-entropy.

The sum is in the unit of the token's cross-entropy, nats per token: the two are equal where the places are independent
and the k-mers hold all the probability. So text weighs against sequences what it weighed before, and a switch from one
loss to the other leaves the scale of the gradients and of the log as it was. Carbon takes the mean over the k places and
divides the text's cross-entropy by k: with one k that is this loss divided by k, and AdamW does not see a constant factor.
Probability outside of the k-mers counts at every place, k times: a model that does not yet know that a k-mer comes next
has losses far above its cross-entropy.

Shapes: B rows, T tokens of a row, N labelled tokens, D hidden size, V ids, C tokens of a chunk, R of them in the cache,
K ids from the first k-mer of a table to its last, M = k x letters.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from artefacts.errors import UserError
from training.documents import NAME as BY_DOCUMENT
from training.documents import attend_by_document, documents_of

IGNORED = -100
ALL = slice(None)
CHUNK_BYTES = 1 << 27
"""Logits held at a time, in the dtype of the weights. Half as many make the products with the head a third slower on a CPU."""
SLICE_BYTES = 1 << 22
"""Float32 logits worked on at a time on a CPU, so that they stay in its cache."""
LEAST = 1e-30
"""Probability of a base below which its loss grows no more: 69 nats. Its reciprocal must fit into float32."""


@dataclass(frozen=True, eq=False)
class KmerTable:
    """The k-mers of one alphabet: all that the loss needs to know of a vocabulary."""

    k: int
    letters: int
    """Letters that the k-mers are over."""
    ids: NDArray[np.integer[Any]]
    """[letters ** k] Of every k-mer, in lexicographic order."""
    _made: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def span(self) -> slice:
        """The ids from the first k-mer to the last. Others may lie among them."""
        return slice(int(self.ids.min()), int(self.ids.max()) + 1)

    def places(self, like: Tensor) -> Tensor:
        """[K + 1, M] 1 where a letter stands at a place of a k-mer, so that a product with it sums over k-mers.

        Ids that are no k-mer have a row of zeros, the last row among them. On the device and in the dtype of `like`.
        """
        key = like.device, like.dtype
        if key not in self._made:
            number = torch.arange(self.letters**self.k)
            row = torch.from_numpy(self.ids.astype(np.int64)) - self.span.start
            places_KM = torch.zeros(self.span.stop - self.span.start + 1, self.k * self.letters)
            for place in range(self.k):
                letter = number // self.letters ** (self.k - 1 - place) % self.letters
                places_KM[row, place * self.letters + letter] = 1
            self._made[key] = places_KM.to(like)
        return self._made[key]


class ChunkedLoss(torch.autograd.Function):
    """Sum of the losses of `labels`, each times its weight, and its gradients, chunk by chunk.

    The loss of a label is its negative log-likelihood; of a k-mer of `tables`, that of its bases (top of this file).

    The gradients are computed in the forward pass, as Liger's fused kernel does: three products with the head instead of
    the four that recomputing in the backward pass would cost. They take [N, D] and [V, D], once. Rows of the head outside
    of `trained` get a gradient of zero, which is not computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        chunk: int,
        trained: slice = ALL,
        share_N: Tensor | None = None,
        tables: Sequence[KmerTable] = (),
    ) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if need_weight else None
        # one array for all chunks: a fresh one of this size costs a CPU a page fault for every 4 KiB, each time
        array_CV = weight_VD.new_empty(min(chunk, len(labels_N)), len(weight_VD))
        for start in range(0, len(labels_N), chunk):
            part = slice(start, start + chunk)
            hidden_CD, labels_C = hidden_ND[part], labels_N[part]
            grad_CV = array_CV[: len(labels_C)]
            torch.mm(hidden_CD, weight_VD.t(), out=grad_CV)
            total += _to_gradients(grad_CV, labels_C, None if share_N is None else share_N[part], tables)
            if grad_hidden_ND is not None:
                torch.mm(grad_CV, weight_VD, out=grad_hidden_ND[part])
            if grad_weight_VD is not None:
                if grad_weight_VD.dtype == grad_CV.dtype:
                    grad_weight_VD[trained].addmm_(grad_CV[:, trained].t(), hidden_CD)
                else:
                    grad_weight_VD[trained] += grad_CV[:, trained].t() @ hidden_CD  # summed in float32 over the chunks
        ctx.gradients = grad_hidden_ND, None if grad_weight_VD is None else grad_weight_VD.to(weight_VD.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        scale = grad_outputs[0]
        hidden, weight = ctx.gradients
        del ctx.gradients
        return (
            None if hidden is None else hidden.mul_(scale.to(hidden.dtype)),
            None if weight is None else weight.mul_(scale.to(weight.dtype)),
            *(None,) * 5,
        )


def _to_gradients(logits_CV: Tensor, labels_C: Tensor, share_C: Tensor | None, tables: Sequence[KmerTable]) -> Tensor:
    """Turn logits into their gradients, in place; returns the summed losses. A few rows at a time, in float32.

    `share_C` is how much each label counts; None: all alike.
    """
    total = torch.zeros((), dtype=torch.float32, device=logits_CV.device)
    rows = max(1, SLICE_BYTES // (4 * logits_CV.shape[1]) if logits_CV.device.type == "cpu" else len(labels_C))
    shares = (None,) * -(-len(labels_C) // rows) if share_C is None else share_C.split(rows)
    for few_RV, labels_R, share_R in zip(logits_CV.split(rows), labels_C.split(rows), shares, strict=True):
        wide_RV = few_RV.float() if few_RV.dtype in (torch.bfloat16, torch.float16) else few_RV
        top_R = wide_RV.amax(dim=-1)
        mine_R = wide_RV.gather(1, labels_R[:, None])[:, 0]
        torch.softmax(wide_RV, dim=-1, out=wide_RV)
        # the largest probability is 1 / sum(exp(logits - top)): the normaliser without a pass of its own
        losses_R = top_R - wide_RV.amax(dim=-1).log() - mine_R
        whole_R = torch.ones_like(losses_R)  # 0 for a label that is scored by its bases
        for table in tables:
            places_R = _score_bases(table, wide_RV, labels_R, losses_R, whole_R)
            share_R = places_R if share_R is None else share_R if places_R is None else share_R * places_R
        total += losses_R.sum() if share_R is None else (losses_R * share_R).sum()
        wide_RV.scatter_add_(1, labels_R[:, None], -whole_R[:, None])
        if share_R is not None:
            wide_RV.mul_(share_R[:, None])
        if wide_RV is not few_RV:
            few_RV.copy_(wide_RV)
    return total


def _score_bases(table: KmerTable, probabilities_RV: Tensor, labels_R: Tensor, losses_R: Tensor, whole_R: Tensor) -> Tensor | None:
    """Where a label is a k-mer of the table, put in place the mean loss of a base, its gradients, and 0 into `whole_R`.

    Returns:
        [R] k where it is one, 1 elsewhere; None where none is.
    """
    places_KM, kmers_RK = table.places(probabilities_RV), probabilities_RV[:, table.span]
    other, row_R = len(places_KM) - 1, labels_R - table.span.start
    true_RM = places_KM[torch.where((row_R < 0) | (row_R > other), other, row_R)]
    kmer_R = true_RM.any(dim=1)
    if not kmer_R.any():
        return None
    found_RM = (kmers_RK @ places_KM[:other]).clamp_(min=LEAST)
    losses_R.copy_(torch.where(kmer_R, (true_RM * found_RM.log()).sum(dim=1) / -table.k, losses_R))
    kmers_RK.mul_(torch.addmm(found_RM.new_ones(1), true_RM / found_RM, places_KM[:other].t(), alpha=-1 / table.k))
    whole_R.masked_fill_(kmer_R, 0)
    return torch.where(kmer_R, table.k, 1)


def negative_log_likelihoods(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    """[N] of each label, without gradients and without the full logits: for measuring."""
    chunk = _chunk(weight_VD)
    parts = [
        F.cross_entropy((hidden_ND[start : start + chunk] @ weight_VD.t()).float(), labels_N[start : start + chunk], reduction="none")
        for start in range(0, len(labels_N), chunk)
    ]
    return torch.cat([torch.zeros(0, device=hidden_ND.device), *parts])


def _chunk(weight_VD: Tensor) -> int:
    return max(1, CHUNK_BYTES // (weight_VD.element_size() * len(weight_VD)))


class ScoringHead(nn.Linear):
    """An output layer that also takes labels, and then scores them.

    This happens inside the head's own forward, where ZeRO-3 has gathered its weight and PEFT has put its copy in place;
    nothing outside ever touches the weight.
    """

    way = "chunked"
    """full (all logits, float32, as `transformers` has it), chunked, or liger (Triton, on a GPU)."""
    trained = ALL
    """Rows that are trained, where it is known that others are not; only chunks make use of it."""

    def forward(
        self,
        input: Tensor,
        labels: Tensor | None = None,
        each: bool = False,
        weights: Tensor | None = None,
        tables: Sequence[KmerTable] = (),
    ) -> Tensor:
        """Logits [B, T, V] of hidden states [B, T, D]; with labels [B, T] their `score` instead."""
        if labels is None:
            return super().forward(input)
        return score(self.way, input, self.weight, labels, each, weights, self.trained, tables)


def score(
    way: str,
    hidden_BTD: Tensor,
    weight_VD: Tensor,
    labels_BT: Tensor,
    each: bool,
    weights_BT: Tensor | None,
    trained: slice = ALL,
    tables: Sequence[KmerTable] = (),
) -> Tensor:
    """The summed losses of the labels, every label scored by the state before it and times its weight.

    A k-mer of `tables` is scored by its bases, in chunks whatever the way. With `each`, the negative log-likelihoods of the
    labelled positions, [N] in their order, without weights: measures compare vocabularies, and know no tables.
    """
    device = hidden_BTD.device.type
    if torch.is_autocast_enabled(device):  # the chunks write into arrays of their own, which autocast knows nothing of
        hidden_BTD, weight_VD = (x.to(torch.get_autocast_dtype(device)) for x in (hidden_BTD, weight_VD))
        with torch.autocast(device, enabled=False):
            return score(way, hidden_BTD, weight_VD, labels_BT, each, weights_BT, trained, tables)
    hidden_BTD, labels_BT = hidden_BTD[:, :-1], labels_BT[:, 1:]
    if way == "full" and not each and weights_BT is None and not tables:
        logits_BTV = F.linear(hidden_BTD, weight_VD).float()
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum")
    counted_BT = labels_BT != IGNORED
    hidden_ND, labels_N = hidden_BTD[counted_BT], labels_BT[counted_BT]
    if each:
        return negative_log_likelihoods(hidden_ND, weight_VD, labels_N)
    if way == "liger" and weights_BT is None and not tables:  # its kernel knows neither
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return liger_fused_linear_cross_entropy(hidden_ND, weight_VD, labels_N, reduction="sum")
    shares_N = None if weights_BT is None else weights_BT[:, 1:][counted_BT]
    return ChunkedLoss.apply(hidden_ND, weight_VD, labels_N, _chunk(weight_VD), trained, shares_N, tables)


def _make_scoring(head: Any, way: str) -> None:
    """Let a layer score. It stays the same object: FSDP2 has put hooks on it, and fills the weight of that object alone."""
    if head.bias is not None:
        raise UserError("the output layer of this model has a bias, so it is no LLaMA; the loss here knows none")
    if not isinstance(head, ScoringHead):
        head.__class__ = ScoringHead if type(head) is nn.Linear else type("ScoringHead", (ScoringHead, type(head)), {})
    head.way = way


def score_in_head(model: Any, way: str, tables: Sequence[KmerTable] = ()) -> None:
    """Make `model(input_ids, position_ids, labels)` return {"loss": summed loss} without full logits; without labels all is as before.

    `weights` [B, T] gives labels unequal weight, `bases` scores the k-mers of `tables` base by base. Only the call is
    changed, not the parameters or their names. Of a PEFT model, give the base model in it.

    Raises:
        UserError: the head has a bias, which no LLaMA has.
    """
    copies = getattr(model.lm_head, "modules_to_save", None)
    rows_alone = hasattr(model.lm_head, "token_adapter")
    if copies is not None:  # PEFT's copy of the head is the one that is trained
        for name in copies:
            _make_scoring(copies[name], way)
    elif not rows_alone:
        _make_scoring(model.lm_head, way)
    if model.config._attn_implementation == "sdpa" and not torch.cuda.is_available():
        attend_by_document(model)
    before = model.forward

    # the old signature: `generate` reads from it what the model takes
    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        each: bool = False,
        weights: Tensor | None = None,
        bases: bool = False,
        **more: Any,
    ) -> Any:
        if labels is None:
            return before(input_ids=input_ids, **more)
        places = more["position_ids"]
        if "flash" in self.config._attn_implementation:
            input_ids, places, labels, weights = in_one_row(input_ids, places, labels, weights)
        apart = documents_of(places) if self.config._attn_implementation == BY_DOCUMENT else None
        # a mask of ones: no other is made, since attention by document reads none
        isolated = {} if apart is None else {"documents": apart, "attention_mask": torch.ones_like(places)}
        hidden_BTD = self.model(input_ids=input_ids, position_ids=places, use_cache=False, **isolated).last_hidden_state
        scored = tables if bases else ()
        if rows_alone:  # PEFT's layer for single rows makes its weight anew at every call, and takes no further arguments
            return {"loss": score(way, hidden_BTD, self.lm_head.weight, labels, each, weights, tables=scored)}
        return {"loss": self.lm_head(hidden_BTD, labels=labels, each=each, weights=weights, tables=scored)}

    model.forward = MethodType(forward, model)


def in_one_row(
    ids_BT: Tensor | None, places_BT: Tensor, labels_BT: Tensor, weights_BT: Tensor | None
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
    """The rows of a batch one after the other, [1, B * T] each.

    Flash attention (transformers 5) isolates documents by positions that restart in a batch of one row only; of more rows it
    takes each as one document. A row's first label, which nothing in the row could tell, must not be told by the row before it.
    """
    labels_BT = labels_BT.clone()
    labels_BT[:, 0] = IGNORED
    ids_1N, weights_1N = (None if x is None else x.reshape(1, -1) for x in (ids_BT, weights_BT))
    return ids_1N, places_BT.reshape(1, -1), labels_BT.reshape(1, -1), weights_1N


def way_for(wanted: str, gpu: bool) -> str:
    """`auto`: Liger's kernel on a GPU where it is installed, else our chunks; so too for the steps before those of `bases`."""
    if wanted not in ("auto", "bases"):
        return wanted
    import importlib.util

    return "liger" if gpu and importlib.util.find_spec("liger_kernel") else "chunked"
