"""Fragments -> blocks of equal length -> Arrow rows (format: shards.py)."""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_convert.encode import Fragment
from data_convert.shards import COLUMNS

log = logging.getLogger(__name__)
ROWS_PER_CHUNK = 4096
MUCH_PADDING = 0.1
FEW_BLOCKS = 20


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into as few blocks as best-fit-decreasing finds: each goes where the least room is left over.

    Returns indices into `lengths`, one list per block. Ties go to the earlier item, so the result is the same every time.
    """
    if lengths and not 0 < min(lengths) <= max(lengths) <= capacity:
        raise ValueError(f"lengths must lie in 1..{capacity}")
    blocks: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # room left -> blocks with exactly that room
    rooms: list[int] = []  # sorted keys of with_room: at most `capacity` of them
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = bisect_left(rooms, lengths[index])
        if place == len(rooms):
            block, room = len(blocks), capacity
            blocks.append([])
        else:
            room = rooms[place]
            block = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        blocks[block].append(index)
        if left := room - lengths[index]:
            if left not in with_room:
                insort(rooms, left)
                with_room[left] = []
            with_room[left].append(block)
    return blocks


def write_blocks(
    folder: Path, fragments: dict[str, list[Fragment]], block_tokens: int, pad: int, seed: Sequence[int]
) -> dict[str, dict[str, int | float]]:
    """Pack each modality by itself, shuffle the blocks of all modalities, write one Arrow folder (none without fragments).

    Returns counts per modality: fragments, tokens (padding not counted), letters, blocks, padding_share.
    """
    blocks: list[tuple[str, list[Fragment]]] = []
    counts: dict[str, dict[str, int | float]] = {}
    for modality, of_modality in fragments.items():
        packed = best_fit_decreasing([len(fragment.ids) for fragment in of_modality], block_tokens)
        blocks.extend((modality, [of_modality[i] for i in block]) for block in packed)
        tokens = sum(len(fragment.ids) for fragment in of_modality)
        padding = 1 - tokens / (len(packed) * block_tokens) if packed else 0.0
        counts[modality] = {
            "fragments": len(of_modality),
            "tokens": tokens,
            "letters": sum(fragment.letters for fragment in of_modality),
            "blocks": len(packed),
            "padding_share": round(padding, 4),
        }
        if padding > MUCH_PADDING and len(packed) > FEW_BLOCKS:
            log.warning("%s", _advice(f"{folder.name} {modality}", padding, [len(fragment.ids) for fragment in of_modality], block_tokens))
    if blocks:
        order = np.random.default_rng(list(seed)).permutation(len(blocks))
        _write(folder, [blocks[i] for i in order], block_tokens, pad)
    return counts


def _advice(name: str, padding: float, lengths: list[int], block_tokens: int) -> str:
    usual = int(np.median(lengths))
    longer = 0.97 * block_tokens / (block_tokens // usual * usual)  # 3 % room, since windows differ in tokens
    return (
        f"{name}: {100 * padding:.0f} % of the blocks is padding. A document has about {usual} tokens, a block {block_tokens}; "
        f"a window {longer:.2f} times as long would fill it better"
    )


def _write(folder: Path, blocks: list[tuple[str, list[Fragment]]], block_tokens: int, pad: int) -> None:
    import datasets
    import pyarrow as pa

    kinds = (pa.list_(pa.uint32()), pa.list_(pa.int32()), pa.list_(pa.int64()), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    batches = []
    for start in range(0, len(blocks), ROWS_PER_CHUNK):  # a chunk's list offsets are 32 bits wide
        rows = blocks[start : start + ROWS_PER_CHUNK]
        ids = np.full((len(rows), block_tokens), pad, dtype=np.uint32)
        for row, (_, block) in zip(ids, rows, strict=True):
            joined = np.concatenate([fragment.ids for fragment in block])
            row[: len(joined)] = joined
        offsets = np.arange(0, ids.size + 1, block_tokens, dtype=np.int32)
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(ids.reshape(-1))),
            pa.array([[len(fragment.ids) for fragment in block] for _, block in rows], kinds[1]),
            pa.array([[fragment.letters for fragment in block] for _, block in rows], kinds[2]),
            pa.array([modality for modality, _ in rows], kinds[3]),
        ]
        batches.append(pa.record_batch(columns, schema=schema))
    table = pa.Table.from_batches(batches, schema)
    datasets.Dataset(datasets.table.InMemoryTable(table)).save_to_disk(str(folder))
