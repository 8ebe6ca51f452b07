"""Which nodes belong together."""

import numpy as np
from numba import njit

from data_convert.splits.pool import Ints


class Parents:
    """Which nodes belong together. The root of a group is its smallest number."""

    def __init__(self, nodes: int) -> None:
        self.of = np.arange(nodes, dtype=np.int64)

    def join(self, pairs: Ints) -> None:
        """[pairs, 2] Put both of each pair into one group."""
        _join(self.of, pairs)

    def roots(self) -> Ints:
        """[nodes]"""
        roots = self.of
        while not np.array_equal(above := roots[roots], roots):
            roots = above
        return above


@njit(cache=True, nogil=True)
def find(of, node):
    root = node
    while of[root] != root:
        root = of[root]
    while of[node] != root:
        of[node], node = root, of[node]
    return root


@njit(cache=True, nogil=True)
def _join(of, pairs):
    for row in range(len(pairs)):
        a, b = find(of, pairs[row, 0]), find(of, pairs[row, 1])
        of[max(a, b)] = min(a, b)
