"""Rows as batches, with the documents of a row isolated from each other.

Isolation rests on `position_ids` that restart at every document together with no attention mask and no cache: an
all-ones mask silently switches it off (design measured: logits then differ by 0.5 to 0.9).

Shapes: B rows, T tokens of the longest row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.loss import IGNORED


class Document(NamedTuple):
    """What nothing else in its row sees: a sequence, a text, or a prompt with its answer."""

    ids: Any
    start: int
    """Place of the first token that is learnt; at least 1, since nothing comes before the first token."""
    weight: Any = 1.0
    """How much each of its labels counts: one number, or one for each of its tokens."""


def documents_in(block: Mapping[str, Any]) -> list[Document]:
    """The documents of a row of token shards, learnt from their second token on, and last its padding."""
    ids, weights = np.asarray(block["input_ids"]), block.get("weights")
    weights = np.ones(len(ids)) if weights is None or not len(weights) else np.asarray(weights)
    ends = np.cumsum(block["seq_lengths"])
    return [Document(part, 1, weight) for part, weight in zip(np.split(ids, ends), np.split(weights, ends), strict=True)]


def batch_of(rows: Sequence[Sequence[Document]], pad: int, weighted: bool = False) -> dict[str, Tensor]:
    """Rows to a batch: input_ids, position_ids and labels, each [B, T]; weights [B, T] where labels count unequally.

    Padding follows the last document and goes on with its positions: nothing before it can see it, and it has no label.
    """
    longest = max(sum(len(document.ids) for document in row) for row in rows)
    input_ids_BT = np.full((len(rows), longest), pad, dtype=np.int64)
    position_ids_BT = np.zeros_like(input_ids_BT)
    labels_BT = np.full_like(input_ids_BT, IGNORED)
    weights_BT = np.zeros(input_ids_BT.shape, dtype=np.float32)
    places = np.arange(longest)
    for number, row in enumerate(rows):
        begin = end = 0
        for ids, start, weight in row:
            begin, end = end, end + len(ids)
            input_ids_BT[number, begin:end] = ids
            position_ids_BT[number, begin:end] = places[: end - begin]
            labels_BT[number, begin + start : end] = ids[start:]
            if weighted:
                weights_BT[number, begin + start : end] = np.broadcast_to(weight, len(ids))[start:]
        position_ids_BT[number, end:] = places[end - begin : longest - begin]
    arrays: dict[str, NDArray[Any]] = {"input_ids": input_ids_BT, "position_ids": position_ids_BT, "labels": labels_BT}
    if weighted:
        arrays["weights"] = weights_BT
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
