"""Seeds: patterns of letters that must agree, and an index of where each stands.

A pattern has gaps, and reads the same backwards, so that one look-up serves both strands of DNA.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from data_convert.splits.contain import COMPLEMENT_CODES
from data_convert.splits.pool import Ints, Space

LEAST_BITS, MOST_BITS = 12, 24
"""Of the index: a slot per letter, 64 MiB at most."""


@dataclass(frozen=True)
class Seed:
    """How a modality is searched."""

    pattern: str
    """1: the letter must agree. Reads the same backwards."""
    bits: int
    """Of a letter."""
    letters: int
    """Letters of the alphabet that seeds are made of: those before are unambiguous."""
    least: int
    """Least ungapped score that is aligned."""
    drop: int
    """The extension ends where the score has fallen by so much."""

    @property
    def mask(self) -> np.uint64:
        mask = 0
        for place in self.pattern:
            mask = (mask << self.bits) | ((1 << self.bits) - 1 if place == "1" else 0)
        return np.uint64(mask)


SEEDS = {
    "dna": [Seed(pattern, 2, 4, 20, 12) for pattern in ("110110101101011011", "1110010100110010100111")],
    "protein": [Seed(pattern, 5, 20, 30, 14) for pattern in ("11011", "10011001")],
}
"""Each alphabet is searched with one after the other: what the first pattern misses, the second may find."""


class Index:
    """Where each seed stands in some nodes."""

    def __init__(self, space: Space, nodes: Ints, seed: Seed) -> None:
        size, bits, letters, mask, both = len(seed.pattern), seed.bits, seed.letters, seed.mask, space.alphabet.name == "dna"
        slots = min(max(int(space.lengths[nodes].sum()).bit_length(), LEAST_BITS), MOST_BITS)
        ends = np.zeros((1 << slots) + 2, dtype=np.int32)
        where = (space.codes, space.starts, nodes, size, bits, letters, mask, both, ends)
        _walk(*where, np.zeros(0, dtype=np.int64))
        np.cumsum(ends, out=ends)
        places = np.zeros(ends[-1], dtype=np.int64)
        _walk(*where, places)
        self.arrays = ends[:-1], places
        """[slots + 1] where a slot's places begin; a place is node << 32 | letter << 1 | turned, nodes ascending within a slot."""


@njit(inline="always")
def _slot(key, last):
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((key >> np.uint64(40)) & np.uint64(last))  # the upper bits are the well mixed ones; 24 at most


@njit(cache=True, nogil=True)
def seeds_of(codes, begin, end, size, bits, letters, mask, both, last, slots, turned):
    """Slot of the seed at every place of a sequence, -1 where there is none, and whether it reads first on the other strand."""
    forward, backward = np.uint64(0), np.uint64(0)
    whole = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - size * bits)
    top = np.uint64(bits * (size - 1))
    clean = 0
    for at in range(begin, end):
        code = codes[at]
        clean = clean + 1 if code < letters else 0
        forward = ((forward << np.uint64(bits)) | np.uint64(code & 31 if bits == 5 else code & 3)) & whole
        if both:
            backward = (backward >> np.uint64(bits)) | (np.uint64(COMPLEMENT_CODES[code] & 3) << top)
        place = at - begin - size + 1
        if place < 0:
            continue
        if clean < size:
            slots[place] = -1
            continue
        here, there = forward & mask, backward & mask
        turned[place] = both and there < here
        slots[place] = _slot(there if turned[place] else here, last)
    return max(0, end - begin - size + 1)


@njit(cache=True, nogil=True)
def _walk(codes, starts, nodes, size, bits, letters, mask, both, ends, places):
    """Count each slot's places into the entry behind it; or, where there is room for `places`, put them in and move the slot's end."""
    longest = (starts[nodes + 1] - starts[nodes]).max() if len(nodes) else 0
    slots, turned = np.zeros(longest, np.int64), np.zeros(longest, np.bool_)
    last = len(ends) - 3
    for node in nodes:
        for place in range(seeds_of(codes, starts[node], starts[node + 1], size, bits, letters, mask, both, last, slots, turned)):
            slot = slots[place]
            if slot < 0:
                continue
            if len(places):
                places[ends[slot + 1]] = (node << 32) | (place << 1) | np.int64(turned[place])
                ends[slot + 1] += 1
            else:
                ends[slot + 2] += 1
