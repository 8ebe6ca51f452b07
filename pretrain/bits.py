"""Held-out loss in units that do not depend on the vocabulary: bits per base, per residue, per byte of text.

Only tokens that spell letters count; tags, BOS, EOS and padding do not. The sum of their negative log-likelihoods (in
bits) is divided by the letters (bases, residues, UTF-8 bytes) that they spell. With BPE this is an upper bound on the
model's bits per letter, since one segmentation of the many possible is scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

from pretrain.blocks import IGNORED, collate

BOUNDS = {"dna": 2.0, "protein": math.log2(20), "text": None}
"""Bits per letter of a uniform guess over A C G T, or over twenty residues."""
UNITS = {"dna": "base", "protein": "residue", "text": "byte"}


@torch.no_grad()
def heldout_bits(model: Any, blocks: Iterable[dict[str, Any]], silent_ids: list[int], batch: int) -> dict[str, dict[str, Any]]:
    """Measure every modality present.

    Args:
        blocks: rows of the held-out shards; every rank is given the same ones and measures its share.
        silent_ids: ids that spell no letter (tags, BOS, EOS, pad).

    Returns:
        modality -> bits_per_letter, letters, documents, unit, bound.
    """
    device = next(model.parameters()).device
    silent = torch.tensor(silent_ids, device=device)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    rows = list(blocks)
    modalities = sorted({row["modality"] for row in rows})
    sums = torch.zeros(len(modalities), 3, dtype=torch.float64, device=device)  # nats, letters, documents
    was_training = model.training
    model.eval()
    for index, modality in enumerate(modalities):
        mine = [row for row in rows if row["modality"] == modality][rank::ranks]
        # Under ZeRO-3 every rank must run the same number of forward passes: a rank without a block repeats one, uncounted.
        passes = math.ceil(math.ceil(sum(row["modality"] == modality for row in rows) / ranks) / batch)
        for turn in range(passes):
            part = mine[turn * batch : (turn + 1) * batch]
            inputs = {name: value.to(device) for name, value in collate(part or [rows[0]]).items()}
            labels_BT = inputs.pop("labels")[:, 1:]
            logits_BTV = model(**inputs, use_cache=False).logits[:, :-1]
            counted_BT = (labels_BT != IGNORED) & ~torch.isin(labels_BT, silent)
            nats = F.cross_entropy(logits_BTV[counted_BT].float(), labels_BT[counted_BT], reduction="sum")
            if part:
                letters = sum(sum(row["letters"]) for row in part)
                sums[index] += torch.tensor([nats.item(), letters, sum(len(row["letters"]) for row in part)], device=device)
    if ranks > 1:
        dist.all_reduce(sums)
    model.train(was_training)
    return {
        modality: {
            "bits_per_letter": (nats / math.log(2) / letters).item(),
            "letters": int(letters),
            "documents": int(documents),
            "unit": UNITS[modality],
            "bound": BOUNDS[modality],
        }
        for modality, (nats, letters, documents) in zip(modalities, sums, strict=True)
    }
