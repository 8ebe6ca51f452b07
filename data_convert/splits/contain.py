"""Which sequences stand whole in a longer one, DNA on either strand.

Method: of every sequence one stretch of fixed length is kept, the one whose hash is least, on whichever strand reads
first. All stretches of all sequences are looked up; what is found is compared letter by letter, so a hash never decides.
Sequences shorter than a stretch are not sought; their exact copies are found all the same.
"""

from itertools import pairwise

import numpy as np
from numba import njit
from tqdm import tqdm

from data_convert.splits.pool import Ints, Space
from sequences.alphabets import COMPLEMENT, DNA, NUCLEOTIDES

STRETCH = {"dna": (16, 4), "protein": (8, 5)}
"""Letters of a stretch, and bits of a letter."""
AT_ONCE = 4_000_000
"""Letters per step of the progress bar."""
COMPLEMENT_CODES = np.array([NUCLEOTIDES.index(chr(COMPLEMENT[ord(letter)])) for letter in NUCLEOTIDES], dtype=np.uint8)
SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


def contained(space: Space) -> Ints:
    """[places, 4] Every place where a shorter node stands whole in a longer one: shorter, longer, 0-based offset, and 1 where it is
    the shorter one's reverse complement that stands there."""
    size, bits = STRETCH[space.alphabet.name]
    both = space.alphabet is DNA
    keys, places, turned = _stretch_of_each(space.codes, space.starts, size, bits, both)
    sought = np.flatnonzero(places >= 0)
    # shorter ones first within a key, so that a scan may stop at its own length
    order = sought[np.lexsort((space.lengths[sought], keys[sought]))]
    found = [np.zeros((0, 4), dtype=np.int64)]
    if len(order):
        table = _table(keys[order])
        steps = np.unique(np.searchsorted(space.starts, np.arange(0, len(space.codes) + AT_ONCE, AT_ONCE)).clip(0, len(space)))
        with tqdm(total=len(space.codes), desc=f"containment, {space.alphabet.name}", unit="letter", unit_scale=True, disable=None) as bar:
            for low, high in pairwise(steps):
                found.append(_scan(space.codes, space.starts, low, high, keys[order], order, places, turned, table, size, bits, both))
                bar.update(int(space.starts[high] - space.starts[low]))
    every = np.unique(np.concatenate(found), axis=0)
    every[:, :2] += space.first
    return every


@njit(inline="always")
def _hash(number):
    return (number ^ (number >> np.uint64(29))) * SCRAMBLE


@njit(inline="always")
def _push(forward, backward, code, complement, size, bits, keep):
    """The stretch that ends in one more letter, on both strands."""
    forward = ((forward << np.uint64(bits)) | np.uint64(code)) & keep
    backward = (backward >> np.uint64(bits)) | (np.uint64(complement) << np.uint64(bits * (size - 1)))
    return forward, backward


@njit(cache=True, nogil=True)
def _stretch_of_each(codes, starts, size, bits, both):
    """Per node: its stretch, where it begins (-1: too short), and whether it reads first on the other strand."""
    n = len(starts) - 1
    keys, places, turned = np.zeros(n, np.uint64), np.full(n, -1, np.int64), np.zeros(n, np.bool_)
    keep = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - size * bits)
    for node in range(n):
        forward, backward, least = np.uint64(0), np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
        for at in range(starts[node], starts[node + 1]):
            code = codes[at]
            forward, backward = _push(forward, backward, code, COMPLEMENT_CODES[code] if both else code, size, bits, keep)
            begin = at - starts[node] - size + 1
            if begin >= 0:
                key = min(forward, backward) if both else forward
                hashed = _hash(key)
                if places[node] < 0 or hashed < least:
                    least, keys[node], places[node], turned[node] = hashed, key, begin, both and backward < forward
    return keys, places, turned


@njit(cache=True, nogil=True)
def _table(keys):
    """Open addressing: slot -> 1 + first place of a key in the sorted keys."""
    size = 1
    while size < 4 * len(keys):
        size *= 2
    table = np.zeros(size, np.int64)
    for place in range(len(keys)):
        if place and keys[place] == keys[place - 1]:
            continue
        slot = (_hash(keys[place]) >> np.uint64(20)) & np.uint64(size - 1)
        while table[slot]:
            slot = (slot + np.uint64(1)) & np.uint64(size - 1)
        table[slot] = place + 1
    return table


@njit(cache=True, nogil=True)
def _scan(codes, starts, low, high, keys, order, places, turned, table, size, bits, both):
    """Places as `contained` gives them, in the longer ones low .. high - 1."""
    found = np.zeros((1 << 10, 4), np.int64)
    count = 0
    keep, last = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - size * bits), np.uint64(len(table) - 1)
    for node in range(low, high):
        length = starts[node + 1] - starts[node]
        forward, backward = np.uint64(0), np.uint64(0)
        for at in range(starts[node], starts[node + 1]):
            code = codes[at]
            forward, backward = _push(forward, backward, code, COMPLEMENT_CODES[code] if both else code, size, bits, keep)
            begin = at - starts[node] - size + 1
            if begin < 0:
                continue
            key = min(forward, backward) if both else forward
            slot = (_hash(key) >> np.uint64(20)) & last
            while table[slot] and keys[table[slot] - 1] != key:
                slot = (slot + np.uint64(1)) & last
            if not table[slot]:
                continue
            here_turned = both and backward < forward
            place = table[slot] - 1
            while place < len(keys) and keys[place] == key:
                shorter = order[place]
                place += 1
                wanted = starts[shorter + 1] - starts[shorter]
                if wanted >= length:
                    break
                for turn in range(2 if both else 1):
                    if here_turned ^ turned[shorter] != turn and forward != backward:
                        continue
                    offset = begin - (wanted - size - places[shorter] if turn else places[shorter])
                    if not _same(codes, starts[shorter], wanted, starts[node], length, offset, turn):
                        continue
                    if count == len(found):
                        grown = np.zeros((2 * count, 4), np.int64)
                        grown[:count] = found
                        found = grown
                    found[count, 0], found[count, 1], found[count, 2], found[count, 3] = shorter, node, offset, turn
                    count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _same(codes, a, wanted, b, length, offset, turn):
    """Whether a sequence, or its reverse complement, stands at an offset of another, letter by letter."""
    if offset < 0 or offset + wanted > length:
        return False
    for i in range(wanted):
        code = COMPLEMENT_CODES[codes[a + wanted - 1 - i]] if turn else codes[a + i]
        if code != codes[b + offset + i]:
            return False
    return True
