"""Chosen fragments -> blocks of equal length -> one Arrow shard (format: shards.py)."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artefacts.folder import new_folder, seal
from data_convert.corpus.best_fit import best_fit_decreasing
from data_convert.corpus.parts import FRAGMENT
from data_convert.corpus.shards import COLUMNS, COUNTS, WEIGHTS

ROWS_PER_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard: which fragments, and where their parts are."""

    folder: Path
    order: Path
    """File of fragment numbers, int64; this shard's are those from `start` to `stop`."""
    start: int
    stop: int
    parts: list[Path]
    modalities: list[str]
    """Of each part."""
    fragments: NDArray[np.int64]
    """[parts + 1] Number of each part's first fragment."""
    pieces: NDArray[np.int64]
    files: list[int]
    """Of each part: the number of its file among all files of the recipe."""
    block_tokens: int
    pad: int
    seed: list[int]
    weighted: bool = False
    """Whether tokens of some part count unequally."""


def write_shard(job: ShardJob) -> None:
    """Pack each modality by itself, best-fit-decreasing, shuffle the blocks of all modalities, write one Arrow folder."""
    numbers = np.fromfile(job.order, dtype="<i8", count=job.stop - job.start, offset=8 * job.start)
    rows, tokens, ids, owner, weights = _gather(job, numbers)
    kinds = [job.modalities[part] for part in owner]
    blocks: list[tuple[str, list[int]]] = []
    counts: dict[str, dict[str, int]] = {}
    for modality in sorted(set(kinds)):
        mine = [place for place, kind in enumerate(kinds) if kind == modality]
        packed = best_fit_decreasing([int(rows[place]["tokens"]) for place in mine], job.block_tokens)
        blocks.extend((modality, [mine[i] for i in block]) for block in packed)
        counts[modality] = {
            "fragments": len(mine),
            "tokens": int(rows["tokens"][mine].sum(dtype=np.int64)),
            "letters": int(rows["letters"][mine].sum(dtype=np.int64)),
            "blocks": len(packed),
        }
    order = np.random.default_rng(job.seed).permutation(len(blocks))
    shutil.rmtree(job.folder, ignore_errors=True)  # damaged
    with new_folder(job.folder) as folder:
        files = np.array(job.files, dtype=np.int64)[owner]
        _write(folder, [blocks[i] for i in order], rows, tokens, ids, files, job.block_tokens, job.pad, weights if job.weighted else None)
        (folder / COUNTS).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        seal(folder)


def _gather(
    job: ShardJob, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.void], list[NDArray[np.uint32]], list[str], NDArray[np.int64], dict[int, NDArray[np.float32]]]:
    """Row (`piece` numbered over all parts), tokens, id and part of each fragment; weights of those that have some.

    Read by position, not mapped: pages of files that are read once would count as memory of this process.
    """
    rows = np.zeros(len(numbers), dtype=[(name, "<u8") for name in FRAGMENT.names or ()])
    tokens: list[NDArray[np.uint32]] = [np.zeros(0, dtype=np.uint32)] * len(numbers)
    names = [""] * len(numbers)
    weights: dict[int, NDArray[np.float32]] = {}
    owner = np.searchsorted(job.fragments, numbers, "right") - 1
    for part in np.unique(owner).tolist():
        places = np.flatnonzero(owner == part)
        places = places[np.argsort(numbers[places], kind="stable")]  # forwards through the files
        with ExitStack() as stack:
            files = ("fragments", "tokens", "ids", "weights")
            table, ids, lines, weighed = (stack.enter_context((job.parts[part] / name).open("rb")) for name in files)
            unequal = os.fstat(weighed.fileno()).st_size > 0
            for place in places.tolist():
                at = int(numbers[place] - job.fragments[part]) * FRAGMENT.itemsize
                row = np.frombuffer(os.pread(table.fileno(), FRAGMENT.itemsize, at), dtype=FRAGMENT)[0]
                rows[place] = tuple(row)
                stretch = 4 * int(row["tokens"]), 4 * int(row["start"])
                tokens[place] = np.frombuffer(os.pread(ids.fileno(), *stretch), dtype="<u4")
                if unequal and (found := np.frombuffer(os.pread(weighed.fileno(), *stretch), dtype="<f4")).min() < 1:
                    weights[place] = found
                names[place] = os.pread(lines.fileno(), int(row["id_bytes"]), int(row["id"])).decode()
        rows["piece"][places] += np.uint64(job.pieces[part])
    return rows, tokens, names, owner, weights


def _write(
    folder: Path,
    blocks: Sequence[tuple[str, list[int]]],
    rows: NDArray[np.void],
    tokens: Sequence[NDArray[np.uint32]],
    ids: Sequence[str],
    files: NDArray[np.int64],
    block_tokens: int,
    pad: int,
    weights: dict[int, NDArray[np.float32]] | None = None,
) -> None:
    import datasets
    import pyarrow as pa

    kinds = [
        pa.list_(pa.uint32()), pa.list_(pa.int32()), pa.list_(pa.int64()), pa.string(),
        pa.list_(pa.int64()), pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.int32()),
    ]  # fmt: skip
    names = COLUMNS if weights is None else (*COLUMNS, WEIGHTS)
    schema = pa.schema(list(zip(names, [*kinds, pa.list_(pa.float32())], strict=False)))
    batches = []
    for start in range(0, len(blocks), ROWS_PER_CHUNK):  # a chunk's list offsets are 32 bits wide
        chunk = blocks[start : start + ROWS_PER_CHUNK]
        blocks_BT = np.full((len(chunk), block_tokens), pad, dtype=np.uint32)
        for row, (_, block) in zip(blocks_BT, chunk, strict=True):
            joined = np.concatenate([tokens[place] for place in block])
            row[: len(joined)] = joined
        flat = np.concatenate([block for _, block in chunk])
        ends = np.concatenate(([0], np.cumsum([len(block) for _, block in chunk]))).astype(np.int32)

        def lists(values: NDArray[Any], kind: Any, flat: Any = flat, ends: Any = ends) -> Any:
            return pa.ListArray.from_arrays(ends, pa.array(values[flat].astype(kind.value_type.to_pandas_dtype())))

        columns = [
            pa.ListArray.from_arrays(np.arange(0, blocks_BT.size + 1, block_tokens, dtype=np.int32), pa.array(blocks_BT.reshape(-1))),
            lists(rows["tokens"], kinds[1]),
            lists(rows["letters"], kinds[2]),
            pa.array([modality for modality, _ in chunk], kinds[3]),
            lists(rows["piece"], kinds[4]),
            lists(rows["turn"], kinds[5]),
            pa.ListArray.from_arrays(ends, pa.array([ids[place] for place in flat.tolist()], pa.string())),
            lists(files, kinds[7]),
        ]
        if weights is not None:
            columns.append(pa.array([_weights(block, tokens, weights, block_tokens) for _, block in chunk], pa.list_(pa.float32())))
        batches.append(pa.record_batch(columns, schema=schema))
    table = pa.Table.from_batches(batches, schema)
    datasets.Dataset(datasets.table.InMemoryTable(table)).save_to_disk(str(folder))


def _weights(
    block: Sequence[int], tokens: Sequence[NDArray[np.uint32]], weights: dict[int, NDArray[np.float32]], block_tokens: int
) -> NDArray[np.float32]:
    """[block_tokens] of a block, or [0] where all count alike."""
    if not any(place in weights for place in block):
        return np.zeros(0, dtype=np.float32)
    joined = np.concatenate([weights.get(place, np.ones(len(tokens[place]), dtype=np.float32)) for place in block])
    return np.concatenate((joined, np.ones(block_tokens - len(joined), dtype=np.float32)))
