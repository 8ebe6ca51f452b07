"""Initialise the embedding rows of new ids from the base's own rows.

transformers' default (`mean_resizing=True`) makes all new rows practically equal and takes minutes; random rows take
probability mass from text. Here each piece's row is the position-weighted mean of the rows of the letters it spells
(weights 1, 1/2, 1/3 …, so that AT and TA differ), plus small noise, separately for the input and the output matrix.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tokenizer.vocabulary import NewIds

DESCRIPTIONS = {
    "<dna>": "start of a DNA sequence",
    "</dna>": "end of a DNA sequence",
    "<rna>": "start of an RNA sequence",
    "</rna>": "end of an RNA sequence",
    "<protein>": "start of a protein sequence",
    "</protein>": "end of a protein sequence",
}


def sources(base: Tokenizer, new: NewIds) -> dict[int, list[int]]:
    """New id -> base ids whose rows it is made of, in order of weight."""
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
    for index in (new.pad, *new.glue.values()):
        spelled[index] = padding
    return spelled


@torch.no_grad()
def initialise(matrix_VD: Tensor, spelled: dict[int, list[int]], base_rows: int, noise: float, seed: int) -> None:
    """Fill the rows of new ids in place.

    Args:
        matrix_VD: embedding or output matrix [vocabulary, hidden], already resized; rows below `base_rows` are kept.
        noise: standard deviation of the noise, as a share of each dimension's deviation over the base rows.
    """
    base_VD = matrix_VD[:base_rows].float()
    deviation_D = base_VD.std(dim=0)
    generator = torch.Generator().manual_seed(seed)
    for index, parts in sorted(spelled.items()):
        weight_P = 1.0 / torch.arange(1, len(parts) + 1, dtype=torch.float32)
        row_D = (weight_P[:, None] * base_VD[parts]).sum(0) / weight_P.sum()
        row_D += noise * deviation_D * torch.randn(deviation_D.shape, generator=generator)
        matrix_VD[index] = row_D.to(matrix_VD.dtype)
