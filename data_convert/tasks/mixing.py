"""Which rows go where: dev and test cut from train, caps, balance of classes, and the mixture of tasks.

Everything works on row numbers, class codes and keys (hashes of the inputs), never on letters, and follows from the seed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artefacts.recipe import Recipe

Ints = NDArray[np.int64]
SPLITS = ("train", "dev", "test")
CUT = {"dev": 3, "test": 5}
"""Streams of the random generator, so that no two draws of one seed are the same."""
MIX = 4


class Mix(Recipe):
    """How many train rows the tasks of a run give together."""

    records: int = Field(ge=1)
    """Train rows of all tasks together; fewer where the tasks do not have as many."""
    temperature: float = Field(1.0, ge=1)
    """A task of n rows gets a share in proportion to n^(1/temperature): 1 by size, large values nearly equal. No row is repeated."""


def allot(wanted: int, available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """`wanted` in proportion to the weights, nowhere more than is available; what one cannot give the others give.

    The parts add up to min(wanted, sum(available)); fractions go to the largest remainders, ties to the first.
    """
    given = [0] * len(available)
    open_ = [index for index, count in enumerate(available) if count and weights[index] > 0]
    wanted = min(wanted, sum(available[index] for index in open_))
    while open_:
        left = wanted - sum(given)
        scale = left / sum(weights[index] for index in open_)
        full = [index for index in open_ if weights[index] * scale >= available[index]]
        if not full:
            ideal = {index: weights[index] * scale for index in open_}
            for index in open_:
                given[index] = int(ideal[index])
            by_remainder = sorted(open_, key=lambda index: (given[index] - ideal[index], index))
            for index in by_remainder[: wanted - sum(given)]:
                given[index] += 1
            break
        for index in full:
            given[index] = available[index]
        open_ = [index for index in open_ if index not in full]
    return given


def cut(rows: Ints, keys: Ints, wanted: int, split: str, seed: int) -> tuple[Ints, Ints]:
    """Rows that stay in train, and those cut from it. Rows with equal inputs go to the same side, so `wanted` may be passed by a few."""
    groups: dict[int, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(int(keys[row]), []).append(row)
    members = list(groups.values())
    taken: list[int] = []
    for place in np.random.default_rng([seed, CUT[split]]).permutation(len(members)).tolist():
        if len(taken) >= wanted:
            break
        taken += members[place]
    chosen = np.array(sorted(taken), dtype=np.int64)
    return np.setdiff1d(rows, chosen), chosen


def draw(rows: Ints, wanted: int, codes: Ints | None, stream: Sequence[int]) -> Ints:
    """`wanted` of the rows, in their old order; with class codes (by row number), as many of each class as there are."""
    if wanted >= len(rows) and codes is None:
        return rows
    generator = np.random.default_rng(list(stream))
    if codes is None:
        return rows[np.sort(generator.choice(len(rows), size=wanted, replace=False))]
    classes, counts = np.unique(codes[rows], return_counts=True)
    parts = allot(wanted, counts.tolist(), [1.0] * len(classes))
    chosen = [
        generator.choice(rows[codes[rows] == name], size=part, replace=False) for name, part in zip(classes, parts, strict=True) if part
    ]
    return np.sort(np.concatenate(chosen)) if chosen else rows[:0]


def balanced_size(rows: Ints, codes: Ints) -> int:
    """Rows in which every class stands as often as the rarest one can."""
    counts = np.unique(codes[rows], return_counts=True)[1]
    return int(counts.min() * len(counts)) if len(counts) else 0


def shares(mix: Mix, sizes: Sequence[int]) -> list[int]:
    """Train rows of each task."""
    return allot(mix.records, sizes, [size ** (1 / mix.temperature) for size in sizes])
