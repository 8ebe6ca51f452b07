"""What would fail late, refused before anything is loaded. Every message names the way out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.shards import tokenizer_fingerprint
from pretrain.recipe import PretrainRecipe
from training.recipe import accumulation_of

GIB = 1 << 30


def check_fit(model: Path, shards: Path) -> None:
    """Refuse shards that were packed with another tokenizer."""
    packed_with = read_manifest(shards, "shards")["inputs"]["tokenizer"]
    own = tokenizer_fingerprint(model)
    if packed_with != own:
        raise UserError(f"{shards}: packed with tokenizer {packed_with}, but {model} has {own}; pack again with this model's tokenizer")


def check_context(config: Any, longest: int, path: Path) -> None:
    """Refuse a document longer than the model's context. Blocks may be longer: positions begin anew at every document."""
    context = config.max_position_embeddings
    if longest > context:
        raise UserError(
            f"{path}: the longest document has {longest} tokens, the model's context is {context}; pack again "
            f"with block_tokens={context} or smaller windows"
        )


def check_batch(recipe: PretrainRecipe, ranks: int) -> None:
    """Refuse a batch that the ranks really started do not divide, and a launcher that started others than the recipe says."""
    try:
        accumulation_of(recipe, ranks)
    except ValueError as error:
        raise UserError(str(error)) from None


def check_disk(out: Path, needed: int, what: str) -> None:
    """Refuse to start where the checkpoints would not fit.

    Args:
        needed: bytes.
    """
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / GIB:.1f} GiB free, {what} need {needed / GIB:.1f}; free some, name another out, or lower keep_checkpoints"
        )
