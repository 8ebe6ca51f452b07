"""Embeddings on disk: a file per sequence as the original writes them, or safetensors shards; both resumable.

A store is a folder with `settings.json` (what made it), `index.jsonl` (id, file, rows) and the data. A file is complete before its
line is in the index, so a run that was stopped goes on where it was. Folders of the original, which have neither, can be read
too. Pickles are read with `weights_only`, numpy arrays being the one thing allowed beside tensors.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.folder import new_file, read_json, write_json
from artefacts.owner import tidy
from artefacts.resume import same_plan, whole_lines

SaveType = Literal["numpy", "tensor", "safetensors"]
SETTINGS = "settings.json"
SHARD_BYTES = 256 << 20
LONGEST_NAME = 120
_RECONSTRUCT: Any = np.zeros(1).__reduce__()[0]
SAFE_GLOBALS: list[Any] = [
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float16)),
    type(np.dtype(np.float64)),
    # the names that numpy 1 and numpy 2 write
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
]


def cleaned(name: str) -> str:
    """Upstream's cleaning of an id: the second field of `a|b|c`, else blanks out and `/` as `_`."""
    name = name.removeprefix(">")
    parts = name.split("|")
    return parts[1].strip() if len(parts) > 1 else name.replace(" ", "").replace("/", "_")


def safe_names(ids: Iterable[str]) -> dict[str, str]:
    """Id -> file name: upstream's where it is safe and belongs to one id alone (also without regard to case), else with a hash."""
    ids = list(ids)
    plain = {name: cleaned(name) for name in ids}
    claims = Counter(text.lower() for text in plain.values())
    names = {}
    for name, text in plain.items():
        if claims[text.lower()] > 1 or not re.fullmatch(r"[A-Za-z0-9_#-][A-Za-z0-9._#-]*", text) or len(text) > LONGEST_NAME:
            digest = hashlib.sha256(name.encode()).hexdigest()[:12]
            text = f"{re.sub(r'[^A-Za-z0-9_-]', '_', text)[: LONGEST_NAME - 13]}-{digest}"
        names[name] = text
    return names


def digest(modality: str, letters: str) -> str:
    """What tells one sequence from another of the same id."""
    return hashlib.sha256(f"{modality}:{letters}".encode()).hexdigest()[:16]


class StoreWriter:
    """Adds embeddings to a folder."""

    def __init__(self, folder: Path, settings: dict[str, Any], save_type: SaveType, prefix: str) -> None:
        """Begin a store, or go on with one of the same settings.

        Args:
            prefix: `matrix` or `vector`, the beginning of upstream's file names.

        Raises:
            UserError: the folder holds embeddings that were made otherwise.
        """
        self.folder, self.save_type, self.prefix, self.settings = folder, save_type, prefix, settings
        before = read_settings(folder)
        tidy(folder, SETTINGS)  # of a run that was killed as it began
        if folder.is_dir() and before is None and any(folder.iterdir()):
            raise UserError(f"{folder}: not empty, and no settings.json says what is in it; choose another output")
        self.done: dict[str, str] = {line["id"]: line["sequence"] for line in read_index(folder)}
        """Id -> digest of its sequence."""
        if before is not None:
            if self.done:  # settings alone, of a try that came to nothing, bind nobody
                same_plan(folder, before, settings, "choose another output, or remove it")
            tidy(folder)
        self._waiting: list[tuple[dict[str, Any], np.ndarray]] = []
        self._bytes = 0
        self._shard = _next_shard(folder)

    def _begin(self) -> None:
        """Say what makes the store, before its first embedding and not before there is one."""
        if not self.done:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / SETTINGS, self.settings)

    def put(self, name: str, sequence: str, file: str, array: np.ndarray, passes: int) -> None:
        """Add one embedding; `sequence` is its digest, `file` its safe name."""
        line: dict[str, Any] = {"id": name, "sequence": sequence, "rows": len(array) if array.ndim == 2 else 1, "passes": passes}
        if self.save_type == "safetensors":
            self._waiting.append((line, array))
            self._bytes += array.nbytes
            if self._bytes >= SHARD_BYTES:
                self.flush()
            return
        self._begin()
        line["file"] = f"{self.prefix}_{file}.pt"
        with new_file(self.folder / line["file"], overwrite=True) as path:
            torch.save(array if self.save_type == "numpy" else torch.from_numpy(array), path)
        self._index([line])

    def flush(self) -> None:
        """Write what waits for its shard."""
        if not self._waiting:
            return
        self._begin()
        file = f"shard-{self._shard:05d}.safetensors"
        with new_file(self.folder / file) as path:
            save_file({str(i): np.ascontiguousarray(array) for i, (_, array) in enumerate(self._waiting)}, path)
        self._index([{**line, "file": file, "key": str(i)} for i, (line, _) in enumerate(self._waiting)])
        self._waiting, self._bytes = [], 0
        self._shard += 1

    def _index(self, lines: list[dict[str, Any]]) -> None:
        with (self.folder / "index.jsonl").open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            handle.flush()
            os.fsync(handle.fileno())
        self.done.update({line["id"]: line["sequence"] for line in lines})


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What made a store; None of a folder that is none of ours.

    Raises:
        UserError: a file that holds no settings.
    """
    path = folder / SETTINGS
    return (
        read_json(path, "it holds no settings of `llama-gene baseline embed`, so choose another folder", dict) if path.is_file() else None
    )


def read_index(folder: Path) -> list[dict[str, Any]]:
    """Lines of the index whose file is there; a last line that was cut off is removed from the file."""
    # a name whose file was removed may stand for another id since
    claims = {(line["file"], line.get("key")): line for line in _lines(folder)}
    return [line for line in claims.values() if (folder / line["file"]).is_file()]


def _next_shard(folder: Path) -> int:
    """A number that no shard has, nor had: lines of one that was removed still stand in the index."""
    names = [*(path.name for path in folder.glob("shard-*")), *(line["file"] for line in _lines(folder))]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"shard-(\d+)\.safetensors", name))]
    return max(numbers, default=-1) + 1


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(folder / "index.jsonl")]


class StoreReader:
    """Embeddings by id."""

    def __init__(self, folder: Path) -> None:
        path_exists(folder, "folder of embeddings", "run `llama-gene baseline embed` first")
        self.folder = folder
        self.settings = read_settings(folder)
        """What made the embeddings; None of a folder of the original."""
        self._lines = {line["id"]: line for line in read_index(folder)}
        self._of_the_original = self.settings is None and not (folder / "index.jsonl").is_file()

    def __contains__(self, name: str) -> bool:
        return name in self._lines or self._foreign(name) is not None

    def line(self, name: str, sequence: str | None = None) -> dict[str, Any] | None:
        """What the index says of an id (`rows`, `passes`); None where it does not have it.

        Args:
            sequence: digest that the embedding has to be of; folders of the original hold none, and are believed.

        Raises:
            UserError: the embedding is of another sequence.
        """
        line = self._lines.get(name)
        if line is not None and sequence is not None and line["sequence"] != sequence:
            raise UserError(f"{self.folder}: the embedding of '{name}' is of another sequence; embed this one into another folder")
        return line

    def read(self, name: str, sequence: str | None = None) -> np.ndarray:
        """`[rows, D]`, or `[D]` of vectors, float32.

        Args:
            sequence: see `line`.

        Raises:
            UserError: no such id, another sequence under it, or a file that cannot be read.
        """
        line = self.line(name, sequence)
        path = self.folder / line["file"] if line is not None else self._foreign(name)
        if path is None:
            raise UserError(f"{self.folder}: no embedding of '{name}'; embed the file that holds it into this folder")
        try:
            if line is not None and "key" in line:
                with safe_open(path, framework="numpy") as shard:
                    return shard.get_tensor(line["key"])
            with torch.serialization.safe_globals(SAFE_GLOBALS):
                found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises whatever the damaged bytes lead to
            raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); remove it and embed again") from None
        return np.asarray(found, dtype=np.float32)

    def _foreign(self, name: str) -> Path | None:
        """The file of a folder that the original made; never one of ours, whose index says which file is whose."""
        path = self.folder / f"matrix_{cleaned(name)}.pt"
        return path if self._of_the_original and path.is_file() else None
