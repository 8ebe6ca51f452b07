"""The control of `recover`: the next letters by counts of the contexts themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence


class Markov:
    """How often a letter follows the last `order` letters, counted on all contexts; where those never stood, fewer of them count.

    Order 0 is the most frequent letter.
    """

    def __init__(self, contexts: Sequence[str], order: int) -> None:
        self.order = order
        counts: list[defaultdict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order + 1)]
        for text in contexts:
            for size, counted in enumerate(counts):
                for place in range(size, len(text)):
                    counted[text[place - size : place]][text[place]] += 1
        # of equals the first in the alphabet
        self._best = [
            {before: min(after, key=lambda letter: (-after[letter], letter)) for before, after in counted.items()} for counted in counts
        ]

    def continued(self, text: str, letters: int) -> str:
        """So many letters behind a text, the likeliest each time."""
        found = text
        for _ in range(letters):
            sizes = range(min(self.order, len(found)), -1, -1)
            found += next(best for size in sizes if (best := self._best[size].get(found[len(found) - size :])))
        return found[len(text) :]
