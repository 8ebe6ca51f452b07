"""Exact byte-pair encoding for small alphabets, compiled with numba: what Hugging Face's `BpeTrainer` learns, merge by merge.

Rule: the pair with the largest count is merged next; a pair is counted once per adjacent position (so twice in AAA); equally
frequent pairs go to the smaller left id, then to the smaller right id. A pair longer than the cap is never counted.

Two facts make it fast without making it approximate (argument in docs/bpe.md):
- No string is ever reached by two different merges, so every pair with a new token comes into being, complete, in the step
  that creates the token. From then on its count can only fall.
- So a heap may hold stale counts (pop; if the count has fallen, push it back), a list of positions made once stays a superset
  for ever, and a pair below a floor needs no list until the best count itself falls below that floor.

Phases: the first merges, each of which touches a large share of the text, are full passes over one byte array, compacted in
place; then position lists over 2-byte tokens with holes. When the best count falls below the floor, or the lists outgrow
their room, holes and stale positions are dropped and lists are built anew with a lower floor.
Memory: 1 byte a letter of the windows; then 2 bytes a token (about half the letters) and 4 bytes a listed position. Reading
takes 4 bytes more for every letter of the record being read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tokenizer.bpe.lists import BREAK, Lists

DENSE_SHARE = 48
"""Full passes while the best pair makes up at least one position in this many; 16, 48 and 128 take the same time within noise."""
FLOOR_RATIO = 8
"""Pairs get a list when they are at most this many times rarer than the best one."""


@dataclass(frozen=True)
class Merges:
    """What was learned."""

    pairs: NDArray[np.int32]
    """[merges, 2] ids: letters are 0 … letters-1, merge i makes id letters+i."""
    counts: NDArray[np.int64]
    """[merges] positions that each merge found."""


def learn(
    codes: NDArray[np.uint8],
    letters: int,
    pieces: int,
    longest: int | None = None,
    *,
    progress: Callable[[int], object] | None = None,
    dense_share: int = DENSE_SHARE,
    floor_ratio: int = FLOOR_RATIO,
) -> Merges:
    """Learn `pieces - letters` merges, or as many as the text supports.

    Args:
        codes: [text] letter codes 0 … letters-1 with BREAK between windows. It is used as scratch space and ruined.
        letters: size of the alphabet.
        pieces: letters and merged pieces together.
        longest: letters in the longest piece (2 or more); None for no limit.
        progress: called with the number of merges done since the last call.

    Raises:
        ValueError: sizes that do not fit together, or more than 2**32 - 2 codes.
    """
    if not 0 < letters < BREAK or pieces <= letters or (longest is not None and longest < 2):
        raise ValueError(f"letters={letters}, pieces={pieces}, longest={longest} do not fit together")
    if codes.size >= 2**32 - 2:
        raise ValueError(f"{codes.size} codes: positions are 32-bit; take a sample of at most 4.29 billion letters")
    cap = longest or 2**31 - 1
    lengths = np.zeros(pieces, np.int64)
    lengths[:letters] = 1
    pairs = np.zeros((pieces - letters, 2), np.int32)
    found = np.zeros(pieces - letters, np.int64)
    size, done = _dense_phase(codes, letters, pairs, found, lengths, cap, dense_share)
    if progress is not None:
        progress(done)
    if done < len(pairs):
        lists = Lists(codes[:size], letters, pieces, lengths, cap, floor_ratio)
        done = lists.run(pairs, found, done, progress)
    return Merges(pairs[:done], found[:done])


def _dense_phase(
    codes: NDArray[np.uint8],
    letters: int,
    pairs: NDArray[np.int32],
    found: NDArray[np.int64],
    lengths: NDArray[np.int64],
    cap: int,
    dense_share: int,
) -> tuple[int, int]:
    """Merge by full passes. Returns the tokens left and the merges done."""
    counts = np.zeros((256, 256), np.int64)
    _count_dense(codes, counts)
    size, done = codes.size, 0
    while done < len(pairs) and letters + done < BREAK:
        best = int(counts.argmax())  # the first of equal ones: the smaller left id, then the smaller right id
        left, right = divmod(best, 256)
        count = int(counts[left, right])
        if count < 1 or count * dense_share < size:
            break
        new = letters + done
        pairs[done], found[done] = (left, right), count
        lengths[new] = lengths[left] + lengths[right]
        size = _merge_dense(codes, size, left, right, new, counts, lengths, cap)
        counts[left, right] = 0
        done += 1
    return size, done


@njit(cache=True, nogil=True)
def _count_dense(codes, counts):
    before = BREAK
    for code in codes:
        if code != BREAK and before != BREAK:
            counts[before, code] += 1
        before = code


@njit(cache=True, nogil=True)
def _merge_dense(codes, size, left, right, new, counts, lengths, cap):
    """One pass: left right -> new, in place; counts of the neighbours follow. Returns the new size."""
    long_new = lengths[new]
    write, read, before = 0, 0, BREAK
    while read < size:
        token = codes[read]
        if token == left and read + 1 < size and codes[read + 1] == right:
            after = codes[read + 2] if read + 2 < size else BREAK
            if before != BREAK:
                counts[before, left] -= 1
                if lengths[before] + long_new <= cap:
                    counts[before, new] += 1
            if after != BREAK:
                counts[right, after] -= 1
                if lengths[after] + long_new <= cap:
                    counts[new, after] += 1
            token = new
            read += 1
        codes[write] = token
        before = token
        write += 1
        read += 1
    return write
