"""The second phase of the BPE trainer: position lists over tokens with holes, and a lazy heap (docs/bpe.md).

Tokens are 2 bytes where ids allow it. A merge writes the new token where the left one stood and a hole where the right one
stood; lists hold positions in that array and may be stale. `_build` drops holes and stale positions.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

BREAK = 255
"""Code that stands between two windows: no pair reaches across it."""

_DONE, _BELOW_FLOOR, _FULL = 0, 1, 2


class Lists:
    """The second phase: tokens with holes, listed pairs, a lazy heap."""

    def __init__(self, codes: NDArray[np.uint8], letters: int, pieces: int, lengths: NDArray[np.int64], cap: int, floor_ratio: int) -> None:
        kind = np.uint16 if pieces < 2**16 - 2 else np.uint32
        self.break_ = int(np.iinfo(kind).max)
        self.hole = self.break_ - 1
        # a break at either end, so that neighbours can be sought without a bound
        self.tokens = np.empty(codes.size + 2, kind)
        _widen(codes, self.tokens, self.break_)
        self.letters, self.pieces, self.lengths, self.cap, self.floor_ratio = letters, pieces, lengths, cap, floor_ratio
        self.floor = 0
        self.pool = np.empty(0, np.uint32)

    def run(self, pairs: NDArray[np.int32], found: NDArray[np.int64], done: int, progress: Callable[[int], object] | None) -> int:
        """Merge until `pairs` is full or no pair is left. Returns the merges done."""
        best, spare = int(_best(self.tokens, self.break_, self.lengths, self.cap)), 0.5
        while True:
            listed = self._build(max(1, best // self.floor_ratio), spare)
            if not listed:
                if self.floor == 1:
                    return done
                best = self.floor - 1
                continue
            while True:
                stop = min(len(pairs), done + 256)
                before = done
                done, reason = _merge_lists(
                    self.tokens, self.break_, self.hole, self.pool, self.fill, self.key, self.count, self.start, self.size,
                    self.slot_key, self.slot_entry, self.heap_count, self.heap_entry, self.floor, self.lengths, self.cap,
                    self.letters, pairs, found, done, stop,
                )  # fmt: skip
                if progress is not None:
                    progress(done - before)
                if reason != _DONE or done == len(pairs):
                    break
            if done == len(pairs):
                return done
            if reason == _BELOW_FLOOR:
                if self.floor == 1:
                    return done
                best, spare = self.floor - 1, 0.5
            else:
                best = int(self.heap_count[0])
                spare = 0.5 if done > before else 2 * spare

    def _build(self, floor: int, spare: float) -> int:
        """Drop holes and lists; list every pair that occurs at least `floor` times. Returns how many there are."""
        self.floor = floor
        self.pool = np.empty(0, np.uint32)  # freed before the new one is made
        size = _compact(self.tokens, self.hole)
        self.tokens = self.tokens[:size].copy() if size < 0.8 * self.tokens.size else self.tokens[:size]
        bits = max(10, min(26, int(np.ceil(np.log2(max(1, 4 * size / floor))))))
        buckets = np.zeros(1 << bits, np.uint32)
        _count_buckets(self.tokens, self.break_, self.lengths, self.cap, buckets, bits)
        key, count = _count_exactly(self.tokens, self.break_, self.lengths, self.cap, buckets, bits, floor)
        del buckets
        keep = count >= floor
        order = np.argsort(key[keep], kind="stable")
        key, count = key[keep][order], count[keep][order]
        listed, positions = len(key), int(count.sum())
        room = positions + int(spare * size) + 2 * int(count.max(initial=0)) + 1024
        entries = listed + max(4 * self.pieces, 2 * listed)
        self.pool = np.empty(room, np.uint32)
        self.key, self.count = np.zeros(entries, np.int64), np.zeros(entries, np.int64)
        self.start, self.size = np.zeros(entries, np.int64), np.zeros(entries, np.int64)
        self.key[:listed], self.count[:listed] = key, count
        self.start[:listed] = np.cumsum(count) - count
        slots = 1 << int(np.ceil(np.log2(2 * entries)))
        self.slot_key, self.slot_entry = np.full(slots, -1, np.int64), np.zeros(slots, np.int32)
        self.heap_count, self.heap_entry = np.zeros(entries, np.int64), np.zeros(entries, np.int32)
        self.fill = np.array([positions, listed, listed], np.int64)  # positions, entries and heap items in use
        _fill_lists(self.tokens, self.break_, self.pool, self.key, self.start, self.size, listed, self.slot_key, self.slot_entry)
        by_rank = np.argsort(-count, kind="stable")  # a sorted array is a heap
        self.heap_count[:listed], self.heap_entry[:listed] = count[by_rank], by_rank
        return listed


@njit(cache=True, nogil=True)
def _widen(codes, tokens, break_):
    tokens[0] = tokens[tokens.size - 1] = break_
    for i in range(codes.size):
        tokens[i + 1] = break_ if codes[i] == BREAK else codes[i]


@njit(cache=True, nogil=True)
def _compact(tokens, hole):
    write = 0
    for token in tokens:
        if token != hole:
            tokens[write] = token
            write += 1
    return write


@njit(cache=True, nogil=True)
def _best(tokens, break_, lengths, cap):
    """The largest count among the first 256 ids, which are all there are when the dense phase ends."""
    counts = np.zeros((256, 256), np.int64)
    for i in range(1, tokens.size):
        left, right = tokens[i - 1], tokens[i]
        if left != break_ and right != break_ and lengths[left] + lengths[right] <= cap:
            counts[left, right] += 1
    return counts.max()


@njit(inline="always")
def _hash(key, bits):
    return np.int64((np.uint64(key) * np.uint64(11400714819323198485)) >> np.uint64(64 - bits))


@njit(inline="always")
def _pair(left, right):
    return (np.int64(left) << np.int64(32)) | np.int64(right)


@njit(cache=True, nogil=True)
def _count_buckets(tokens, break_, lengths, cap, buckets, bits):
    """Upper bounds: a pair's count is at most its bucket's."""
    for i in range(1, tokens.size):
        left, right = tokens[i - 1], tokens[i]
        if left != break_ and right != break_ and lengths[left] + lengths[right] <= cap:
            buckets[_hash(_pair(left, right), bits)] += 1


@njit(cache=True, nogil=True)
def _count_exactly(tokens, break_, lengths, cap, buckets, bits, floor):
    """Keys and counts of the pairs whose bucket reaches the floor."""
    table_bits = 16
    keys = np.full(1 << table_bits, -1, np.int64)
    counts = np.zeros(1 << table_bits, np.int64)
    used = 0
    for i in range(1, tokens.size):
        left, right = tokens[i - 1], tokens[i]
        if left == break_ or right == break_ or lengths[left] + lengths[right] > cap:
            continue
        key = _pair(left, right)
        if buckets[_hash(key, bits)] < floor:
            continue
        slot = _hash(key, table_bits)
        while keys[slot] != key and keys[slot] != -1:
            slot = (slot + 1) & (keys.size - 1)
        if keys[slot] == -1:
            keys[slot] = key
            used += 1
            if 2 * used > keys.size:
                counts[slot] += 1
                table_bits += 2
                wider_keys = np.full(1 << table_bits, -1, np.int64)
                wider_counts = np.zeros(1 << table_bits, np.int64)
                for old in range(keys.size):
                    if keys[old] != -1:
                        slot = _hash(keys[old], table_bits)
                        while wider_keys[slot] != -1:
                            slot = (slot + 1) & (wider_keys.size - 1)
                        wider_keys[slot], wider_counts[slot] = keys[old], counts[old]
                keys, counts = wider_keys, wider_counts
                continue
        counts[slot] += 1
    taken = keys != -1
    return keys[taken], counts[taken]


@njit(inline="always")
def _find(slot_key, slot_entry, key):
    """Entry of a listed pair, or -1."""
    mask = slot_key.size - 1
    slot = np.int64((np.uint64(key) * np.uint64(11400714819323198485)) >> np.uint64(20)) & mask
    while slot_key[slot] != -1:
        if slot_key[slot] == key:
            return slot_entry[slot]
        slot = (slot + 1) & mask
    return np.int32(-1)


@njit(inline="always")
def _insert(slot_key, slot_entry, key, entry):
    mask = slot_key.size - 1
    slot = np.int64((np.uint64(key) * np.uint64(11400714819323198485)) >> np.uint64(20)) & mask
    while slot_key[slot] != -1:
        slot = (slot + 1) & mask
    slot_key[slot] = key
    slot_entry[slot] = entry


@njit(cache=True, nogil=True)
def _fill_lists(tokens, break_, pool, key, start, size, listed, slot_key, slot_entry):
    for entry in range(listed):
        _insert(slot_key, slot_entry, key[entry], entry)
    for i in range(1, tokens.size):
        left, right = tokens[i - 1], tokens[i]
        if left != break_ and right != break_:
            entry = _find(slot_key, slot_entry, _pair(left, right))
            if entry >= 0:
                pool[start[entry] + size[entry]] = i - 1
                size[entry] += 1


@njit(inline="always")
def _goes_first(count_one, key_one, count_two, key_two):
    return count_one > count_two or (count_one == count_two and key_one < key_two)


@njit(cache=True, nogil=True)
def _sift_down(heap_count, heap_entry, key, items):
    at, count, entry = 0, heap_count[0], heap_entry[0]
    while True:
        child = 2 * at + 1
        if child >= items:
            break
        if child + 1 < items and _goes_first(
            heap_count[child + 1], key[heap_entry[child + 1]], heap_count[child], key[heap_entry[child]]
        ):  # fmt: skip
            child += 1
        if not _goes_first(heap_count[child], key[heap_entry[child]], count, key[entry]):
            break
        heap_count[at], heap_entry[at] = heap_count[child], heap_entry[child]
        at = child
    heap_count[at], heap_entry[at] = count, entry


@njit(cache=True, nogil=True)
def _sift_up(heap_count, heap_entry, key, at):
    count, entry = heap_count[at], heap_entry[at]
    while at > 0:
        parent = (at - 1) // 2
        if not _goes_first(count, key[entry], heap_count[parent], key[heap_entry[parent]]):
            break
        heap_count[at], heap_entry[at] = heap_count[parent], heap_entry[parent]
        at = parent
    heap_count[at], heap_entry[at] = count, entry


@njit(cache=True, nogil=True)
def _merge_lists(
    tokens, break_, hole, pool, fill, key, count, start, size, slot_key, slot_entry, heap_count, heap_entry, floor, lengths, cap,
    letters, pairs, found, done, stop,
):  # fmt: skip
    """Merge until `stop` merges are done, the best count is below the floor, or a list has no room. Returns merges done, reason."""
    before_new, after_new = np.zeros(letters + stop + 1, np.int64), np.zeros(letters + stop + 1, np.int64)  # counts by neighbour
    lefts, rights = np.zeros(letters + stop + 1, np.int32), np.zeros(letters + stop + 1, np.int32)  # neighbours seen
    while done < stop:
        if fill[2] == 0:
            return done, _BELOW_FLOOR
        top = heap_entry[0]
        if heap_count[0] != count[top]:
            heap_count[0] = count[top]
            _sift_down(heap_count, heap_entry, key, fill[2])
            continue
        if count[top] < floor:
            return done, _BELOW_FLOOR
        if fill[0] + 2 * count[top] > pool.size or fill[1] + 2 * (letters + done + 1) > key.size:
            return done, _FULL
        fill[2] -= 1
        heap_count[0], heap_entry[0] = heap_count[fill[2]], heap_entry[fill[2]]
        _sift_down(heap_count, heap_entry, key, fill[2])

        left, right, new = key[top] >> 32, key[top] & 0xFFFFFFFF, letters + done
        pairs[done, 0], pairs[done, 1], found[done] = left, right, count[top]
        lengths[new] = lengths[left] + lengths[right]
        room = cap - lengths[new]
        # 1. merge, and take the broken pairs off their counts
        first, merged = start[top], 0
        for k in range(first, first + size[top]):
            p = np.int64(pool[k])
            if tokens[p] != left:
                continue
            q = p + 1
            while tokens[q] == hole:
                q += 1
            if tokens[q] != right:
                continue
            tokens[p], tokens[q] = new, hole
            pool[first + merged] = p
            merged += 1
            p -= 1
            while tokens[p] == hole:
                p -= 1
            if tokens[p] != break_ and tokens[p] != new:
                entry = _find(slot_key, slot_entry, _pair(tokens[p], left))
                if entry >= 0:
                    count[entry] -= 1
            q += 1
            while tokens[q] == hole:
                q += 1
            if tokens[q] != break_:
                entry = _find(slot_key, slot_entry, _pair(right, tokens[q]))
                if entry >= 0:
                    count[entry] -= 1
        count[top] = 0
        # 2. count the pairs with the new token, now that all its neighbours stand
        seen_left = seen_right = 0
        for k in range(first, first + merged):
            p = np.int64(pool[k]) - 1
            while tokens[p] == hole:
                p -= 1
            neighbour = tokens[p]
            if neighbour != break_ and neighbour != new and lengths[neighbour] <= room:
                if before_new[neighbour] == 0:
                    lefts[seen_left] = neighbour
                    seen_left += 1
                before_new[neighbour] += 1
            p = np.int64(pool[k]) + 1
            while tokens[p] == hole:
                p += 1
            neighbour = tokens[p]
            if neighbour != break_ and lengths[neighbour] <= room:
                if after_new[neighbour] == 0:
                    rights[seen_right] = neighbour
                    seen_right += 1
                after_new[neighbour] += 1
        # 3. list those that reach the floor; below, the two tables hold where the next position goes, or -1
        kept = 0
        for side in range(2):
            for k in range(seen_left if side == 0 else seen_right):
                neighbour = np.int64(lefts[k] if side == 0 else rights[k])
                number = before_new[neighbour] if side == 0 else after_new[neighbour]
                position = np.int64(-1)
                if number >= floor:
                    entry = fill[1]
                    fill[1] += 1
                    key[entry] = _pair(neighbour, new) if side == 0 else _pair(new, neighbour)
                    count[entry] = size[entry] = number
                    start[entry] = position = fill[0]
                    fill[0] += number
                    _insert(slot_key, slot_entry, key[entry], entry)
                    heap_count[fill[2]], heap_entry[fill[2]] = number, entry
                    fill[2] += 1
                    _sift_up(heap_count, heap_entry, key, fill[2] - 1)
                    kept += 1
                if side == 0:
                    before_new[neighbour] = position
                else:
                    after_new[neighbour] = position
        if kept:
            for k in range(first, first + merged):
                middle = np.int64(pool[k])
                p = middle - 1
                while tokens[p] == hole:
                    p -= 1
                neighbour = tokens[p]
                if neighbour != break_ and neighbour != new and lengths[neighbour] <= room and before_new[neighbour] >= 0:
                    pool[before_new[neighbour]] = p
                    before_new[neighbour] += 1
                p = middle + 1
                while tokens[p] == hole:
                    p += 1
                neighbour = tokens[p]
                if neighbour != break_ and lengths[neighbour] <= room and after_new[neighbour] >= 0:
                    pool[after_new[neighbour]] = middle
                    after_new[neighbour] += 1
        for k in range(seen_left):
            before_new[lefts[k]] = 0
        for k in range(seen_right):
            after_new[rights[k]] = 0
        done += 1
    return done, _DONE
