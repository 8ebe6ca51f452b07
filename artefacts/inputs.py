"""After a command ended in an exception: is one of its inputs to blame?

An exception that is no `UserError` is a bug of ours, unless an input is damaged: cut short, overwritten, edited by hand. To ask this
before the work would be to read everything twice; so it is asked afterwards, file by file, and the first that does not open is named.
"""

import json
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from artefacts.folder import changed_files
from artefacts.recipe import read_yaml

MOST_FILES, LARGEST_FILE, LONGEST_NAME = 10_000, 64 << 20, 4_000
"""Files looked at in one input, and bytes of one: a corpus has more, and its readers check it. A longer text is no path."""


def broken_input(values: Iterable[Any]) -> str | None:
    """`file: what is wrong`, of the first file that is not what its name says; None where all open.

    Args:
        values: of a recipe; those that name files or folders, of several joined by `+` each, are looked at.
    """
    for path in _paths(values):
        found = sorted(path.rglob("*"))[:MOST_FILES] if path.is_dir() else [path]
        for file in found:
            opener = OPENERS.get(file.name) or OPENERS.get(file.suffix)
            if opener is None or not file.is_file() or (opener is not _weights and file.stat().st_size > LARGEST_FILE):
                continue
            try:
                opener(file)
            except Exception as error:  # of any library: each has its own
                words = " ".join(str(error).split())
                return f"{file}: cannot be read as what its name says ({type(error).__name__}: {words[:300]})"
    return None


def changed_inputs(values: Iterable[Any]) -> list[str]:
    """`file: what is wrong`, of each file that is not as the manifest of its artefact notes it."""
    changed = dict.fromkeys(file for path in _paths(values) for file in changed_files(path))
    return [f"{file}: not the file that its manifest notes: damaged, missing, or changed since" for file in changed]


def states(values: Iterable[Any]) -> dict[Path, tuple[int, int]]:
    """Size and time of change (ns) of each input file, so that one that changes while it is read shows."""
    files = (file for path in _paths(values) for file in (islice(path.rglob("*"), MOST_FILES) if path.is_dir() else [path]))
    return {file: (found.st_size, found.st_mtime_ns) for file in files if file.is_file() for found in [file.stat()]}


def _paths(values: Iterable[Any]) -> list[Path]:
    """What there is of the files and folders that values name."""
    names = [name for value in values if isinstance(value, Path | str) for name in (str(value), *str(value).split("+"))]
    return [Path(name) for name in dict.fromkeys(names) if name and len(name) < LONGEST_NAME and os.path.exists(name)]


def _object(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict | list):
        raise ValueError(f"holds {type(found).__name__}, no object and no list")


def _objects(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and not isinstance(json.loads(line), dict):
                raise ValueError(f"line {number} holds no object")


def _opened_by(library: str, kind: str) -> Callable[[Path], None]:
    """By a class of a library, whose `from_pretrained` takes the folder. The library is imported when it is needed."""

    def opened(path: Path) -> None:
        _object(path)
        getattr(import_module(library), kind).from_pretrained(str(path.parent))

    return opened


def _model(path: Path) -> None:
    """By transformers, and of a language model whether one can be built, without memory. Its weights are checked where it is opened."""
    _opened_by("transformers", "AutoConfig")(path)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(str(path.parent))
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config)


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(path))


def _weights(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as tensors:
        tensors.keys()


def _arrow(path: Path) -> None:
    import pyarrow

    with pyarrow.OSFile(str(path)) as file:
        for batch in pyarrow.ipc.open_stream(file):
            batch.validate()


OPENERS: dict[str, Callable[[Path], Any]] = {
    "config.json": _model,
    "generation_config.json": _opened_by("transformers", "GenerationConfig"),
    "tokenizer.json": _tokenizer,
    "tokenizer_config.json": _opened_by("transformers", "AutoTokenizer"),
    "adapter_config.json": _opened_by("peft", "PeftConfig"),
    ".json": _object,
    ".jsonl": _objects,
    ".arrow": _arrow,
    ".safetensors": _weights,
    ".jinja": lambda path: path.read_text(encoding="utf-8"),  # with tags of transformers' own, and tried where it is used
    ".yaml": lambda path: read_yaml(path.read_bytes(), str(path)),
}
"""By name or ending, what opens a file or raises."""
