"""Which row is trained when: a run is one long list of rows, known from the recipe alone.

Nothing is drawn during training, so a position in that list is all that a continued run needs to know, and the rows of a
step are the same for any number of ranks. Rows come in kinds (modalities of blocks, tasks of records). An epoch holds a fixed
number of rows of every kind, spread evenly over it; each kind goes through its own rows in seeded orders, one after another,
and the next epoch goes on where the last one stopped.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Order:
    """Row numbers in the order of training."""

    def __init__(
        self,
        rows: Mapping[str, NDArray[np.int64]],
        quota: Mapping[str, int],
        seed: int,
        begun: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            rows: kind -> numbers of its rows.
            quota: kind -> how many of them an epoch holds; more than there are go through them again.
            begun: kind -> how many rows of its stream were read before this order; none by default.
        """
        self.seed = seed
        self.begun = dict(begun or {})
        self.names = sorted(rows)
        self.rows = dict(rows)
        self.quota = dict(quota)
        self.size = sum(quota.values())
        """Rows of an epoch."""
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def __getitem__(self, position: int) -> int:
        """The row at a position of the run; positions go on without end."""
        epoch, place = divmod(position, self.size)
        return int(self._epoch(epoch)[1][place])

    def _make_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[size] Kind (its number in `names`) and row of every place of an epoch."""
        keys, kinds, rows = [], [], []
        for number, name in enumerate(self.names):
            quota = self.quota[name]
            draw = np.random.default_rng([self.seed, epoch, number])
            keys.append((np.arange(quota) + draw.random(quota)) / max(quota, 1))  # one in each of `quota` equal stretches of the epoch
            kinds.append(np.full(quota, number))
            rows.append(self._stream(name, number, self.begun.get(name, 0) + epoch * quota, quota))
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(kinds)[order], np.concatenate(rows)[order]

    def _stream(self, name: str, number: int, start: int, count: int) -> NDArray[np.int64]:
        """`count` rows of a kind's endless stream of shuffled passes, from `start` on."""
        rows, size = self.rows[name], len(self.rows[name])
        parts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        while count:
            turn, offset = divmod(start, size)
            part = rows[np.random.default_rng([self.seed, turn, number, 1]).permutation(size)][offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def consumed(self, position: int) -> dict[str, int]:
        """Rows of every kind among the first `position` of the run."""
        epochs, rest = divmod(position, self.size)
        counts = (
            np.bincount(self._epoch(epochs)[0][:rest], minlength=len(self.names)) if rest else np.zeros(len(self.names), dtype=np.int64)
        )
        return {name: epochs * self.quota[name] + int(counts[number]) for number, name in enumerate(self.names)}
