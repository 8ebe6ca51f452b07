"""Letters -> token ids for whole corpora: the ids that the public tokenizer gives a span, some ten to fifty times as fast.

The public tokenizer rewrites every letter by regular expressions, and its BPE keeps a queue over the whole span. Here the
gene BPE is read back out of the tokenizer and run as such, in time linear in the letters.

Method: take the longest piece that matches; it may stand beside the piece before it if no merge joins the two across
their boundary, at any moment of their making; if it may not, try the next shorter one, and step back where none is left.
The one sequence of pieces whose neighbours all may stand side by side is the BPE's segmentation (van Antwerpen and
Neubeck 2024, "So many tokens, so little time", and their Rust crate `bpe`). This holds where every piece is made by
exactly one merge and encodes to itself, as a BPE trainer makes them; `GeneEncoder` checks it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from artefacts.errors import UserError
from sequences.alphabets import Alphabet

FOREIGN = 255
NEVER = 1 << 31
NEAR_PIECES = 1024
"""Pairs of so many first pieces are worked out in advance: 128 KiB, which stays in the processor's cache; more gains nothing."""
BATCH_LETTERS = 1 << 24
"""Letters encoded in one call: large enough to cost nothing, small enough to need little memory."""


class Tables(NamedTuple):
    """A gene BPE as arrays. P pieces, numbered by rank: the alphabet's letters, then one piece per merge."""

    trie: NDArray[np.int32]
    """Rows of `width` numbers, one row per prefix of several pieces: where the row of the prefix and one more letter starts (0:
    no such prefix; below 0: that prefix is a piece and starts no other, -1 less the piece); in the last column the longest
    piece that the prefix starts with."""
    width: int
    letters: int
    """Letters of the alphabet: pieces below this number."""
    left: NDArray[np.int32]
    """[P] The two pieces that a piece was merged from; a letter has itself."""
    right: NDArray[np.int32]
    size: NDArray[np.int32]
    """[P] Letters of each piece."""
    shorter: NDArray[np.int32]
    """[P] The longest piece that is a true prefix of this one, or -1."""
    slots: NDArray[np.int32]
    """Hash table (left, right) -> merged piece; -1 where empty. Its length is a power of two."""
    sieve: NDArray[np.uint8]
    """One bit per hash of a pair: clear where no merge has it. Small enough for the nearest cache; most pairs end here."""
    near: NDArray[np.uint8]
    """[N, N / 8] For the first N pieces, one bit per pair: they may stand side by side."""
    ids: NDArray[np.uint32]
    """[P] Ids in the tokenizer."""


class GeneEncoder:
    """One modality's letters -> ids."""

    def __init__(self, alphabet: Alphabet, pieces: Mapping[str, int], merges: Iterable[tuple[str, str]], tags: tuple[int, int]) -> None:
        """
        Args:
            pieces: piece in plain letters -> id.
            merges: pairs of pieces in plain letters, first merge first.
            tags: ids of the opening and the closing tag.

        Raises:
            UserError: a letter without a piece; a piece that no merge makes, or two do; a piece whose own letters are
                segmented otherwise. The piece is named.
        """
        self._name(alphabet, pieces, tags)
        self._tables = _tables(alphabet, pieces, list(merges), self._codes)

    def _name(self, alphabet: Alphabet, pieces: Mapping[str, int], tags: tuple[int, int]) -> None:
        self.alphabet, self.pieces, self.tags = alphabet, pieces, tags
        self._codes = _letter_codes(alphabet)
        self.letters_of = np.zeros(max(pieces.values(), default=-1) + 1, dtype=np.int32)
        """[highest id + 1] Letters that each id stands for; 0 for ids that are no piece of this modality."""
        self.letters_of[list(pieces.values())] = [len(piece) for piece in pieces]

    def encode(self, letters: bytes | str) -> NDArray[np.uint32]:
        """Ids of the pieces, without tags. Either case, and U for T in RNA, give the same ids.

        Raises:
            UserError: anything but letters of the alphabet, white space included, with its position.
        """
        return self._encode([letters])[0]

    def encode_many(self, sequences: Sequence[bytes | str]) -> list[NDArray[np.uint32]]:
        """The same for each of many sequences: without the cost of a call for each, which short proteins feel."""
        found: list[NDArray[np.uint32]] = []
        start, letters = 0, 0
        for end, sequence in enumerate(sequences, 1):
            letters += len(sequence)
            if letters >= BATCH_LETTERS or end == len(sequences):
                found += self._encode(sequences[start:end], start, len(sequences))
                start, letters = end, 0
        return found

    def wrapped(self, letters: bytes | str) -> NDArray[np.uint32]:
        """[opening tag, *pieces, closing tag], as the public tokenizer encodes `<tag>LETTERS</tag>`."""
        ends = np.array(self.tags, dtype=np.uint32)
        return np.concatenate((ends[:1], self.encode(letters), ends[1:]))

    def _encode(self, sequences: Sequence[bytes | str], before: int = 0, of: int = 1) -> list[NDArray[np.uint32]]:
        # one byte per character, so that positions stay what they are; ? is in no alphabet
        raw = [letters.encode("ascii", "replace") if isinstance(letters, str) else letters for letters in sequences]
        codes = b"".join(raw).translate(self._codes)
        if FOREIGN in codes:
            self._refuse(sequences, raw, before, of)
        bounds = np.zeros(len(raw) + 1, dtype=np.int64)
        np.cumsum([len(letters) for letters in raw], out=bounds[1:])
        ids, ends = self._segment(np.frombuffer(codes, dtype=np.uint8), bounds)
        return np.split(ids, ends[:-1])

    def _segment(self, codes: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        return _segment(codes, bounds, self._tables)

    def _refuse(self, sequences: Sequence[bytes | str], raw: Sequence[bytes], before: int, of: int) -> None:
        for number, (letters, as_bytes) in enumerate(zip(sequences, raw, strict=True), before + 1):
            position = as_bytes.translate(self._codes).find(FOREIGN)
            if position >= 0:
                where = f"sequence {number}: " if of > 1 else ""
                character = letters[position : position + 1]
                raise UserError(
                    f"{where}{character!r} at position {position + 1} is not a {self.alphabet.name} letter "
                    f"({self.alphabet.letters}{''.join(self.alphabet.synonyms)}); give letters only, without line breaks"
                )


def _letter_codes(alphabet: Alphabet) -> bytes:
    """A table for `bytes.translate`: letter -> its place in the alphabet, anything else -> FOREIGN."""
    table = bytearray([FOREIGN] * 256)
    places = {letter: place for place, letter in enumerate(alphabet.letters)}
    places |= {letter: places[other] for letter, other in alphabet.synonyms.items()}
    for letter, place in places.items():
        table[ord(letter)] = table[ord(letter.lower())] = place
    return bytes(table)


def _tables(alphabet: Alphabet, pieces: Mapping[str, int], merges: list[tuple[str, str]], codes: bytes) -> Tables:
    """Raises UserError as `GeneEncoder` does."""
    rank = {letter: number for number, letter in enumerate(alphabet.letters)}
    lost = [letter for letter in rank if letter not in pieces]
    if lost:
        raise UserError(f"the {alphabet.name} BPE has no piece for {''.join(lost)}; those letters would be lost")
    left, right = list(range(len(rank))), list(range(len(rank)))
    for one, two in merges:
        piece = one + two
        if piece in rank:
            raise UserError(f"two merges make the {alphabet.name} piece '{piece}'; only BPEs in which one does are encoded in bulk")
        for side in (one, two):
            if side not in rank:
                raise UserError(f"{alphabet.name} piece '{piece}' is merged from '{side}' before '{side}' is made; train the BPE anew")
        left.append(rank[one])
        right.append(rank[two])
        rank[piece] = len(rank)
    orphan = next((piece for piece in pieces if piece not in rank), None)
    if orphan is not None:
        raise UserError(f"no merge makes the {alphabet.name} piece '{orphan}'; train the BPE anew")
    size = np.array([len(piece) for piece in rank], dtype=np.int32)
    width = 1 << len(alphabet.letters).bit_length()
    trie, shorter = _trie(np.frombuffer("".join(rank).encode().translate(codes), dtype=np.uint8), size, width)
    sides = np.array([left, right], dtype=np.int32)
    slots = _slots(sides[0], sides[1], len(alphabet.letters))
    sieve = _sieve(sides[0], sides[1], len(alphabet.letters))
    near = _near(min(len(rank), NEAR_PIECES), len(alphabet.letters), slots, sieve, sides[0], sides[1])
    ids = np.array([pieces[piece] for piece in rank], dtype=np.uint32)
    tables = Tables(trie, width, len(alphabet.letters), sides[0], sides[1], size, shorter, slots, sieve, near, ids)
    wrong = _unreachable(len(alphabet.letters), near, slots, sieve, sides[0], sides[1])
    if wrong >= 0:
        raise UserError(f"the {alphabet.name} piece '{list(rank)[wrong]}' is never reached: earlier merges split its letters otherwise")
    return tables


@njit(cache=True, nogil=True)
def _trie(codes, size, width):
    """The trie of all pieces, and for each piece the next shorter one that starts it."""
    trie = np.zeros((len(codes) + 1) * width, dtype=np.int32)
    rows, at = width, 0
    best = width - 1
    trie[best] = -1
    for piece in range(len(size)):
        row = 0
        for letter in codes[at : at + size[piece]]:
            if trie[row + letter] == 0:
                trie[row + letter] = rows
                trie[rows + best] = -1
                rows += width
            row = trie[row + letter]
        trie[row + best] = piece
        at += size[piece]
    shorter = np.full(len(size), -1, dtype=np.int32)
    for row in range(0, rows, width):  # a row stands behind that of its prefix
        for letter in range(best):
            longer = trie[row + letter]
            if longer:
                if trie[longer + best] < 0:
                    trie[longer + best] = trie[row + best]
                else:
                    shorter[trie[longer + best]] = trie[row + best]
    return _without_leaves(trie[:rows], width), shorter


@njit(cache=True, nogil=True)
def _without_leaves(trie, width):
    """Rows of prefixes that no longer piece goes on from become one number, minus the piece less one: a third of the memory."""
    best = width - 1
    place = np.zeros(len(trie) // width, dtype=np.int64)
    inner = 0
    for row in range(0, len(trie), width):
        if row == 0 or trie[row : row + best].any():
            place[row // width] = inner
            inner += width
        else:
            place[row // width] = -1
    small = np.zeros(inner, dtype=np.int32)
    for row in range(0, len(trie), width):
        if place[row // width] >= 0:
            for letter in range(best):
                longer = trie[row + letter]
                if longer:
                    there = place[longer // width]
                    small[place[row // width] + letter] = there if there >= 0 else -1 - trie[longer + best]
            small[place[row // width] + best] = trie[row + best]
    return small


@njit(cache=True, nogil=True, inline="always")
def _slot(left, right, mask):
    return ((left * 2654435761 + right * 2246822519) >> 15) & mask


@njit(cache=True, nogil=True)
def _slots(left, right, letters):
    room = 64
    while room < 8 * len(left):  # mostly empty: nearly every look-up is for a pair that does not merge
        room *= 2
    slots = np.full(room, -1, dtype=np.int32)
    for piece in range(letters, len(left)):
        slot = _slot(np.int64(left[piece]), np.int64(right[piece]), room - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (room - 1)
        slots[slot] = piece
    return slots


@njit(cache=True, nogil=True)
def _sieve(left, right, letters):
    room = 64
    while room < 8 * len(left):
        room *= 2
    sieve = np.zeros(room >> 3, dtype=np.uint8)
    for piece in range(letters, len(left)):
        bit = _slot(np.int64(left[piece]), np.int64(right[piece]), room - 1)
        sieve[bit >> 3] |= np.uint8(1 << (bit & 7))
    return sieve


@njit(cache=True, nogil=True, inline="always")
def _merged(one, two, slots, sieve, left, right):
    """The piece that `one` and `two` merge to; NEVER where they do not."""
    bit = _slot(one, two, 8 * len(sieve) - 1)
    if not (sieve[bit >> 3] >> (bit & 7)) & 1:
        return np.int64(NEVER)
    slot = _slot(one, two, len(slots) - 1)
    while slots[slot] >= 0:
        piece = np.int64(slots[slot])
        if left[piece] == one and right[piece] == two:
            return piece
        slot = (slot + 1) & (len(slots) - 1)
    return np.int64(NEVER)


@njit(cache=True, nogil=True, inline="always")
def _before(one, two, left, right):
    """One step back in time from neighbours that are not both letters: the later made of the two is undone.

    Returns the pieces then at the boundary, and the rank below which a merge across it would have come first. With equal
    ranks the left one was made first, for BPE goes from left to right: a merge across comes before the right one's, hence
    + 1, but not before the left one's.
    """
    if one > two:
        return np.int64(right[one]), two, one
    return one, np.int64(left[two]), two + 1


@njit(cache=True, nogil=True)
def _beside(one, two, limit, letters, near, slots, sieve, left, right):
    """Whether no merge of a rank below `limit` joins neighbours `one` and `two` across their boundary, at any time."""
    known = np.int64(len(near))
    if limit == NEVER and one < known and two < known:
        return ((near[one, two >> 3] >> (two & 7)) & 1) != 0
    while True:
        if _merged(one, two, slots, sieve, left, right) < limit:
            return False
        if one < letters and two < letters:
            return True
        one, two, limit = _before(one, two, left, right)
        if one < known and two < known and (near[one, two >> 3] >> (two & 7)) & 1:
            return True


@njit(cache=True, nogil=True)
def _near(size, letters, slots, sieve, left, right):
    """[size, size / 8] One bit per pair of the first pieces: no merge ever joins them across their boundary."""
    joined = np.zeros((size, size), dtype=np.bool_)  # at an earlier time
    near = np.zeros((size, (size + 7) >> 3), dtype=np.uint8)
    for first in range(size):
        for second in range(size):
            if first >= letters or second >= letters:
                one, two, limit = _before(first, second, left, right)
                joined[first, second] = joined[one, two] or _merged(one, two, slots, sieve, left, right) < limit
            if not joined[first, second]:
                near[first, second >> 3] |= np.uint8(1 << (second & 7))
    for piece in range(letters, len(left)):
        one, two = left[piece], right[piece]
        if one < size and two < size:
            near[one, two >> 3] &= np.uint8(255 - (1 << (two & 7)))
    return near


@njit(cache=True, nogil=True)
def _unreachable(letters, near, slots, sieve, left, right):
    """The first piece whose two sides other merges would have joined or broken before its own, or -1."""
    for piece in range(letters, len(left)):
        if not _beside(np.int64(left[piece]), np.int64(right[piece]), piece, letters, near, slots, sieve, left, right):
            return piece
    return -1


@njit(cache=True, nogil=True)
def _longest(codes, position, stop, trie, width):
    row = 0
    for place in range(position, stop):
        longer = trie[row + codes[place]]
        if longer < 0:
            return np.int64(-1 - longer)
        if longer == 0:
            break
        row = longer
    return np.int64(trie[row + width - 1])


@njit(cache=True, nogil=True)
def _segment(codes, bounds, tables):
    """Ids of all sequences end to end, and where each one's end. Sequence i is codes[bounds[i]:bounds[i + 1]]."""
    # taken out once: numba counts references each time an array is taken out of a tuple, which doubles the time
    trie, width, letters, left, right, size, shorter, slots, sieve, near, ids = tables
    found = np.empty(len(codes), dtype=np.uint32)
    dead = np.zeros(len(codes) + 1, dtype=np.uint8)  # positions from which no segmentation of what stands before goes on
    ends = np.empty(len(bounds) - 1, dtype=np.int64)
    count = 0
    for sequence in range(len(ends)):
        position, stop, first = bounds[sequence], bounds[sequence + 1], count
        piece = _longest(codes, position, stop, trie, width)
        while position < stop:
            end = position + size[piece]
            if not dead[end] and (
                count == first or _beside(np.int64(found[count - 1]), piece, NEVER, letters, near, slots, sieve, left, right)
            ):
                found[count] = piece
                count += 1
                position = end
                piece = _longest(codes, position, stop, trie, width)
                continue
            while shorter[piece] < 0:
                dead[position] = 1
                count -= 1
                piece = np.int64(found[count])
                position -= size[piece]
            piece = np.int64(shorter[piece])
        for place in range(first, count):
            found[place] = ids[found[place]]
        ends[sequence] = count
    return found[:count].copy(), ends
