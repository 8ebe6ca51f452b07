"""Initialise the embedding rows of new ids from the base's own rows.

transformers' default (`mean_resizing=True`) makes all new rows practically equal and takes minutes; random rows take
probability mass from text. Here each piece's row is the position-weighted mean of the rows of the letters it spells
(weights 1, 1/2, 1/3 …, so that AT and TA differ), plus small noise, separately for the input and the output matrix. What keeps
these rows out of text is one vector for all of a kind (tokenizer/apart.py).

Everything works on `BLOCK` rows at a time, so that a matrix may be a tensor or lie on disk (tokenizer/weights.py), with
the same result to the bit. Suffixes: V vocabulary, D hidden, N new rows of a block, U base rows that are sources.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from tokenizer.vocabulary import NewIds

BLOCK = 256
"""Rows held in memory at once. The noise is drawn block by block: another value gives other (equally good) rows."""
SHOWN = 6
"""Pieces per modality whose neighbours are reported."""
NEAREST = 5
DESCRIPTIONS = {
    "<dna>": "start of a DNA sequence",
    "</dna>": "end of a DNA sequence",
    "<rna>": "start of an RNA sequence",
    "</rna>": "end of an RNA sequence",
    "<protein>": "start of a protein sequence",
    "</protein>": "end of a protein sequence",
}


class Rows(Protocol):
    """A matrix [vocabulary, hidden] whose rows can be sliced: a tensor, or one that is read from disk."""

    def __getitem__(self, rows: slice, /) -> Tensor: ...


def sources(base: Tokenizer, new: NewIds, rows: int | None = None) -> dict[int, list[int]]:
    """New id -> base ids whose rows it is made of, in order of weight.

    Args:
        rows: rows of the extended matrix. Those beyond the last id are padding and get the pad token's sources: left
            random, they would take part in every softmax and differ from run to run.
    """
    spelled: dict[int, list[int]] = {}
    letters: dict[str, list[int]] = {}
    for pieces in new.pieces.values():
        for piece, index in pieces.items():
            for letter in piece:
                if letter not in letters:
                    letters[letter] = base.encode(letter, add_special_tokens=False).ids
            spelled[index] = [i for letter in piece for i in letters[letter]]
    for tag, index in new.tags.items():
        spelled[index] = base.encode(DESCRIPTIONS[tag], add_special_tokens=False).ids
    padding = base.encode("padding", add_special_tokens=False).ids
    for index in (new.pad, *new.glue.values(), *range(max(new.all) + 1, rows or 0)):
        spelled[index] = padding
    return spelled


@torch.no_grad()
def new_rows(
    base_VD: Rows,
    base_rows: int,
    spelled: dict[int, list[int]],
    noise: float,
    seed: int,
    *,
    by_position: bool = True,
    shifts: Mapping[int, Tensor] | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield new rows in order of their ids: a block of ids and its rows [block, hidden] in float32.

    Args:
        base_VD: the base's matrix; its first `base_rows` rows are read, once through.
        spelled: new id -> base ids, see `sources`.
        noise: standard deviation of the noise, as a share of each dimension's deviation over the base rows.
        by_position: weights 1, 1/2, 1/3 … instead of equal ones.
        shifts: id -> [hidden], added to its row, see `apart.text_shift`.
    """
    used = sorted({part for parts in spelled.values() for part in parts})
    place = {part: index for index, part in enumerate(used)}
    source_UD = torch.cat([base_VD[part : part + 1] for part in used]).float()
    spread_D = noise * deviation(base_VD, 0, base_rows)
    generator = torch.Generator().manual_seed(seed)
    ids = sorted(spelled)
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        lengths = np.array([len(spelled[index]) for index in block])
        offsets = np.cumsum(lengths) - lengths
        position = np.arange(lengths.sum()) - np.repeat(offsets, lengths)
        weights = 1.0 / (position + 1) if by_position else np.ones(len(position))
        weights /= np.repeat(np.add.reduceat(weights, offsets), lengths)
        rows_ND = F.embedding_bag(
            torch.tensor([place[part] for index in block for part in spelled[index]]),
            source_UD,
            torch.from_numpy(offsets),
            mode="sum",
            per_sample_weights=torch.from_numpy(weights).float(),
        )
        rows_ND.addcmul_(torch.randn(rows_ND.shape, generator=generator), spread_D)
        yield block, rows_ND if shifts is None else rows_ND.add_(torch.stack([shifts[index] for index in block]))


def deviation(matrix_VD: Rows, first: int, last: int) -> Tensor:
    """Standard deviation of each dimension over the rows [first, last), [hidden] in float32."""
    total_D = squares_D = torch.zeros(())
    for start in range(first, last, BLOCK):
        block_ND = matrix_VD[start : min(start + BLOCK, last)].double()
        total_D = total_D + block_ND.sum(0)
        squares_D = squares_D + block_ND.square().sum(0)
    count = last - first
    return ((squares_D - total_D.square() / count) / max(1, count - 1)).clamp_min(0).sqrt().float()


@torch.no_grad()
def describe(matrix_VD: Rows, base_rows: int, last: int, new: dict[str, dict[str, int]], base: Tokenizer) -> dict[str, Any]:
    """Norms of base and new rows, the deviation among new rows, and what some new rows lie next to (cosine).

    A neighbour of the same modality is named by its letters; others as `text:the`, `protein:MK`, or the tag.

    Args:
        last: the row behind the last new one; new rows are [base_rows, last).
        new: dna / protein / tag -> piece -> new id.
    """
    names = {index: (name, piece) for name, pieces in new.items() for piece, index in pieces.items()}
    shown = [index for pieces in new.values() for index in _spread(list(pieces.values()))]
    query_QD = F.normalize(torch.cat([matrix_VD[index : index + 1] for index in shown]).float(), dim=1)
    norms = {"base_norm": 0.0, "new_norm": 0.0}
    best_QK, at_QK = torch.zeros(len(shown), 0), torch.zeros(len(shown), 0, dtype=torch.long)
    edges = [*range(0, base_rows, BLOCK), *range(base_rows, last, BLOCK), last]
    for start, end in itertools.pairwise(edges):
        block_ND = matrix_VD[start:end].float()
        length_N = block_ND.norm(dim=1)
        norms["base_norm" if end <= base_rows else "new_norm"] += length_N.sum().item()
        cosine_QN = query_QD @ block_ND.T / length_N.clamp_min(1e-12)
        best_QK = torch.cat([best_QK, cosine_QN], 1)
        at_QK = torch.cat([at_QK, torch.arange(start, end).expand(len(shown), -1)], 1)
        best_QK, order_QK = best_QK.topk(min(NEAREST + 1, best_QK.shape[1]))  # one more: the row itself
        at_QK = at_QK.gather(1, order_QK)

    def named(index: int, beside: str) -> str:
        kind, piece = names.get(index) or ("text", base.decode([index], skip_special_tokens=False) or str(base.id_to_token(index)))
        return piece if kind in (beside, "tag") else f"{kind}:{piece}"

    neighbours = []
    for index, best_K, at_K in zip(shown, best_QK.tolist(), at_QK.tolist(), strict=True):
        kind, piece = names[index]
        near = [[named(other, kind), round(value, 3)] for other, value in zip(at_K, best_K, strict=True) if other != index]
        neighbours.append({"piece": piece, "modality": kind, "nearest": near[:NEAREST]})
    return {
        "base_norm": norms["base_norm"] / base_rows,
        "new_norm": norms["new_norm"] / (last - base_rows),
        "new_deviation": deviation(matrix_VD, base_rows, last).mean().item(),
        "neighbours": neighbours,
    }


def _spread(ids: list[int]) -> list[int]:
    """`SHOWN` of the ids, evenly from the first (a letter) to the last (a long piece)."""
    return [ids[round(step * (len(ids) - 1) / (SHOWN - 1))] for step in range(SHOWN)] if len(ids) > SHOWN else ids
