"""The cheap baseline of likelihoods: each letter by counts of the letters before it, of all orders up to one.

A finite-context model as compressors of sequences use it (Pratas et al., GeCo, DCC 2016), interpolated from
the lowest order to the highest (Jelinek and Mercer 1980): where a context was seen n times, and c times of
these before letter x,

    p_k(x) = (c + a_k p_(k-1)(x)) / (n + a_k),    p_(-1)(x) = 1 / letters of the alphabet

and a_k is what makes the counted letters cheapest when each is left out of its own counts.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sequences.alphabets import Alphabet, reverse_complement

TRUST = [4.0**power for power in range(-3, 7)]
"""Values of a_k that are tried: so many sightings of a context count as much as all orders below."""
SAMPLE = 100_000
"""Letters, evenly spread, on which a_k is chosen."""
Codes = NDArray[np.int64]


class ContextModel:
    """Counts of letters behind their contexts.

    Shapes: N letters of all texts.

    Args:
        texts: upper-case letters of the alphabet; of DNA and RNA both strands are counted.
        order: letters of the longest context; 12 of an alphabet's letters still fit into 64 bits.
    """

    def __init__(self, texts: Sequence[str], alphabet: Alphabet, order: int) -> None:
        self._letters, self._order = len(alphabet.letters), order
        self._number = np.zeros(128, dtype=np.int64)
        self._number[[ord(letter) for letter in alphabet.letters]] = range(self._letters)
        self._levels: list[tuple[Codes, Codes, float]] = []
        both = texts if alphabet.name == "protein" else [*texts, *map(reverse_complement, texts)]
        letters = sum(map(len, both))
        sample = np.arange(0, letters, max(1, letters // SAMPLE))
        given = np.full(len(sample), 1 / self._letters)
        for code_N in self._codes(both):
            codes, counts = np.unique(code_N[code_N >= 0], return_counts=True)
            before = np.concatenate([[0], np.cumsum(counts)])
            seen, with_letter = (found - 1 for found in self._found(codes, before, code_N[sample]))
            tried = [_blended(given, seen, with_letter, trust) for trust in TRUST]
            best = max(range(len(TRUST)), key=lambda place: float(np.log(tried[place]).sum()))
            given = tried[best]
            self._levels.append((codes, before, TRUST[best]))

    def bits(self, text: str) -> NDArray[np.float64]:
        """[letters of the text] what each costs, given those before it."""
        given = np.full(len(text), 1 / self._letters)
        for (codes, before, trust), code_N in zip(self._levels, self._codes([text]), strict=True):
            given = _blended(given, *self._found(codes, before, code_N), trust)
        return -np.log2(given)

    def _codes(self, texts: Sequence[str]) -> Iterator[Codes]:
        """[N] of each order, a letter with its context as one number; -1 where its text has too few letters before it."""
        number_N = self._number[np.frombuffer("".join(texts).encode(), np.uint8)]
        place_N = np.concatenate([np.arange(len(text)) for text in texts])
        code_N = number_N.copy()
        for order in range(self._order + 1):
            if order:
                code_N[order:] += number_N[:-order] * self._letters**order
            yield np.where(place_N >= order, code_N, -1)

    def _found(self, codes: Codes, before: Codes, code: Codes) -> tuple[Codes, Codes]:
        """How often the context was seen, and how often with its letter; where there is no context, never.

        Args:
            codes: all that were counted, sorted.
            before: how many letters have a smaller code than each, and than none.
        """
        context = code // self._letters * self._letters
        ends = [np.searchsorted(codes, end) for end in (context, context + self._letters, code, code + 1)]
        first, last, one, next_one = (before[end] for end in ends)
        return last - first, next_one - one


def _blended(given: NDArray[np.float64], seen: Codes, with_letter: Codes, trust: float) -> NDArray[np.float64]:
    """The probabilities of one order from those of the order below, which stay where its context was never seen."""
    return np.where(seen > 0, (with_letter + trust * given) / (np.maximum(seen, 0) + trust), given)
