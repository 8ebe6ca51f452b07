"""Near duplicates: documents whose letters stand, for the most part, in documents before them.

Of the stretches of a fixed length in a document those are kept whose hash is among the least of all hashes (FracMinHash:
Irber et al. 2022, doi:10.1101/2022.01.11.475838). Which stretches these are depends on their letters alone, so windows of two
strains that begin at different places have them in common; a minhash of whole documents, which estimates what two of them share
of all that they hold, misses these. DNA is compared on either strand. Text is compared without case and line breaks.

docs/corpora.md has what a share means for strains. Memory: at most 40 bytes for each stretch that is kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_convert.corpus.documents import Document
from sequences.alphabets import COMPLEMENT

LENGTH = {"dna": 20, "rna": 20, "protein": 10, "text": 32}
"""Letters of a stretch: long enough that two of them are not equal by chance."""
KEPT = {"dna": 64, "rna": 64, "protein": 16, "text": 64}
"""One in so many is kept."""
FEWEST = 4
"""Kept stretches that a document needs to be judged."""
BASE, SCRAMBLE = 0x9E3779B97F4A7C15, np.uint64(0xBF58476D1CE4E5B9)
_COMPLEMENT = bytes(COMPLEMENT.get(code, code) for code in range(256))
_CODES = np.random.default_rng(0).integers(0, 2**64, 256, dtype=np.uint64)
Hashes = NDArray[np.uint64]


def sketches(documents: Sequence[Document]) -> tuple[Hashes, NDArray[np.uint32]]:
    """The kept stretches of all documents one after the other, each document's ascending; and how many each has."""
    found: dict[str, tuple[list[int], list[str]]] = {modality: ([], []) for modality in LENGTH}
    for number, document in enumerate(documents):
        for modality, letters in document.parts:
            found[modality][0].append(number)
            found[modality][1].append(" ".join(letters.casefold().split()) if modality == "text" else letters)
    parts = [_kept(modality, np.array(owners), texts) for modality, (owners, texts) in found.items() if owners]
    owners, hashes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((hashes, owners))
    owners, hashes = owners[order], hashes[order]
    first = np.append(True, (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1]))[: len(owners)]
    return hashes[first], np.bincount(owners[first], minlength=len(documents)).astype(np.uint32)


def _kept(modality: str, owners: NDArray[np.int64], texts: list[str]) -> tuple[NDArray[np.int64], Hashes]:
    """Owner and hash of every kept stretch of texts of one modality."""
    letters, size = np.frombuffer("\n".join(texts).encode(), dtype=np.uint8), LENGTH[modality]
    others = _CODES[np.frombuffer(_COMPLEMENT, dtype=np.uint8)] if modality == "dna" else _CODES[:0]
    powers = np.array([pow(BASE, power, 2**64) for power in (1, size, size - 1, -1)], dtype=np.uint64)
    numbers, hashes = _rolled(letters, _CODES, others, size, powers, np.uint64(2**64 // KEPT[modality]))
    return owners[numbers], hashes


@njit(cache=True, nogil=True)
def _rolled(letters: Any, codes: Any, others: Any, size: int, powers: Any, limit: Any) -> Any:
    """Number of the text (they are lines) and hash of every kept stretch; with codes of the other strand the lesser hash of both."""
    base, out, top, back = powers[0], powers[1], powers[2], powers[3]
    numbers, hashes = np.empty(len(letters), np.int64), np.empty(len(letters), np.uint64)
    text = count = begin = 0
    forward = backward = np.uint64(0)
    for place in range(len(letters)):
        letter = letters[place]
        if letter == 10:
            text, begin, forward, backward = text + 1, place + 1, np.uint64(0), np.uint64(0)
            continue
        forward = forward * base + codes[letter]
        if place - begin >= size:
            gone = letters[place - size]
            forward -= codes[gone] * out
            if len(others):
                backward -= others[gone]
        if len(others):  # its letters have the powers 0, 1, ... from the first on; a shorter one counts from where it would end
            backward = backward * back + others[letter] * top
        if place - begin + 1 >= size:
            number = min(forward, backward) if len(others) else forward
            number = (number ^ (number >> np.uint64(31))) * SCRAMBLE
            if number < limit:
                numbers[count], hashes[count] = text, number
                count += 1
    return numbers[:count], hashes[:count]


@njit(cache=True, nogil=True)
def mostly_seen(hashes: Any, sizes: Any, order: Any, share: float) -> Any:
    """[documents] True for those of which at least `share` of the stretches stand in documents before them that are False.

    Args:
        hashes: of all documents, one after the other. sizes: [documents] how many are whose.
        order: documents in the order in which they are judged; those that are not in it do not count.
    """
    slots = 1
    while slots < 2 * len(hashes) + 1:
        slots *= 2
    table, last = np.zeros(slots, np.uint64), np.uint64(slots - 1)
    starts = np.zeros(len(sizes) + 1, np.int64)
    starts[1:] = np.cumsum(sizes)
    dropped = np.zeros(len(sizes), np.bool_)
    for document in order:
        mine = hashes[starts[document] : starts[document + 1]]
        for insert in range(2):
            seen = 0
            for number in mine:
                slot = (number * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & last
                while table[slot] and table[slot] != number:
                    slot = (slot + np.uint64(1)) & last
                if table[slot] == number:
                    seen += 1
                elif insert:
                    table[slot] = number
            if len(mine) >= FEWEST and seen >= share * len(mine) and not insert:
                dropped[document] = True
                break
    return dropped
