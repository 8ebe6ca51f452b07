"""The one interface of all encoders: letters to ids, ids to rows.

An encoder's subclass says how letters become ids (`ids`), what stands around them (`frame`) and what the model makes of a padded
batch (`states`); batching, padding and long sequences are the same for all (here and in `extract`, which gives whole sequences).

Legend of shapes: B sequences, T tokens (padded), D width.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artefacts.errors import UserError

Piece = tuple[str, np.ndarray]
"""Modality (dna, rna, protein) and ids without their frame."""
MOST_PADDING = 1 / 8
"""Share of a batch's length: attention pays for padding with its square, and 28 proteins of 30 to 1,723 residues took twice as long
in batches that the budget alone bounded as one by one."""


def pick_device(gpu: int | None = None) -> torch.device:
    """The given GPU; -1 for the CPU; None for a GPU if there is one. On a machine without any, GPU 0 is the CPU, which is said. Of
    the processes of a launcher (artefacts/ranks.py) the first takes it, and the others those behind it."""
    if gpu == -1 or (gpu is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if gpu == 0 and not torch.cuda.is_available():
        print("gpu_id 0: there is no GPU here, so the CPU does it", file=sys.stderr)
        return torch.device("cpu")
    gpu = (gpu or 0) + (torch.cuda.current_device() if torch.cuda.is_available() else 0)
    if gpu >= torch.cuda.device_count():
        raise UserError(f"gpu_id {gpu}: there is no such GPU here; pass -1 for the CPU")
    return torch.device("cuda", gpu)


class Encoder:
    """A frozen encoder."""

    name: str
    """What made the rows; part of the settings of a store."""
    width: int
    longest: int | None = None
    """Most ids of a sequence that one pass takes; None: no limit but memory."""
    batch_tokens: int
    """Tokens of a batch, frame and padding included."""
    device: torch.device
    model: Any = None

    def __init__(self, batch_tokens: int, device: torch.device) -> None:
        self.batch_tokens, self.device = batch_tokens, device

    def ids(self, modality: str, letters: str) -> np.ndarray:
        """Ids of the letters alone."""
        raise NotImplementedError

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        """Ids before and after every sequence."""
        raise NotImplementedError

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        """Last hidden states, `[B, T, D]`."""
        raise NotImplementedError

    def move(self, device: torch.device) -> None:
        """Put the model on another device."""
        self.device = device
        if self.model is not None:
            self.model.to(device)

    @torch.inference_mode()
    def rows(self, batch: Sequence[Piece]) -> list[np.ndarray]:
        """One pass: float32 rows of each piece, frame included."""
        framed = []
        for modality, ids in batch:
            before, after = self.frame(modality)
            framed.append([*before, *ids.tolist(), *after])
        width = max(map(len, framed))
        # the id of the padding is of no account: it stands to the right and is masked
        ids_BT = torch.tensor([ids + [0] * (width - len(ids)) for ids in framed], device=self.device)
        lengths = torch.tensor([len(ids) for ids in framed], device=self.device)
        mask_BT = torch.arange(width, device=self.device)[None] < lengths[:, None]
        states_BTD = self.states(ids_BT, mask_BT, [modality for modality, _ in batch]).float().cpu().numpy()
        return [states_BTD[i, : len(ids)].copy() for i, ids in enumerate(framed)]

    def framed_length(self, modality: str, ids: np.ndarray) -> int:
        """Ids of a piece with its frame."""
        before, after = self.frame(modality)
        return len(before) + len(ids) + len(after)


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices, longest first, so that memory trouble shows at once; no row of a batch is padded by more than `MOST_PADDING`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batch[0]] if batch else 0
        if batch and ((len(batch) + 1) * longest > budget or longest - lengths[i] > MOST_PADDING * longest):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
