"""Packed blocks of the shards as training batches."""

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
from tokenizer.encoders import read_encoders
from training.batch import Document, batch_of
from training.loss import IGNORED


def collate(blocks: list[dict[str, Any]], unlearnt: NDArray[np.int64] | None = None) -> dict[str, Tensor]:
    """Blocks of one length to a batch; see `batch_of`.

    The first token of a document has no label (nothing before it in the block belongs to it), nor has padding, nor have
    the ids `unlearnt`. Positions begin anew at the padding too. `weights` are there where a block's shard has some.
    """
    rows, weighted = [], False
    for block in blocks:
        ids = np.asarray(block["input_ids"])
        ends = np.cumsum(block["seq_lengths"])
        weights = np.asarray(block.get("weights") or ())
        weighted = weighted or len(weights) > 0
        weights = weights if len(weights) else np.ones(len(ids))
        *documents, padding = [Document(part, 1, weight) for part, weight in zip(np.split(ids, ends), np.split(weights, ends), strict=True)]
        rows.append([*documents, padding._replace(start=len(padding.ids))])
    batch = batch_of(rows, 0, weighted)
    if unlearnt is not None and len(unlearnt):
        batch["labels"][torch.isin(batch["input_ids"], torch.from_numpy(unlearnt))] = IGNORED
    if weighted:  # the weights of a step are added up: what has no label has none
        batch["weights"][batch["labels"] == IGNORED] = 0
    return batch


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
