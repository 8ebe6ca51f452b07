"""Repositories of the Hugging Face hub in place of folders: `org/name` or `org/name@revision`.

What is fetched lies in the hub's local cache, in a folder named after its commit, so a path says which one was read; `pinned` reads
it back for manifests. Pickled weights are never fetched.
"""

import json
import re
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.recipe import R

FIELDS = {"model": "model", "adapter": "model", "records": "dataset", "shards": "dataset"}
"""Fields of recipes that may name a repository -> its kind."""
ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
OTHERS = ("consolidated*", "original/*", "*.gguf", "*.h5", "*.msgpack", "onnx/*")
"""The same weights once more, for other programs."""
CACHED = re.compile(r"(?:models|datasets)--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")


def is_hub_id(name: str | Path) -> bool:
    """Whether a name is a repository's: nothing lies there, and no folder of its first part does, as of a path with a slip in it."""
    return ID.fullmatch(str(name)) is not None and not Path(name).exists() and not Path(str(name).partition("/")[0]).exists()


def fetched(name: str | Path, kind: str = "model", patterns: list[str] | None = None) -> Path:
    """The folder of a repository on this machine, fetched or from the local cache; it is named after its commit.

    Args:
        patterns: of the files that are wanted; None: all but pickles and weights for other programs.

    Raises:
        UserError: not to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    found = ID.fullmatch(str(name))
    repository, revision = found.groups() if found else (str(name), None)
    try:
        return Path(
            snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=patterns, ignore_patterns=[*PICKLES, *OTHERS])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: no such file or folder, and not to be had from the hub ({type(error).__name__}). Check the path or id; a gated "
            "or private repository needs `hf auth login`; without a network (HF_HUB_OFFLINE=1) it must be in the local hub cache"
        ) from None


def from_hub(recipe: R) -> R:
    """The recipe with the folders of what it names by hub ids, fetched. An endpoint's model is a name of its own."""
    if getattr(recipe, "endpoint", None) is not None:
        return recipe
    values = {name: getattr(recipe, name, None) for name in FIELDS}
    here = {name: fetched(value, FIELDS[name]) for name, value in values.items() if isinstance(value, Path) and is_hub_id(value)}
    return recipe.model_copy(update=here) if here else recipe


def pinned(recipe: Any) -> dict[str, str]:
    """Repositories whose folders stand in a recipe's values -> their commits."""
    return {f"{owner}/{name}": commit for owner, name, commit in CACHED.findall(json.dumps(recipe, default=str))}
