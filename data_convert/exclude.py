"""Benchmark sequences that must not stand in training data: which documents contain one.

A document is found when a whole benchmark sequence stands in it, letter by letter; DNA and RNA on either strand. A
document that holds only a piece of one is not.

Method: of every benchmark sequence one stretch of fixed length is kept, the one with the least hash, so that repeats like
AAAA are rarely taken. A stretch fits a 64-bit number exactly. All stretches of a document are looked up in a bit table,
then in the sorted numbers, and what is found is compared letter by letter.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import Ledger, UserError
from sequences.alphabets import ALPHABETS, DNA, PROTEIN, Alphabet, reverse_complement
from sequences.readers import fasta_records, open_bytes

HOLDS = "holds a benchmark sequence"
STRETCH = {"dna": (16, 4), "protein": (12, 5)}
"""Letters of a stretch, and bits of a letter."""
TABLE_BITS = 22
SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


class Excluded:
    """The benchmark sequences of one alphabet."""

    def __init__(self, sequences: Iterable[str], alphabet: Alphabet) -> None:
        self._letters, self._bits = STRETCH[alphabet.name]
        self._codes = np.full(256, 2**self._bits - 1, dtype=np.uint64)
        for code, letter in enumerate(alphabet.letters):
            self._codes[ord(letter)] = code
        either = sorted({strand for s in sequences for strand in ((s, reverse_complement(s)) if alphabet is DNA else (s,))})
        self._sequences = [s.encode() for s in either if len(s) >= self._letters]
        found = [self._stretches(s) for s in self._sequences]
        offsets = [int(_scrambled(numbers).argmin()) for numbers in found]
        keys = np.array([numbers[offset] for numbers, offset in zip(found, offsets, strict=True)], dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys, self._offsets, self._order = keys[order], np.array(offsets, dtype=np.int64)[order], order
        self._table = np.zeros(1 << TABLE_BITS, dtype=bool)
        self._table[self._slots(self._keys)] = True

    def __len__(self) -> int:
        """Sequences, both strands counted."""
        return len(self._sequences)

    def held_by(self, documents: Sequence[str]) -> NDArray[np.bool_]:
        """[documents] Whether each contains one of the sequences. Upper-case letters, synonyms applied."""
        held = np.zeros(len(documents), dtype=bool)
        if not self._sequences or not documents:
            return held
        text = "\n".join(documents).encode()  # a line break is no letter, so nothing is found across two documents
        numbers = self._stretches(text)
        places = np.flatnonzero(self._table[self._slots(numbers)])
        first = np.searchsorted(self._keys, numbers[places], "left")
        last = np.searchsorted(self._keys, numbers[places], "right")
        ends = np.cumsum([len(document) + 1 for document in documents])
        for place, begin, end in zip(places[first < last], first[first < last], last[first < last], strict=True):
            owner = int(np.searchsorted(ends, place, "right"))
            if not held[owner]:
                held[owner] = any(self._stands(text, int(place), row) for row in range(begin, end))
        return held

    def _stands(self, text: bytes, place: int, row: int) -> bool:
        start = place - int(self._offsets[row])
        return start >= 0 and text.startswith(self._sequences[self._order[row]], start)

    def _stretches(self, text: bytes) -> NDArray[np.uint64]:
        """[letters - length + 1] Every stretch as a number, by doubling: 1, 2, 4, 8 letters, then two that make the length."""
        one = self._codes[np.frombuffer(text, dtype=np.uint8)]
        numbers, size = one, 1
        while size * 2 <= self._letters:
            numbers = (numbers[:-size] << np.uint64(self._bits * size)) | numbers[size:]
            size *= 2
        if size < self._letters:  # 12 = 8 + 4
            rest = self._letters - size
            tail, width = one, 1
            while width < rest:
                tail = (tail[:-width] << np.uint64(self._bits * width)) | tail[width:]
                width *= 2
            count = max(len(text) - self._letters + 1, 0)
            numbers = (numbers[:count] << np.uint64(self._bits * rest)) | tail[size : size + count]
        return numbers

    def _slots(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return _scrambled(numbers) >> np.uint64(64 - TABLE_BITS)


def _scrambled(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (numbers ^ (numbers >> np.uint64(29))) * SCRAMBLE


@lru_cache(maxsize=2)
def read_excluded(files: tuple[Path, ...]) -> dict[str, Excluded]:
    """Modality -> benchmark sequences of all files. What is spelled in A C G T U N is DNA (and RNA), anything else protein.

    Raises:
        UserError: missing or damaged files, files of another kind, a file without one sequence long enough to be found.
    """
    found: dict[str, set[str]] = {name: set() for name in STRETCH}
    for file in files:
        ledger = Ledger()
        for letters in _undamaged(file):
            ledger.read += 1
            upper = letters.upper()
            alphabet = DNA if set(upper) <= set("ACGTUN") else PROTEIN
            if alphabet.first_foreign(upper.replace("U", "T") if alphabet is DNA else upper) >= 0:
                ledger.reject("not a sequence", str(file))
            elif len(upper) < STRETCH[alphabet.name][0]:
                ledger.reject("too short", str(file))
            else:
                ledger.written += 1
                found[alphabet.name].add(upper.replace("U", "T") if alphabet is DNA else upper)
        if not ledger.written:
            least = " or ".join(f"{size} letters of {name}" for name, (size, _) in STRETCH.items())
            raise UserError(f"{file}: no benchmark sequence in it ({dict(ledger.reasons)}); at least {least} are needed")
    sets = {name: Excluded(letters, ALPHABETS[name]) for name, letters in found.items()}
    return {**sets, "rna": sets["dna"]}


def _undamaged(file: Path) -> Iterator[str]:
    try:
        yield from _sequences(file)
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
        raise UserError(f"{file}: damaged, or of another kind than its name says ({error}); fetch the file again") from None


def _sequences(file: Path) -> Iterator[str]:
    name = file.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        yield from _cells(file, "\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".jsonl"):
        yield from _inputs(file)
    else:
        for _, _, body in fasta_records(file):
            yield b"".join(b"".join(body).split()).decode("latin-1")


def _cells(file: Path, delimiter: str) -> Iterator[str]:
    """Every cell that is spelled in letters of a sequence; labels and names are shorter than a stretch, or have other characters."""
    csv.field_size_limit(1 << 30)
    with open_bytes(file) as handle:
        for row in csv.reader(io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline=""), delimiter=delimiter):
            for cell in row:
                if cell.isalpha() or cell.rstrip("*").isalpha():
                    yield cell


def _inputs(file: Path) -> Iterator[str]:
    with open_bytes(file) as handle:
        for number, line in enumerate(handle, 1):
            try:
                yield from (item["letters"] for item in json.loads(line)["inputs"])
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{file}:{number}: not a record of `llama-gene convert tasks`; convert the tasks again") from None
