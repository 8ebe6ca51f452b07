"""Sequences -> the training text of a gene BPE: one array of letter codes, cut into windows.

Windows end where a long unknown run, an ambiguity code or a soft-masked repeat is left out, so that no piece spans a gap.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sequences.alphabets import COMPLEMENT, Alphabet
from tokenizer.bpe.learn import BREAK

AMBIGUOUS = {"dna": "RYSWKMBDHV", "protein": "BZJ"}
UNKNOWN = {"dna": "N", "protein": "X"}

_UNKNOWN, _AMBIGUOUS, _MASKED = 0, 1, 2
RECORDS = 4096
"""Records gathered before they become one block."""


@dataclass(frozen=True)
class Cutting:
    """What becomes of a record on its way into windows."""

    window: int
    """Letters in the longest window."""
    reverse_complement: bool = False
    """Every second window is read from the other strand."""
    unknown_run: int | None = None
    """Runs of at least this many unknown letters (N, X) are left out; None keeps all."""
    keep_ambiguous: bool = True
    soft_masked: float = 1.0
    """Share of the soft-masked (lower-case) runs kept, drawn by the seed."""
    seed: int = 0


class WindowStore:
    """Gathers windows; with `max_letters`, a uniform seeded sample of them, in memory for twice as many.

    Every window draws a number; those with the smallest numbers are kept, as many as fit (bottom-k sampling).
    """

    def __init__(self, alphabet: Alphabet, cutting: Cutting, max_letters: int | None = None) -> None:
        self.letters = "".join(sorted(alphabet.letters))
        """Letter of each code: by code point, as `BpeTrainer` numbers its alphabet."""
        self.cutting = cutting
        self.left_out = np.zeros(3, np.int64)
        self._code_of = np.full(256, BREAK, np.uint8)
        self._kind_of = np.full(256, BREAK, np.uint8)
        for code, letter in enumerate(self.letters):
            for written in (letter, letter.lower()):
                self._code_of[ord(written)] = code
                if letter in UNKNOWN[alphabet.name]:
                    self._kind_of[ord(written)] = _UNKNOWN
                elif letter in AMBIGUOUS[alphabet.name]:
                    self._kind_of[ord(written)] = _AMBIGUOUS
        self._complement = np.arange(256, dtype=np.uint8)
        if cutting.reverse_complement:
            for code, letter in enumerate(self.letters):
                self._complement[code] = self.letters.index(letter.translate(COMPLEMENT))
        self._turns = np.zeros(2, np.int64)  # windows and masked runs so far
        self._max_letters = max_letters
        self._below = 1.0  # windows whose random number is at or above this are not in the sample
        self._letters = 0
        self._blocks: list[NDArray[np.uint8]] = []
        self._records: list[NDArray[np.uint8]] = []  # the latest, not yet in a block
        self._numbers: list[NDArray[np.float64]] = []  # of the windows in each block, when sampling

    @property
    def windows(self) -> int:
        """Windows seen, the ones that the sample did not take included."""
        return int(self._turns[0])

    def add(self, letters: bytes) -> None:
        """Cut one record (letters of the alphabet, either case) and keep its windows."""
        record = np.frombuffer(letters, np.uint8)
        cutting = self.cutting
        first = self.windows
        usable = _mark(
            record, self._kind_of, cutting.unknown_run or 0, cutting.keep_ambiguous, cutting.soft_masked, cutting.seed, self._turns,
            self.left_out,
        )  # fmt: skip
        out = np.empty(_room(usable, cutting.window), np.uint8)
        _cut(record, usable, self._code_of, self._complement, cutting.window, cutting.reverse_complement, self._turns, out)
        if self._max_letters is not None:
            out, numbers = _draw(out, first, cutting.seed, self._below)
            self._numbers.append(numbers)
        self._records.append(out)
        if len(self._records) == RECORDS:  # an array for each of millions of proteins would take more than the letters
            self._blocks.append(_joined(self._records))
        self._letters += out.size - (self.windows - first if self._max_letters is None else len(numbers))
        if self._max_letters is not None and self._letters > 2 * self._max_letters:
            self._thin()

    def _thin(self) -> None:
        """Lower the bound until what is kept has at most `max_letters`; those with the smallest numbers stay."""
        assert self._max_letters is not None
        numbers = np.concatenate(self._numbers)
        codes = _joined([*self._blocks, *self._records])
        self._records = []
        lengths = np.diff(np.flatnonzero(codes == BREAK), prepend=-1) - 1
        order = np.argsort(numbers, kind="stable")
        fits = int(np.searchsorted(np.cumsum(lengths[order]), self._max_letters, side="right"))
        if fits < len(order):
            self._below = float(numbers[order[fits]])
        keep = numbers < self._below
        self._blocks, self._numbers = [codes[np.repeat(keep, lengths + 1)]], [numbers[keep]]
        self._letters = int(lengths[keep].sum())

    @property
    def kept_letters(self) -> int:
        """Letters in the windows kept, after sampling."""
        if self._max_letters is not None and self._letters > self._max_letters:
            self._thin()
        return self._letters

    def codes(self) -> NDArray[np.uint8]:
        """All windows as codes with BREAK behind each; the store is empty afterwards, so that memory is held once."""
        if self._max_letters is not None and self._letters > self._max_letters:
            self._thin()
        self._blocks += self._records
        self._records = []
        return _joined(self._blocks)

    def counts(self) -> dict[str, int]:
        """Letters left out, by reason, and windows seen."""
        unknown, ambiguous, masked = map(int, self.left_out)
        return {"windows": self.windows, "unknown_left_out": unknown, "ambiguous_left_out": ambiguous, "masked_left_out": masked}


def _joined(blocks: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One array of all blocks; the list is emptied on the way, so that memory is held once."""
    joined, at = np.empty(sum(block.size for block in blocks), np.uint8), 0
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        joined[at : at + block.size] = block
        at += block.size
    return joined


@njit(inline="always")
def _uniform(seed, number):
    """SplitMix64: a number in [0, 1) for the number-th draw of a seed, whatever was drawn before."""
    z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True)
def _mark(record, kind_of, unknown_run, keep_ambiguous, soft_masked, seed, turns, left_out):
    """[record] 1 where a letter is kept."""
    usable = np.ones(record.size, np.uint8)
    at = 0
    while at < record.size:
        kind = kind_of[record[at]]
        if unknown_run and kind == _UNKNOWN:
            end = at
            while end < record.size and kind_of[record[end]] == _UNKNOWN:
                end += 1
            if end - at >= unknown_run:
                usable[at:end] = 0
                left_out[_UNKNOWN] += end - at
            at = end
        else:
            if kind == _AMBIGUOUS and not keep_ambiguous:
                usable[at] = 0
                left_out[_AMBIGUOUS] += 1
            at += 1
    if soft_masked < 1:
        at = 0
        while at < record.size:
            lower = record[at] >= 97
            end = at
            while end < record.size and (record[end] >= 97) == lower:
                end += 1
            if lower:
                if _uniform(seed, turns[1]) >= soft_masked:
                    left_out[_MASKED] += usable[at:end].sum()
                    usable[at:end] = 0
                turns[1] += 1
            at = end
    return usable


@njit(cache=True, nogil=True)
def _room(usable, window):
    """Codes that the windows take, breaks included."""
    room, run = 0, 0
    for kept in usable:
        run = run + 1 if kept else 0
        room += kept
        if run == 1:
            room += 1
        elif run > window:
            room, run = room + 1, 1
    return room


@njit(cache=True, nogil=True)
def _cut(record, usable, code_of, complement, window, both_strands, turns, out):
    """Fill `out` with windows, each followed by BREAK."""
    written, at = 0, 0
    while at < record.size:
        if not usable[at]:
            at += 1
            continue
        end = at
        while end < record.size and usable[end] and end - at < window:
            end += 1
        if both_strands and turns[0] % 2:
            for i in range(end - 1, at - 1, -1):
                out[written] = complement[code_of[record[i]]]
                written += 1
        else:
            for i in range(at, end):
                out[written] = code_of[record[i]]
                written += 1
        out[written] = BREAK
        written += 1
        turns[0] += 1
        at = end


@njit(cache=True, nogil=True)
def _draw(codes, first, seed, below):
    """The windows whose random number is below the bound, and those numbers. The first window has number `first`."""
    kept = np.empty_like(codes)
    numbers = np.empty(codes.size, np.float64)
    number, at, written, count = first, 0, 0, 0
    while at < codes.size:
        end = at
        while codes[end] != BREAK:
            end += 1
        drawn = _uniform(seed + 1, number)
        if drawn < below:
            kept[written : written + end + 1 - at] = codes[at : end + 1]
            written += end + 1 - at
            numbers[count] = drawn
            count += 1
        number += 1
        at = end + 1
    return kept[:written].copy(), numbers[:count].copy()
