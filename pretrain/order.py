"""Which block is trained when: a run is one long list of blocks, known from the recipe alone.

Nothing is drawn during training, so a position in that list is all that a continued run needs to know, and the blocks of a
step are the same for any number of ranks. An epoch holds a fixed number of blocks of every modality, spread evenly over
it; each modality goes through its own blocks in seeded orders, one after another, and the next epoch goes on where the last
one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from artefacts.errors import UserError
from pretrain.recipe import Mixture


class BlockOrder:
    """Row numbers of the shards in the order of training."""

    def __init__(self, modalities: NDArray[np.str_], tokens: NDArray[np.int64], mixture: Mixture, seed: int) -> None:
        """
        Args:
            modalities: [blocks] of each row of the shards.
            tokens: [blocks] tokens of each row, without padding.

        Raises:
            UserError: a share for a modality the shards do not hold, or a share or cap that is not positive.
        """
        self.seed = seed
        self._tokens_of_row = tokens
        self.names = sorted(set(modalities.tolist()))
        self.rows = {name: np.flatnonzero(modalities == name) for name in self.names}
        self.tokens = {name: int(tokens[rows].sum()) for name, rows in self.rows.items()}
        self.quota = _quota({name: len(rows) for name, rows in self.rows.items()}, self.tokens, mixture)
        self.size = sum(self.quota.values())
        """Blocks of an epoch."""
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def __getitem__(self, position: int) -> int:
        """The row at a position of the run; positions go on without end."""
        epoch, place = divmod(position, self.size)
        return int(self._epoch(epoch)[1][place])

    def _make_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[size] Modality (its number in `names`) and row of every place of an epoch."""
        keys, kinds, rows = [], [], []
        for number, name in enumerate(self.names):
            quota = self.quota[name]
            draw = np.random.default_rng([self.seed, epoch, number])
            keys.append((np.arange(quota) + draw.random(quota)) / max(quota, 1))  # one in each of `quota` equal stretches of the epoch
            kinds.append(np.full(quota, number))
            rows.append(self._stream(name, number, epoch * quota, quota))
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(kinds)[order], np.concatenate(rows)[order]

    def _stream(self, name: str, number: int, start: int, count: int) -> NDArray[np.int64]:
        """`count` blocks of a modality's endless stream of shuffled passes, from `start` on."""
        rows, size = self.rows[name], len(self.rows[name])
        parts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        while count:
            turn, offset = divmod(start, size)
            part = rows[np.random.default_rng([self.seed, turn, number, 1]).permutation(size)][offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def tokens_between(self, start: int, stop: int) -> int:
        """Tokens without padding in a stretch of the run."""
        return int(sum(self._tokens_of_row[self[position]] for position in range(start, stop)))

    def consumed(self, position: int) -> dict[str, int]:
        """Blocks of every modality among the first `position` of the run."""
        epochs, rest = divmod(position, self.size)
        counts = (
            np.bincount(self._epoch(epochs)[0][:rest], minlength=len(self.names)) if rest else np.zeros(len(self.names), dtype=np.int64)
        )
        return {name: epochs * self.quota[name] + int(counts[number]) for number, name in enumerate(self.names)}


def _quota(blocks: Mapping[str, int], tokens: Mapping[str, int], mixture: Mixture) -> dict[str, int]:
    """Blocks of every modality in an epoch."""
    strange = sorted({*mixture.share, *mixture.most_passes} - blocks.keys())
    if strange:
        raise UserError(f"mixture: the shards hold no {', '.join(strange)}; they hold {', '.join(blocks)}")
    caps = {name: mixture.most_passes.get(name, 1.0) for name in blocks}
    wrong = [name for name, value in [*mixture.share.items(), *caps.items()] if value <= 0]
    if wrong:
        raise UserError(f"mixture: share and most_passes of {wrong[0]} must be positive; leave a modality out by not naming its share")
    if not mixture.share:
        return {name: round(caps[name] * count) for name, count in blocks.items()}
    total = sum(mixture.share.values())
    parts = {name: value / total for name, value in mixture.share.items()}
    whole = min(caps[name] * tokens[name] / part for name, part in parts.items())  # tokens of an epoch
    # rounded down where the cap binds: a cap is a cap
    return {
        name: max(1, min(round(whole * parts[name] * blocks[name] / tokens[name]), int(caps[name] * blocks[name]))) if name in parts else 0
        for name in blocks
    }


class OrderedBlocks(Dataset[dict[str, Any]]):
    """The blocks of a whole run, in order, as a map-style dataset: item i is the block trained at position i."""

    def __init__(self, shards: Any, order: BlockOrder, length: int) -> None:
        self.shards, self.order, self.length = shards, order, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not 0 <= position < self.length:
            raise IndexError(position)
        return self.shards[self.order[position]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(self.length))


def columns(shards: Any) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """[blocks] Modality, tokens without padding, and longest document of every row, without reading the ids."""
    import pyarrow.compute as pc

    tokens, longest = [], []
    for chunk in shards.data.column("seq_lengths").chunks:
        ends = np.asarray(pc.list_value_length(chunk)).cumsum()
        starts = np.concatenate(([0], ends[:-1])).astype(np.int64)
        flat = np.asarray(chunk.flatten()).astype(np.int64)
        tokens.append(np.add.reduceat(flat, starts))
        longest.append(np.maximum.reduceat(flat, starts))
    return np.asarray(shards.data.column("modality").to_pylist()), np.concatenate(tokens), np.concatenate(longest)
