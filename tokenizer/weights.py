"""Extend the vocabulary matrices of a LLaMA on disk, without loading the model.

A shard without such a matrix is copied; one with it is written anew in a stream, its other tensors byte for byte. At no
time are more than a few blocks of rows in memory (`Plan.peak_bytes`), whatever the size of the model.

Supported: safetensors, one file or shards with an index, in float32, float16 or bfloat16, under the names of
`LlamaForCausalLM` (Mistral's and Qwen2's are the same). Not supported: `pytorch_model.bin` (a pickle), other names.
Format: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from artefacts.errors import UserError, ensure
from artefacts.folder import read_json
from tokenizer.generation import IDS, greedy_settings
from tokenizer.rows import BLOCK, new_rows

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_json = partial(read_json, remedy="fetch the model again", kind=dict)
CHUNK = 4 << 20
"""Bytes copied at once."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file, as its header describes it."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Byte of the file where its data begin."""
    size: int
    """Bytes."""

    @property
    def row_bytes(self) -> int:
        return self.size // self.shape[0]


class Matrix:
    """A matrix on disk: `matrix[a:b]` reads those rows, [b - a, hidden]. A memory map would count as memory once read."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    def __getitem__(self, rows: slice, /) -> Tensor:
        start, stop, _ = rows.indices(self.stored.shape[0])
        data = bytearray((stop - start) * self.stored.row_bytes)
        with self.stored.file.open("rb") as handle:
            handle.seek(self.stored.start + start * self.stored.row_bytes)
            handle.readinto(data)
        return torch.frombuffer(data, dtype=DTYPES[self.stored.dtype]).view(stop - start, self.stored.shape[1])


@dataclass(frozen=True)
class Shard:
    """What happens to one file of weights."""

    name: str
    rewritten: bool
    """Holds a vocabulary matrix; other files are copied."""
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Plan:
    """What extending a model's weights takes, known from file headers alone."""

    tied: bool
    matrices: dict[str, Stored]
    """Tensor name -> where the base has it: the input matrix, and the output matrix where it is stored."""
    kept_rows: int
    """Rows that stay as they are: one for each id of the base."""
    rows: int
    """Rows of the extended matrices, padding included."""
    shards: list[Shard]

    @property
    def bytes_written(self) -> int:
        return sum(shard.bytes_written for shard in self.shards)

    @property
    def bytes_read(self) -> int:
        """Every file once, the kept rows once more for their deviation, the extended matrices twice for the report."""
        again = sum((self.kept_rows + 2 * self.rows) * stored.row_bytes for stored in self.matrices.values())
        return sum(shard.bytes_read for shard in self.shards) + again

    @property
    def peak_bytes(self) -> int:
        """Bound on the memory for weights; the interpreter, torch and the tokenizers come on top.

        A value of a block is held as stored (4 bytes at most) and in double precision together with its square (8 + 8),
        or in float32 with noise and result (4 + 4 + 4); the block before it may not have been given back yet, and the
        allocator keeps some, hence 80 bytes. 1,024 rows in float32 stand for the sources and the rows described.
        """
        hidden = max(stored.shape[1] for stored in self.matrices.values())
        return BLOCK * hidden * 80 + 1024 * hidden * 4 + 4 * CHUNK


def read_header(file: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a safetensors file in the order of their data, and its metadata. Nothing else is read.

    Raises:
        UserError: missing, cut short, or not a safetensors file.
    """
    if not file.is_file():
        raise UserError(f"{file}: missing, though the model's index names it; fetch the model again")
    total = file.stat().st_size
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > total - 8:
                raise ValueError
            document: dict[str, Any] = json.loads(handle.read(length))
        metadata = document.pop("__metadata__", {})
        tensors = {
            name: Stored(file, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
            for name, entry in document.items()
            for begin, end in [entry["data_offsets"]]
        }
        end = 8 + length
        for stored in sorted(tensors.values(), key=lambda stored: stored.start):
            wrong_size = stored.dtype in BYTES and stored.size != math.prod(stored.shape) * BYTES[stored.dtype]
            if stored.start != end or wrong_size:
                raise ValueError  # they overlap, leave gaps, or have another size than their shape says
            end += stored.size
        if end != total:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{file}: not a complete safetensors file (cut short, or a Git LFS pointer?); fetch it again") from None
    return dict(sorted(tensors.items(), key=lambda item: item[1].start)), metadata


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a model. Raises UserError when it has a configuration or weights, but not what is needed of both."""
    weights = (folder / SINGLE).is_file() or (folder / INDEX).is_file()
    if (folder / "config.json").is_file():
        if not weights:
            raise UserError(
                f"{folder}: config.json, but neither {SINGLE} nor {INDEX}. Weights in another format are converted with "
                "AutoModelForCausalLM.from_pretrained(BASE, dtype='auto').save_pretrained(FOLDER), or many hub models have them at "
                "another revision; tokenizer_only=true extends the tokenizer alone"
            )
    elif weights:
        raise UserError(f"{folder}: weights without config.json; fetch the model again")
    return weights


def plan(base: Path, kept_rows: int, ids: int, multiple: int) -> Plan:
    """Look at a model folder and say what extending it takes, from its configuration and file headers.

    Args:
        kept_rows: ids of the base.
        ids: ids of the extended tokenizer; the rows are padded up to a multiple of `multiple`.

    Raises:
        UserError: incomplete files, names that are not LLaMA's, a type other than float32, float16, bfloat16, or fewer
            rows than the base has ids.
    """
    config = _json(base / "config.json")
    places = _json(base / INDEX).get("weight_map", {}) if (base / INDEX).is_file() else {}
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{base / INDEX}: its weight_map is not a list of tensors with their files; fetch the model again")
    if (base / SINGLE).is_file():
        places = {}  # as transformers does: one file goes before an index
    files = sorted(set(places.values())) or [SINGLE]
    if any(Path(name).name != name for name in files):
        raise UserError(f"{base / INDEX}: names files outside its folder; fetch the model again")
    stored = {name: tensor for file in files for name, tensor in read_header(base / file)[0].items()}
    if lost := [name for name in places if name not in stored]:
        raise UserError(f"{base / places[lost[0]]}: lacks {lost[0]} ({len(lost)} tensors of the index are lacking); fetch the model again")
    tied = bool(config.get("tie_word_embeddings", False))
    matrices = {name: stored[name] for name in (INPUT, OUTPUT) if name in stored}
    missing = [name for name in ((INPUT,) if tied else (INPUT, OUTPUT)) if name not in matrices]
    if missing:
        kind = ", ".join(config.get("architectures") or ["unnamed architecture"])
        raise UserError(
            f"{base}: no tensor {' and '.join(missing)} in its weights ({kind}); models laid out as LlamaForCausalLM can be extended"
        )
    for name, matrix in matrices.items():
        if matrix.dtype not in DTYPES or len(matrix.shape) != 2 or 0 in matrix.shape:
            raise UserError(
                f"{matrix.file}: {name} is {matrix.dtype} {list(matrix.shape)}; a matrix of {', '.join(DTYPES)} is needed: "
                "start from the model before it was quantised"
            )
        if matrix.shape[0] < kept_rows:
            raise UserError(
                f"{base}: the model has {matrix.shape[0]} embedding rows but its tokenizer {kept_rows} ids; they do not belong together"
            )
    rows = -(-ids // multiple) * multiple
    shards = []
    for name in files:
        size = (base / name).stat().st_size
        grown = [matrix for matrix in matrices.values() if matrix.file.name == name]
        growth = sum((rows - matrix.shape[0]) * matrix.row_bytes for matrix in grown)
        shards.append(Shard(name, bool(grown), size, size + growth))
    return Plan(tied, matrices, kept_rows, rows, shards)


def extend_weights(
    plan: Plan, out: Path, spelled: dict[int, list[int]], noise: float, seed: int, shifts: Mapping[int, Tensor] | None = None
) -> dict[str, Stored]:
    """Write the extended weights, and the index where there is one, into the folder `out`.

    Args:
        spelled: id -> base ids, for every row from `plan.kept_rows` to `plan.rows` (see `rows.sources`).
        noise: see `rows.new_rows`; the input matrix draws from `seed`, an untied output matrix from `seed + 1`.
        shifts: id -> [hidden], added to its row of the output matrix (of the one matrix, where tied), see `apart.text_shift`.

    Returns:
        Tensor name -> the extended matrix on disk.
    """
    ensure(sorted(spelled) == list(range(plan.kept_rows, plan.rows)), "not every new row is spelled")
    base = plan.matrices[INPUT].file.parent

    def rows_to(matrix: Stored, seed: int, shifts: Mapping[int, Tensor] | None) -> Callable[[BinaryIO], None]:
        def write(writer: BinaryIO) -> None:
            for _, rows_ND in new_rows(Matrix(matrix), plan.kept_rows, spelled, noise, seed, shifts=shifts):
                writer.write(rows_ND.to(DTYPES[matrix.dtype]).view(torch.uint8).numpy().data)

        return write

    writers = {}
    for name, matrix in plan.matrices.items():
        own = name == OUTPUT and not plan.tied
        writers[name] = rows_to(matrix, seed + own, shifts if own or plan.tied else None)
    for shard in plan.shards:
        if shard.rewritten:
            _rewrite(base / shard.name, out / shard.name, plan, writers)
        else:
            shutil.copyfile(base / shard.name, out / shard.name)
    if (base / INDEX).is_file() and plan.shards[0].name != SINGLE:
        index = _json(base / INDEX)
        totals = index.setdefault("metadata", {})
        for matrix in plan.matrices.values():
            for key, per_row in (("total_size", matrix.row_bytes), ("total_parameters", matrix.shape[1])):
                if key in totals:
                    totals[key] = int(totals[key]) + (plan.rows - matrix.shape[0]) * per_row
        _write_json(out / INDEX, index)
    return {name: read_header(out / matrix.file.name)[0][name] for name, matrix in plan.matrices.items()}


def generation_of(base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the base's generation_config.json, or config.json where there is none: what is kept, and what is left out."""
    path = base / "generation_config.json"
    if path.is_file():
        return greedy_settings(_json(path))
    return greedy_settings({name: value for name, value in _json(base / "config.json").items() if name in IDS})


def extend_configs(base: Path, out: Path, rows: int, pad: int, ends: list[int]) -> None:
    """Write config.json and generation_config.json.

    Of the first, keys other than those named here keep their values and their order; the second is `generation_of` the base.

    Args:
        ends: ids that end a generation, beside those the base names.
    """
    config = _json(base / "config.json")
    _write_json(out / "config.json", config | {"vocab_size": rows, "pad_token_id": pad})
    generation, _ = generation_of(base)
    known = generation.get("eos_token_id", config.get("eos_token_id"))
    stops = [] if known is None else [known] if isinstance(known, int) else list(known)
    stops += [end for end in ends if end not in stops]
    _write_json(out / "generation_config.json", generation | {"eos_token_id": stops, "pad_token_id": pad})


def gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _rewrite(source: Path, target: Path, plan: Plan, writers: dict[str, Callable[[BinaryIO], None]]) -> None:
    tensors, metadata = read_header(source)
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, stored in tensors.items():
        shape, size = list(stored.shape), stored.size
        if name in writers:
            shape[0], size = plan.rows, plan.rows * stored.row_bytes
        header[name] = {"dtype": stored.dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data must begin at a multiple of 8 bytes
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(len(text).to_bytes(8, "little") + text)
        for name, stored in tensors.items():
            reader.seek(stored.start)
            left = plan.kept_rows * stored.row_bytes if name in writers else stored.size
            while left:
                chunk = reader.read(min(left, CHUNK))
                if not chunk:
                    raise UserError(f"{source}: ends within {name}; was it changed meanwhile?")
                writer.write(chunk)
                left -= len(chunk)
            if name in writers:
                writers[name](writer)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    # transformers' own layout, so that nothing but the changed lines differs from the base's file
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
