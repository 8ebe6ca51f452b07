"""Near duplicates: seeds, ungapped extension, banded alignment. docs/splits.md has the measured sensitivity.

A seed is a pattern of letters that must agree, with gaps, and the same read backwards, so that one look-up serves both
strands; two patterns are tried, one after the other. Where a seed of the query stands in the index, its diagonal is
extended without gaps; what scores enough is aligned in a band. The index holds a limited number of letters at a time. Of a
seed that stands in very many sequences only the first, longest ones are looked at; in families of repeats they act as
representatives.
"""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tqdm import tqdm

from data_convert.splits.align import GAP, SCORES, equal_letters
from data_convert.splits.contain import COMPLEMENT_CODES
from data_convert.splits.pool import Ints, Space
from data_convert.splits.seeds import SEEDS, Index, Seed, seeds_of
from data_convert.splits.union import Parents, find

INDEX_LETTERS = 1 << 25
"""Letters in the index at a time: 8 bytes each, and 64 MiB for the table."""
LOOKS = 8192
"""Places in the index looked at per query, spread evenly over its seeds."""
ALIGNED = 64
"""Alignments per query and index while grouping; best ungapped scores first."""
BAND, WIDE = 16, 32
"""Half widths of the band: while grouping, and when identity is measured."""
MEASURED = 8
"""Alignments per query and index when identity is measured."""
_TRACKS = 1 << 14


def _settings(space: Space, seed: Seed, band: int) -> tuple[Any, ...]:
    name = space.alphabet.name
    both = name == "dna"
    return len(seed.pattern), seed.bits, seed.letters, seed.mask, both, seed.least, seed.drop, band, SCORES[name], GAP[name]


def join_near(space: Space, parents: Parents, least: float) -> int:
    """Join nodes of an alphabet whose identity is found to be at least `least`; returns the number of alignments."""
    aligned = 0
    queries = np.arange(len(space))
    of = parents.of[space.first : space.first + len(space)] - space.first
    for (low, high), seed in product(_blocks(space), SEEDS[space.alphabet.name]):
        index = Index(space, np.arange(low, high), seed)
        mine = queries[queries > low]
        with tqdm(total=len(mine), desc=f"near duplicates, {space.alphabet.name}", unit="sequence", unit_scale=True, disable=None) as bar:
            for begin in range(0, len(mine), 2000):
                part = mine[begin : begin + 2000]
                arguments = (space.codes, space.starts, part, *index.arrays, *_settings(space, seed, BAND), of, least, ALIGNED)
                _, nodes = _aligned(*arguments)
                aligned += int((nodes >= 0).sum())
                bar.update(len(part))
    parents.of[space.first : space.first + len(space)] = of + space.first
    return aligned


def best_identity(space: Space, queries: Ints, targets: Ints) -> tuple[NDArray[np.float64], Ints]:
    """[queries] The best identity found between each query and any target, 0 where no seed led to one; and that target, or -1.

    A query that is itself a target has identity 1.

    Args:
        queries, targets: numbers of nodes of this alphabet.
    """
    best, where = np.zeros(len(queries)), np.full(len(queries), -1, dtype=np.int64)
    own = np.isin(queries, targets)
    best[own], where[own] = 1.0, queries[own]
    rest = np.flatnonzero(~own)
    for part, identities, nodes in _measured(space, queries, targets, rest):
        first = identities.argmax(axis=1)[:, None]
        values, places = np.take_along_axis(identities, first, 1)[:, 0], np.take_along_axis(nodes, first, 1)[:, 0]
        better = values > best[part]
        best[part[better]], where[part[better]] = values[better], places[better]
    return best, where


def hits(space: Space, queries: Ints, targets: Ints) -> list[dict[int, float]]:
    """Target -> identity, for each query, of the targets that the search compares it with: the best few, itself included."""
    found: list[dict[int, float]] = [{} for _ in queries]
    for place in np.flatnonzero(np.isin(queries, targets)).tolist():
        found[place][int(queries[place])] = 1.0
    for part, identities, nodes in _measured(space, queries, targets, np.arange(len(queries))):
        for place, of_query, values in zip(part.tolist(), nodes.tolist(), identities.tolist(), strict=True):
            for node, value in zip(of_query, values, strict=True):
                if node >= 0:
                    found[place][node] = max(value, found[place].get(node, 0.0))
    return found


def _measured(space: Space, queries: Ints, targets: Ints, wanted: Ints) -> Iterator[tuple[Ints, NDArray[np.float64], Ints]]:
    """Places in `queries` out of `wanted`, and [places, MEASURED] identities and nodes, -1 for none; block by block, seed by seed."""
    rows = np.sort(targets) - space.first
    lengths = np.cumsum(space.lengths[rows])
    nobody = np.zeros(0, dtype=np.int64)
    blocks = range(int(lengths[-1]) // INDEX_LETTERS + 1 if len(rows) else 0)
    for block, seed in product(blocks, SEEDS[space.alphabet.name]):
        indexed = rows[(lengths - 1) // INDEX_LETTERS == block]
        if not len(indexed):
            continue
        index = Index(space, indexed, seed)
        with tqdm(total=len(wanted), desc=f"identity, {space.alphabet.name}", unit="sequence", unit_scale=True, disable=None) as bar:
            for begin in range(0, len(wanted), 500):
                part = wanted[begin : begin + 500]
                how, mine = _settings(space, seed, WIDE), queries[part] - space.first
                arguments = (space.codes, space.starts, mine, *index.arrays, *how, nobody, 0.0, MEASURED)
                values, nodes = _aligned(*arguments)
                yield part, values, np.where(nodes >= 0, nodes + space.first, -1)
                bar.update(len(part))


def _blocks(space: Space) -> list[tuple[int, int]]:
    """Consecutive nodes with at most INDEX_LETTERS letters, a longer one alone."""
    of = (space.starts[1:] - 1) // INDEX_LETTERS
    cuts = np.flatnonzero(np.diff(of)) + 1
    edges = [0, *cuts.tolist(), len(space)]
    return [(low, high) for low, high in pairwise(edges) if low < high]


@njit(cache=True, nogil=True)
def _extended(a, b, i, j, size, scores, drop):
    """Best score of a stretch without gaps through a seed at a[i], b[j]."""
    score = 0
    for k in range(size):
        score += scores[a[i + k], b[j + k]]
    best = here = 0
    x, y = i + size, j + size
    while x < len(a) and y < len(b) and here > best - drop:
        here += scores[a[x], b[y]]
        best = max(best, here)
        x, y = x + 1, y + 1
    back = here = 0
    x, y = i - 1, j - 1
    while x >= 0 and y >= 0 and here > back - drop:
        here += scores[a[x], b[y]]
        back = max(back, here)
        x, y = x - 1, y - 1
    return score + best + back


@njit(cache=True, nogil=True)
def _candidates(codes, starts, query, begins, places, size, bits, letters, mask, both, least, drop, scores, of, work):
    """Sequences with a promising diagonal: [found, 4] node, turned, diagonal, ungapped score.

    With `of` (groups), only nodes before the query that are not yet in its group.
    """
    slots, turned, a, other, tracks, stamps, out = work
    begin, end = starts[query], starts[query + 1]
    length = end - begin
    count = seeds_of(codes, begin, end, size, bits, letters, mask, both, len(begins) - 2, slots, turned)
    for k in range(length):
        a[k] = codes[begin + k]
        if both:
            other[k] = COMPLEMENT_CODES[codes[end - 1 - k]]
    most = max(4, LOOKS // max(1, count))
    root = find(of, query) if len(of) else -1
    stamps[0] += 1
    stamp, found = stamps[0], 0
    for place in range(count):
        slot = slots[place]
        if slot < 0:
            continue
        looked = 0
        for entry in range(begins[slot], begins[slot + 1]):
            node = places[entry] >> 32
            if (len(of) and node >= query) or looked >= most:
                break
            looked += 1
            if len(of) and find(of, node) == root:
                continue
            spot = (places[entry] & 0xFFFFFFFF) >> 1
            turn = np.int64(turned[place]) ^ (places[entry] & 1)
            i = length - size - place if turn else place
            track = ((node << 1 | turn) << 24) ^ (spot - i + length)
            cell = np.int64((np.uint64(track) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(50))
            if tracks[cell, 0] == track and tracks[cell, 1] == stamp:
                continue
            tracks[cell, 0], tracks[cell, 1] = track, stamp
            b = codes[starts[node] : starts[node + 1]]
            score = _extended(other[:length] if turn else a[:length], b, i, spot, size, scores, drop)
            if score < least:
                continue
            # one diagonal per sequence and strand: the best
            at = 0
            while at < found and (out[at, 0] != node or out[at, 1] != turn):
                at += 1
            if at == found:
                if found == len(out):  # full: the weakest makes room
                    at = out[:, 3].argmin()
                    if out[at, 3] >= score:
                        continue
                    out[at, 3] = -1
                else:
                    found += 1
                    out[at, 3] = -1
            if score > out[at, 3]:
                out[at, 0], out[at, 1], out[at, 2], out[at, 3] = node, turn, spot - i, score
    return found


@njit(cache=True, nogil=True)
def _aligned(codes, starts, queries, begins, places, size, bits, letters, mask, both, least, drop, band, scores, gap, of, wanted, most):
    """[queries, most] Identities, and the nodes that each query was aligned with, -1 for none.

    With `of` (groups), the best ungapped score is aligned first, and what reaches the identity `wanted` is joined at once, so
    that what is in the query's group by then is passed over.
    """
    longest = (starts[queries + 1] - starts[queries]).max() if len(queries) else 0
    work = (
        np.zeros(longest, np.int64),
        np.zeros(longest, np.bool_),
        np.zeros(longest, np.uint8),
        np.zeros(longest, np.uint8),
        np.zeros((_TRACKS, 2), np.int64),
        np.zeros(1, np.int64),
        np.zeros((most, 4), np.int64),
    )
    identities, nodes = np.zeros((len(queries), most)), np.full((len(queries), most), -1, np.int64)
    here = there = 0
    for row in range(len(queries)):
        query = queries[row]
        found = _candidates(codes, starts, query, begins, places, size, bits, letters, mask, both, least, drop, scores, of, work)
        out, length = work[6][:found], starts[query + 1] - starts[query]
        for place in np.argsort(-out[:, 3], kind="mergesort"):
            node = out[place, 0]
            if len(of):
                here, there = find(of, query), find(of, node)
                if here == there:
                    continue
            sequence = (work[3] if out[place, 1] else work[2])[:length]
            shorter = min(length, starts[node + 1] - starts[node])
            equal = equal_letters(sequence, codes[starts[node] : starts[node + 1]], out[place, 2], band, scores, gap)[1]
            identities[row, place], nodes[row, place] = equal / shorter, node
            if len(of) and equal >= wanted * shorter:
                of[max(here, there)] = min(here, there)
    return identities, nodes
