"""Candidate answers as a prefix tree: what they share is computed once.

Shapes: C candidates, N inner nodes, E edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from artefacts.errors import ensure


class Trie:
    """The distinct beginnings of all candidates.

    Node 0 is the prompt's end; node n > 0 is a beginning that some candidate goes on from, and costs one position of a
    forward pass. An edge is a token behind a node, so a whole candidate is a path of edges, and its last token costs none.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        """Raises AssertionError for an empty candidate: a template that writes nothing for an answer is refused before."""
        self.tokens: list[int] = []
        """Token of the nodes 1..N."""
        self.parents: list[int] = []
        self.children: list[dict[int, int]] = [{}]
        """Of each node: token -> node. Tokens that end every candidate they stand in have none."""
        self.edges: list[tuple[int, int]] = []
        """(node, token)."""
        self.last: list[int] = []
        """Of each candidate: its last edge."""
        self._paths: list[list[int]] = []
        self._ways: list[list[int]] = [[]]
        known: dict[tuple[int, int], int] = {}
        for answer in answers:
            ensure(bool(answer), "a candidate without tokens")
            node, path = 0, []
            for place, token in enumerate(answer):
                edge = known.setdefault((node, token), len(self.edges))
                if edge == len(self.edges):
                    self.edges.append((node, token))
                path.append(edge)
                if place + 1 < len(answer):
                    node = self._child(node, token, path)
            self.last.append(path[-1])
            self._paths.append(path)

    def _child(self, node: int, token: int, path: list[int]) -> int:
        if token not in self.children[node]:
            self.tokens.append(token)
            self.parents.append(node)
            self.children.append({})
            self._ways.append(list(path))
            self.children[node][token] = len(self.tokens)
        return self.children[node][token]

    def __len__(self) -> int:
        """N."""
        return len(self.tokens)

    def depths(self) -> list[int]:
        """Of the nodes 1..N: tokens behind the prompt."""
        found = [0]
        for parent in self.parents:  # a parent stands before its children
            found.append(found[parent] + 1)
        return found[1:]

    def sees(self) -> Tensor:
        """bool [N, N]: a node sees itself and the nodes on its way to the prompt, no other branch."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for row, parent in enumerate(self.parents):
            if parent:
                seen[row] |= seen[parent - 1]
        return seen

    def total(self, edges_PE: Tensor) -> Tensor:
        """Sum along every candidate's path: [P, E] -> [P, C]."""
        return _sums(edges_PE, self._paths)

    def before(self, edges_PE: Tensor) -> Tensor:
        """Sum along the way to every node: [P, E] -> [P, 1 + N]."""
        return _sums(edges_PE, self._ways)

    def greedy(self, best: Sequence[int], stops: Sequence[int]) -> list[int] | None:
        """The greedy answer, its stop token included, where it lies inside the tree; None where it leaves it.

        Args:
            best: likeliest next token behind each of the nodes 0..N; a negative number where it is not known, which is outside.
        """
        node, ids = 0, []
        while True:
            token = best[node]
            ids.append(token)
            if token in stops:
                return ids
            if token not in self.children[node]:
                return None
            node = self.children[node][token]


def _sums(edges_PE: Tensor, paths: Sequence[Sequence[int]]) -> Tensor:
    # a spare column of zeros fills shorter paths
    padded = torch.cat([edges_PE, edges_PE.new_zeros(len(edges_PE), 1)], 1)
    longest = max(map(len, paths))
    index = torch.tensor([[*path, *[edges_PE.shape[1]] * (longest - len(path))] for path in paths], device=edges_PE.device)
    return padded[:, index].sum(-1)
