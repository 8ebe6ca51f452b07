"""How alike test and training sequences still are: the best measured identity of each test sequence to any in train."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_convert.splits.mmseqs import mmseqs_hits
from data_convert.splits.near import best_identity
from data_convert.splits.pool import TRAIN, Ints, Pool

BINS = np.round(np.arange(0, 1.0001, 0.05), 2)
"""Edges of the histogram; identity 1 has a bin of its own, and so have sequences without anything alike."""


@dataclass(frozen=True)
class Nearest:
    """Best identity of the sequences of one split to those of train."""

    node: Ints
    """[sought] ascending"""
    identity: NDArray[np.float64]
    """[sought] 0 where nothing found was found."""
    target: Ints
    """[sought] The training sequence, -1 where none was found."""


def nearest(pool: Pool, split: Ints, side: int, sample: int | None, seed: int, clusters: str = "builtin") -> Nearest:
    """Search every sequence of a split among those of train, both strands of DNA; or at most `sample` of each task, by seed.

    Args:
        clusters: `mmseqs`: MMseqs2 searches too, and the better of both counts.

    Raises:
        UserError: no `mmseqs` on PATH, or it failed.
    """
    of = split[pool.side_record]
    task = pool.task[pool.side_record]
    wanted = np.flatnonzero(of == side)
    if sample is not None:
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(np.unique(pool.node[wanted[task[wanted] == place]]))[:sample] for place in range(len(pool.cards))]
        sought = np.unique(np.concatenate(drawn))
    else:
        sought = np.unique(pool.node[wanted])
    trained = np.unique(pool.node[of == TRAIN])
    identity, target = np.zeros(len(sought)), np.full(len(sought), -1, dtype=np.int64)
    for space in pool.spaces:
        mine = (sought >= space.first) & (sought < space.first + len(space))
        among = trained[(trained >= space.first) & (trained < space.first + len(space))]
        identity[mine], target[mine] = best_identity(space, sought[mine], among)
        if clusters == "mmseqs":
            for place, hits in zip(np.flatnonzero(mine).tolist(), mmseqs_hits(space, sought[mine], among), strict=True):
                node = max(hits, key=lambda node: hits[node], default=-1)
                if node >= 0 and hits[node] > identity[place]:
                    identity[place], target[place] = hits[node], node
    return Nearest(sought, identity, target)


def described(pool: Pool, split: Ints, side: int, found: Nearest) -> list[dict[str, Any]]:
    """Per task, and over all: how many sequences were measured, quantiles of their best identity, and a histogram."""
    rows = []
    mine = np.flatnonzero(split[pool.side_record] == side)
    task = pool.task[pool.side_record[mine]]
    for place in range(-1, len(pool.cards)):
        nodes = np.unique(pool.node[mine[task == place]] if place >= 0 else pool.node[mine])
        at = np.searchsorted(found.node, nodes).clip(0, max(0, len(found.node) - 1))
        measured = at[found.node[at] == nodes] if len(found.node) else at[:0]
        values = found.identity[measured]
        if len(nodes):
            rows.append({"task": pool.cards[place].id if place >= 0 else "all", "sequences": len(nodes), **_figures(values)})
    return rows


def _figures(values: NDArray[np.float64]) -> dict[str, Any]:
    alike = values[(values > 0) & (values < 1)]
    counts = np.histogram(alike, BINS)[0]
    quantiles = (
        {name: float(np.quantile(values, share)) for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))} if len(values) else {}
    )
    return {
        "measured": len(values),
        "nothing_found": int((values == 0).sum()),
        **quantiles,
        "most": float(values.max(initial=0)),
        "identical": int((values == 1).sum()),
        "histogram": counts.tolist(),
    }
