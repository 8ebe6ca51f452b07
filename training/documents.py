"""Attention over packed rows, document by document.

A mask keeps the documents of a packed row apart but costs as much as if they were not: a row of 512 tokens with eight
documents of 64 has 512 x 512 scores, and needs 8 x 64 x 64. Here the documents of a batch are laid out one to a row, those
of about one length together, and attention is plainly causal. All else of a LLaMA sees one token at a time and stays packed.

For a CPU: on a GPU flash_attention_2 and flex_attention know where documents end.

Shapes: B rows, T tokens, H heads, G key-value heads, D head size; N documents of at most L tokens.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

NAME = "sdpa_by_document"
"""The name transformers knows this attention by. Without `documents` it is its own sdpa."""
SHORTEST = 0.75
"""Length of a document, as a share of the longest it is laid out with: what is lost to padding stays under a quarter."""


class DocumentPlaces(NamedTuple):
    """Where the documents of a batch lie."""

    groups: list[Tensor]
    """[N, L] of each group: places in the flat batch. Short documents go on with their last place, which nothing reads."""
    back_M: Tensor
    """[B * T] For each token, its place among all places of the groups, one group after the other."""


def documents_of(position_ids_BT: Tensor) -> DocumentPlaces | None:
    """The documents of packed rows, by their positions, which restart; None where every row is one document."""
    flat_M = position_ids_BT.reshape(-1)
    starts = (flat_M == 0).nonzero()[:, 0].tolist()
    if len(starts) <= len(position_ids_BT):
        return None
    spans = sorted(((end - start, start) for start, end in pairwise([*starts, len(flat_M)])), reverse=True)
    groups, back_M, placed = [], torch.empty_like(flat_M), 0
    while spans:
        longest = spans[0][0]
        count = next((number for number, (length, _) in enumerate(spans) if length < SHORTEST * longest), len(spans))
        lengths_N1, starts_N1 = torch.tensor(spans[:count])[:, :, None].unbind(1)
        steps_L = torch.arange(longest)
        places_NL = starts_N1 + torch.minimum(steps_L, lengths_N1 - 1)
        real_NL = steps_L < lengths_N1
        back_M[places_NL[real_NL]] = placed + torch.arange(places_NL.numel()).view_as(places_NL)[real_NL]
        groups.append(places_NL)
        placed += places_NL.numel()
        del spans[:count]
    return DocumentPlaces(groups, back_M)


def attention(
    module: Any, query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, mask: Any, documents: DocumentPlaces | None = None, **more: Any
) -> tuple[Tensor, None]:
    """[B, T, H, D] What `sdpa` of transformers gives, to rounding; with `documents` the mask is not read."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if documents is None:
        return sdpa_attention_forward(module, query_BHTD, key_BGTD, value_BGTD, mask, **more)
    rows, _, tokens, _ = query_BHTD.shape
    flat = [x.transpose(1, 2).flatten(0, 1) for x in (query_BHTD, key_BGTD, value_BGTD)]  # [B * T, H or G, D]
    parts = []
    for places_NL in documents.groups:
        query, key, value = (x.index_select(0, places_NL.flatten()).unflatten(0, places_NL.shape).transpose(1, 2) for x in flat)
        out_NLHD, _ = sdpa_attention_forward(module, query, key, value, None, **more)
        parts.append(out_NLHD.flatten(0, 1))
    out_MHD = torch.cat(parts).index_select(0, documents.back_M)
    return out_MHD.view(rows, tokens, *out_MHD.shape[1:]), None


def attend_by_document(model: Any) -> None:
    """Let a model take `documents`, of `documents_of`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
