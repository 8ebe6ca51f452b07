"""Sequences -> the training text of a gene BPE: one array of letter codes, cut into windows.

Windows end where a long unknown run, an ambiguity code or a soft-masked repeat is left out, so that no piece spans a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tokenizer.alphabets import COMPLEMENT, Alphabet
from tokenizer.bpe.learn import BREAK

AMBIGUOUS = {"dna": "RYSWKMBDHV", "protein": "BZJ"}
UNKNOWN = {"dna": "N", "protein": "X"}
BLOCK_BYTES = 1 << 26
"""Windows are gathered in blocks of this size before they become one array."""

_UNKNOWN, _AMBIGUOUS, _MASKED = 0, 1, 2


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
    """Gathers windows; with `max_letters`, a uniform seeded sample of them in bounded memory (reservoir sampling)."""

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
        self._blocks: list[NDArray[np.uint8]] = []
        self._block, self._used = np.empty(BLOCK_BYTES, np.uint8), 0
        self._sample: NDArray[np.uint8] | None = None
        if max_letters is not None:
            self._sample = np.full((max(1, max_letters // cutting.window), cutting.window + 1), BREAK, np.uint8)

    @property
    def windows(self) -> int:
        """Windows seen, the ones that the sample did not take included."""
        return int(self._turns[0])

    def add(self, letters: bytes) -> None:
        """Cut one record (letters of the alphabet, either case) and keep its windows."""
        record = np.frombuffer(letters, np.uint8)
        cutting = self.cutting
        first = self.windows
        out = np.empty(2 * record.size + 1, np.uint8)  # at worst a break behind every letter
        size = _cut(
            record, self._code_of, self._kind_of, self._complement, cutting.window, cutting.reverse_complement,
            cutting.unknown_run or 0, cutting.keep_ambiguous, cutting.soft_masked, cutting.seed, self._turns, self.left_out, out,
        )  # fmt: skip
        if self._sample is not None:
            _draw(out[:size], self._sample, first, cutting.seed)
            return
        if self._used + size > self._block.size:
            self._blocks.append(self._block[: self._used].copy())
            self._block, self._used = np.empty(max(BLOCK_BYTES, size), np.uint8), 0
        self._block[self._used : self._used + size] = out[:size]
        self._used += size

    def codes(self) -> NDArray[np.uint8]:
        """All windows as codes with BREAK behind each; the store is empty afterwards, so that memory is held once."""
        if self._sample is not None:
            rows = self._sample[: min(self.windows, len(self._sample))]
            self._sample = rows[:0]
            return rows.reshape(-1)
        total = sum(block.size for block in self._blocks) + self._used
        joined, at = np.empty(total, np.uint8), 0
        self._blocks.append(self._block[: self._used])
        self._block, self._used = np.empty(0, np.uint8), 0
        self._blocks.reverse()
        while self._blocks:
            block = self._blocks.pop()
            joined[at : at + block.size] = block
            at += block.size
        return joined

    def counts(self) -> dict[str, int]:
        """Letters left out, by reason, and windows seen."""
        unknown, ambiguous, masked = map(int, self.left_out)
        return {"windows": self.windows, "unknown_left_out": unknown, "ambiguous_left_out": ambiguous, "masked_left_out": masked}


def strings(codes: NDArray[np.uint8], letters: str) -> Iterator[str]:
    """The windows as text, for trainers that want lines."""
    table = bytes(ord(letters[code]) if code < len(letters) else 10 for code in range(256))
    yield from codes.tobytes().translate(table).decode("ascii").split()


@njit(inline="always")
def _uniform(seed, number):
    """SplitMix64: a number in [0, 1) for the number-th draw of a seed, whatever was drawn before."""
    z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True)
def _cut(record, code_of, kind_of, complement, window, both_strands, unknown_run, keep_ambiguous, soft_masked, seed, turns, left_out, out):
    """Write windows, each followed by BREAK. Returns what was written."""
    usable = np.ones(record.size, np.uint8)
    at = 0
    while at < record.size:
        kind, lower = kind_of[record[at]], record[at] >= 97
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
    return written


@njit(cache=True, nogil=True)
def _draw(codes, sample, first, seed):
    """Reservoir sampling (Vitter 1985, algorithm R): window number t replaces a kept one with probability kept / t."""
    number, at = first, 0
    while at < codes.size:
        end = at
        while codes[end] != BREAK:
            end += 1
        row = number
        if row >= sample.shape[0]:
            row = np.int64(_uniform(seed + 1, number) * (number + 1))
        if row < sample.shape[0]:
            sample[row, :] = BREAK
            sample[row, : end - at] = codes[at:end]
        number += 1
        at = end + 1
