"""Which encoder a name stands for is decided here and nowhere else."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from artefacts.folder import fingerprint
from eval.baselines.embedding.auto import AutoEncoder, config_of
from eval.baselines.embedding.dnabert2 import DnaBert2Encoder
from eval.baselines.embedding.encoder import Encoder, pick_device
from eval.baselines.embedding.words import Placed, Words
from eval.baselines.lucaone.letters import CLS, SEP, TOKENS, letter_ids


class _LucaOneLetters(Encoder):
    """One id per letter between [CLS] and [SEP]."""

    def ids(self, modality: str, letters: str) -> np.ndarray:
        return letter_ids(letters, modality)

    def frame(self, modality: str) -> tuple[list[int], list[int]]:
        return [CLS], [SEP]


class LucaOneEncoder(_LucaOneLetters):
    """LucaOne, LucaOne-Gene or LucaOne-Prot; nucleic acids and proteins may share a batch."""

    def __init__(self, folder: str | Path, batch_tokens: int, device: torch.device, dtype: torch.dtype) -> None:
        from eval.baselines.lucaone.checkpoint import load

        super().__init__(batch_tokens, device)
        self.model = cast(Any, load(folder, dtype=dtype)).to(device)
        self.name, self.width = str(folder), self.model.config.hidden_size

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        types_B = torch.tensor([int(modality == "protein") for modality in modalities], device=ids_BT.device)
        return self.model(ids_BT, attention_mask=mask_BT, token_type_ids=types_B[:, None].expand_as(ids_BT)).last_hidden_state


class OneHot(_LucaOneLetters):
    """A channel for each of LucaOne's 39 ids: what a head learns without any pre-training."""

    name, width = "one-hot", len(TOKENS)

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        return F.one_hot(ids_BT, self.width)


LARGE = 1 << 24
"""Bytes from which only blocks of a file are read to tell it from another."""
BLOCK, BLOCKS = 1 << 16, 33
"""Bytes, and how many: also weights that differ in some matrices only, as a merged adapter leaves them, differ in one of so many."""
WITHOUT_A_MODEL: dict[str, Any] = {"one-hot": OneHot, "kmer": Words, "placed": Placed}


def open_encoder(name: str | Path, *, batch_tokens: int | None = None, gpu: int | None = None, bf16: bool = False) -> Encoder:
    """The encoder of a name.

    Args:
        name: `one-hot`, `kmer` or `placed`; a folder or hub id of a LucaOne of either layout, or of what AutoModel reads (ESM-2,
            DNABERT-2, a gene LLaMA).
        bf16: weights and activations in bfloat16; rows are float32 all the same.

    Raises:
        UserError: no such model, or one that needs remote code.
    """
    device = pick_device(gpu)
    # short proteins went 1.4 times as fast through a core in batches of 1024 as of 8192 (docs/lab-notebook.md)
    batch_tokens = batch_tokens or (1024 if device.type == "cpu" else 8192)
    options: dict[str, Any] = {"batch_tokens": batch_tokens, "device": device, "dtype": torch.bfloat16 if bf16 else torch.float32}
    if str(name) in WITHOUT_A_MODEL:
        return WITHOUT_A_MODEL[str(name)](batch_tokens, device)
    if (Path(name) / "pytorch.pth").is_file():
        return LucaOneEncoder(name, **options)
    config = config_of(name)
    if config.get("model_type") == "lucaone":
        return LucaOneEncoder(name, **options)
    if "alibi_starting_size" in config:
        return DnaBert2Encoder(name, config, **options)
    return AutoEncoder(name, **options)


def identity(name: str) -> str:
    """A hub id, one-hot and its like as they are; of a folder, wherever it lies, a hash over its small files, and names, sizes and
    blocks of the large ones, so that weights of many gigabytes need not be read."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    small = [path for path in files if path.stat().st_size < LARGE]
    blocks = hashlib.sha256()
    for path in files:
        if path not in small:
            blocks.update(_sampled(path))
    sizes = ",".join(f"{path.relative_to(folder)}:{path.stat().st_size}" for path in files)
    return f"{fingerprint(*small)}:{blocks.hexdigest()[:16]}:{sizes}"


def _sampled(path: Path) -> bytes:
    """The first block of a large file, the last, and others at even distances between them."""
    last = path.stat().st_size - BLOCK
    with path.open("rb") as handle:
        found = []
        for i in range(BLOCKS):
            handle.seek(last * i // (BLOCKS - 1))
            found.append(handle.read(BLOCK))
    return b"".join(found)
