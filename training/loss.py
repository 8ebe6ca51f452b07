"""Next-token loss at the output layer without the full logits.

With V = 60,000 to 190,000 ids, logits of a batch of tokens N, their softmax and their gradient are several arrays
[N, V] in float32: 6 GB each for 8,192 tokens and 190,000 ids, more than all else together. Here the positions that have a
label are scored in chunks; each chunk's gradient is taken at once and its logits are dropped.

Shapes: B rows, T tokens of a row, N labelled tokens, D hidden size, V ids, C tokens of a chunk.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from artefacts.errors import UserError

IGNORED = -100
ALL = slice(None)
CHUNK_BYTES = 1 << 27
"""Logits held at a time, in the dtype of the weights. Half as many make the products with the head a third slower on a CPU."""
SLICE_BYTES = 1 << 22
"""Float32 logits worked on at a time on a CPU, so that they stay in its cache."""


class ChunkedLoss(torch.autograd.Function):
    """Sum of the negative log-likelihoods of `labels`, each times its weight, and its gradients, chunk by chunk.

    The gradients are computed in the forward pass, as Liger's fused kernel does: three products with the head instead of
    the four that recomputing in the backward pass would cost. They take [N, D] and [V, D], once. Rows of the head outside
    of `trained` get a gradient of zero, which is not computed.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, chunk: int, trained: slice = ALL, share_N: Tensor | None = None
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
            total += _to_gradients(grad_CV, labels_C, None if share_N is None else share_N[part])
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
            None,
            None,
            None,
            None,
        )


def _to_gradients(logits_CV: Tensor, labels_C: Tensor, share_C: Tensor | None) -> Tensor:
    """Turn logits into their gradients, in place; returns the summed negative log-likelihood. A few rows at a time, in float32.

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
        total += losses_R.sum() if share_R is None else (losses_R * share_R).sum()
        wide_RV.scatter_add_(1, labels_R[:, None], torch.full_like(labels_R[:, None], -1.0, dtype=wide_RV.dtype))
        if share_R is not None:
            wide_RV.mul_(share_R[:, None])
        if wide_RV is not few_RV:
            few_RV.copy_(wide_RV)
    return total


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

    def forward(self, input: Tensor, labels: Tensor | None = None, each: bool = False, weights: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of hidden states [B, T, D]; with labels [B, T] their `score` instead."""
        return super().forward(input) if labels is None else score(self.way, input, self.weight, labels, each, weights, self.trained)


def score(
    way: str, hidden_BTD: Tensor, weight_VD: Tensor, labels_BT: Tensor, each: bool, weights_BT: Tensor | None, trained: slice = ALL
) -> Tensor:
    """The summed negative log-likelihood of the labels, every label scored by the state before it and times its weight.

    With `each`, those of the labelled positions, [N] in their order, without weights.
    """
    device = hidden_BTD.device.type
    if torch.is_autocast_enabled(device):  # the chunks write into arrays of their own, which autocast knows nothing of
        hidden_BTD, weight_VD = (x.to(torch.get_autocast_dtype(device)) for x in (hidden_BTD, weight_VD))
        with torch.autocast(device, enabled=False):
            return score(way, hidden_BTD, weight_VD, labels_BT, each, weights_BT, trained)
    hidden_BTD, labels_BT = hidden_BTD[:, :-1], labels_BT[:, 1:]
    if way == "full" and not each and weights_BT is None:
        logits_BTV = F.linear(hidden_BTD, weight_VD).float()
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum")
    counted_BT = labels_BT != IGNORED
    hidden_ND, labels_N = hidden_BTD[counted_BT], labels_BT[counted_BT]
    if each:
        return negative_log_likelihoods(hidden_ND, weight_VD, labels_N)
    if way == "liger" and weights_BT is None:  # its kernel knows no weights
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return liger_fused_linear_cross_entropy(hidden_ND, weight_VD, labels_N, reduction="sum")
    shares_N = None if weights_BT is None else weights_BT[:, 1:][counted_BT]
    return ChunkedLoss.apply(hidden_ND, weight_VD, labels_N, _chunk(weight_VD), trained, shares_N)


def _scoring(plain: nn.Linear, way: str) -> ScoringHead:
    """The same layer, sharing its weight, as a head that scores."""
    if plain.bias is not None:
        raise UserError("the output layer of this model has a bias, so it is no LLaMA; the loss here knows none")
    head = ScoringHead.__new__(ScoringHead)
    nn.Module.__init__(head)
    head.in_features, head.out_features = plain.in_features, plain.out_features
    head.weight, head.way = plain.weight, way
    head.register_parameter("bias", None)
    return head


def score_in_head(model: Any, way: str) -> None:
    """Make `model(input_ids, position_ids, labels)` return {"loss": summed loss} without full logits; without labels all is as before.

    `weights` [B, T] gives labels unequal weight. Only the call is changed, not the parameters or their names. Of a PEFT
    model, give the base model in it.

    Raises:
        UserError: the head has a bias, which no LLaMA has.
    """
    copies = getattr(model.lm_head, "modules_to_save", None)
    rows_alone = hasattr(model.lm_head, "token_adapter")
    if copies is not None:  # PEFT's copy of the head is the one that is trained
        for name in copies:
            copies[name] = _scoring(copies[name], way)
    elif not rows_alone:
        model.lm_head = _scoring(model.lm_head, way)
    before = model.forward

    # the old signature: `generate` reads from it what the model takes
    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        each: bool = False,
        weights: Tensor | None = None,
        **more: Any,
    ) -> Any:
        if labels is None:
            return before(input_ids=input_ids, **more)
        places = more["position_ids"]
        if "flash" in self.config._attn_implementation:
            input_ids, places, labels, weights = in_one_row(input_ids, places, labels, weights)
        hidden_BTD = self.model(input_ids=input_ids, position_ids=places, use_cache=False).last_hidden_state
        if rows_alone:  # PEFT's layer for single rows makes its weight anew at every call, and takes no further arguments
            return {"loss": score(way, hidden_BTD, self.lm_head.weight, labels, each, weights)}
        return {"loss": self.lm_head(hidden_BTD, labels=labels, each=each, weights=weights)}

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
    """`auto`: Liger's kernel on a GPU where it is installed, else our chunks."""
    if wanted != "auto":
        return wanted
    import importlib.util

    return "liger" if gpu and importlib.util.find_spec("liger_kernel") else "chunked"
