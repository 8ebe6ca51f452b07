"""Packed blocks as training batches, with documents isolated from each other.

Isolation rests on `position_ids` that restart at every document together with no attention mask and no cache: an
all-ones mask silently switches it off (design measured: logits then differ by 0.5 to 0.9).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from artefacts.errors import UserError
from sequences.alphabets import TAGS
from tokenizer.bpe.encode import read_encoders
from training.loss import IGNORED


def collate(blocks: list[dict[str, Any]], unlearnt: NDArray[np.int64] | None = None) -> dict[str, Tensor]:
    """Blocks of one length to a batch: input_ids, position_ids and labels, each [batch, tokens].

    The first token of a document has no label (nothing before it in the block belongs to it), nor has padding, nor have
    the ids `unlearnt`.
    """
    input_ids_BT = np.stack([np.asarray(block["input_ids"], dtype=np.int64) for block in blocks])
    position_ids_BT = np.zeros_like(input_ids_BT)
    labels_BT = input_ids_BT.copy()
    for row, block in enumerate(blocks):
        start = 0
        for length in block["seq_lengths"]:
            position_ids_BT[row, start : start + length] = np.arange(length)
            labels_BT[row, start] = IGNORED
            start += length
        position_ids_BT[row, start:] = np.arange(input_ids_BT.shape[1] - start)
        labels_BT[row, start:] = IGNORED
    if unlearnt is not None and len(unlearnt):
        labels_BT[np.isin(input_ids_BT, unlearnt)] = IGNORED
    return {
        "input_ids": torch.from_numpy(input_ids_BT),
        "position_ids": torch.from_numpy(position_ids_BT),
        "labels": torch.from_numpy(labels_BT),
    }


def unlearnt_ids(folder: Path, kinds: list[str]) -> NDArray[np.int64]:
    """Ids that `no_loss_on` names: tags, and pieces of unknown bases (N alone; in proteins N is asparagine, and is learnt).

    Raises:
        UserError: N is asked for, but sequences of this tokenizer are not spelled in alphabets of their own.
    """
    found: list[int] = []
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if "tags" in kinds:
        found += [number for tag in TAGS if (number := tokenizer.token_to_id(tag)) is not None]
    if "N" in kinds:
        try:
            encoder = read_encoders(tokenizer, ["dna"])["dna"]
        except UserError as error:
            raise UserError(f"{folder}: no_loss_on=[N] needs a tokenizer of `tokenizer extend`: {error}") from None
        longest = int(encoder.letters_of.max())
        # the piece N, and the longer ones that a run of it makes
        found += sorted({int(number) for length in range(1, 2 * longest + 1) for number in encoder.encode("N" * length)})
    return np.array(found, dtype=np.int64)
