"""Read token shards: what `pack` wrote, as one plain `datasets.Dataset`.

`train/00000`, `train/00001`, ... and the same under `heldout` are datasets of their own, each with its `counts.json`.
Columns: `input_ids` (uint32, exactly `block_tokens`), `seq_lengths` (tokens of each document; what is missing to
`block_tokens` is padding and belongs to no document), `letters` (bases, residues or UTF-8 bytes of each document),
`modality`; `pieces` and `turns`: a number that all parts of one document share (a piece of a long text and a strand have
numbers of their own), and the place among them; `ids`: each document's id in its file; `files`: the number of that file in
the manifest's `counts["files"]`; `weights`, where a source weighs repeats: how much each token counts in the loss (float32, as
long as `input_ids`, or empty where all count alike). There is no `attention_mask`: with one, position-based isolation of the
documents is silently lost.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from artefacts.errors import UserError
from artefacts.folder import read_manifest

if TYPE_CHECKING:
    from datasets import Dataset

STAGE = "shards"
SPLITS = ("train", "heldout")
COLUMNS = ("input_ids", "seq_lengths", "letters", "modality", "pieces", "turns", "ids", "files")
WEIGHTS = "weights"
COUNTS = "counts.json"


def tokenizer_fingerprint(folder: str | Path) -> str:
    """SHA-256 of the folder's tokenizer.json: two tokenizers with the same one give the same ids."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder}: no tokenizer.json; name a folder written by `llama-gene tokenizer extend`")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_shards(folder: str | Path, split: str, tokenizer: str | Path | None = None) -> Dataset:
    """Open one split, all its shards one after another, memory-mapped.

    Args:
        split: train or heldout.
        tokenizer: the folder of the tokenizer about to be used; refused if the shards were packed with another one.

    Raises:
        UserError: no finished shards, unknown or absent split, another tokenizer, or rows of another form.
    """
    import datasets

    if split not in SPLITS:
        raise UserError(f"split '{split}': choose {' or '.join(SPLITS)}")
    manifest = read_manifest(folder, STAGE)
    if tokenizer is not None and tokenizer_fingerprint(tokenizer) != manifest["inputs"]["tokenizer"]:
        raise UserError(f"{folder}: packed with another tokenizer than {tokenizer}; pack again with this one")
    path = Path(folder) / split
    if not path.is_dir():
        raise UserError(f"{folder}: has no '{split}' documents; pack again with heldout_files or a larger heldout_share")
    shards = [datasets.load_from_disk(str(shard)) for shard in shard_folders(folder, split)]
    for shard in shards:
        if not isinstance(shard, datasets.Dataset) or tuple(shard.column_names) not in (COLUMNS, (*COLUMNS, WEIGHTS)):
            raise UserError(f"{path}: columns {shard.column_names}, expected {list(COLUMNS)}; pack again with this version")
    return datasets.concatenate_datasets(shards)


def shard_folders(folder: str | Path, split: str) -> list[Path]:
    """The shards of a split, in order; each is read by `datasets.load_from_disk`. Raises UserError if one is missing."""
    path = Path(folder) / split
    found = sorted(path.glob("[0-9]*[0-9]"))
    missing = [number for number, shard in enumerate(found) if shard.name != f"{number:05d}" or not (shard / COUNTS).is_file()]
    if missing or not found:
        raise UserError(f"{path}: shard {missing[0] if missing else 0:05d} is missing; pack again")
    return found
