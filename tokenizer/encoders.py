"""The bulk encoders of an extended tokenizer, read back out of it: letters, pieces or k-mers, the public tokenizer's ids.

encoder = read_encoders("runs/extended")["dna"]
ids = encoder.encode("ACGT...")  # a whole chromosome is one span
"""

import json
import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tokenizers import Tokenizer

from artefacts.errors import UserError, ensure
from sequences.alphabets import ALPHABETS, PLAIN_LETTERS, TAGS, Alphabet
from sequences.spans import OPENING
from tokenizer.bpe.encode import GeneEncoder
from tokenizer.kmers import MARK, blocks_in, normalizer_steps, parts_of, without_mark
from tokenizer.private import read_tokenizer

PROBE_LETTERS = 2000


class BlockEncoder(GeneEncoder):
    """One modality's letters -> ids, in blocks of k plain letters; what is in no block stays single letters."""

    def __init__(
        self, alphabet: Alphabet, pieces: Mapping[str, int], merges: Iterable[tuple[str, str]], tags: tuple[int, int], k: int
    ) -> None:
        """
        Args:
            pieces: letters, blocks and their parts (with their marks) -> id.
            merges: pairs of them.

        Raises:
            UserError: not what `kmers.vocabulary_of` makes.
        """
        self.k, self.bases = k, PLAIN_LETTERS[alphabet.name]
        parts = parts_of(self.bases, k)
        if {*pieces} != {*alphabet.letters, MARK, *parts} or {*merges} != {(part[:-1], part[-1]) for part in parts}:
            raise UserError(f"the {alphabet.name} pieces are not all {k}-mers; make them with `llama-gene tokenizer train --pieces kmers`")
        self._name(alphabet, {without_mark(piece): pieces[piece] for piece in [*alphabet.letters, *parts[-(len(self.bases) ** k) :]]}, tags)
        self.letter_ids = np.array([pieces[letter] for letter in alphabet.letters], dtype=np.uint32)
        """[letters of the alphabet]"""
        self.kmer_ids = np.array([pieces[part] for part in parts[-(len(self.bases) ** k) :]], dtype=np.uint32)
        """[bases ** k] In the order of their letters' places in `bases`, the first letter counting most."""

    def _segment(self, codes: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        return _blocks(codes, bounds, len(self.bases), self.k, self.letter_ids, self.kmer_ids)


@njit(cache=True, nogil=True)
def _blocks(codes, bounds, bases, k, letter_ids, kmer_ids):
    """Ids of all sequences end to end, and where each one's end. Codes below `bases` are plain letters."""
    found = np.empty(len(codes), dtype=np.uint32)
    ends = np.empty(len(bounds) - 1, dtype=np.int64)
    count = 0
    for sequence in range(len(ends)):
        position, stop = bounds[sequence], bounds[sequence + 1]
        while position < stop:
            size, number = 0, 0
            while size < k and position + size < stop and codes[position + size] < bases:
                number = number * bases + codes[position + size]
                size += 1
            if size == k:
                found[count] = kmer_ids[number]
                count += 1
            else:  # the rest of a run, or the letter that ended it
                for place in range(position, position + max(size, 1)):
                    found[count] = letter_ids[codes[place]]
                    count += 1
            position += max(size, 1)
        ends[sequence] = count
    return found[:count].copy(), ends


def read_encoders(source: Tokenizer | str | Path, modalities: Iterable[str] = tuple(ALPHABETS)) -> dict[str, GeneEncoder]:
    """Encoders of an extended tokenizer, or of a folder written by `llama-gene tokenizer extend`; modality -> encoder.

    Everything is read out of the tokenizer itself: what its normalizer and its pre-tokenizer make of a letter inside tags
    is how its pieces spell that letter. A seeded sample is then compared with what the tokenizer itself gives.

    Raises:
        UserError: no tokenizer.json, a tokenizer without private alphabets, a gene BPE that no trainer makes (see
            `GeneEncoder`), or one whose own ids differ.
    """
    where = "this tokenizer" if isinstance(source, Tokenizer) else str(source)
    source = read_tokenizer(source)
    document = json.loads(source.to_str())
    model, blocks = document["model"], blocks_in(document)
    encoders: dict[str, GeneEncoder] = {}
    for modality in modalities:
        alphabet = ALPHABETS[modality]
        opening, closing = source.token_to_id(alphabet.open_tag), source.token_to_id(alphabet.close_tag)
        spelling = _spelling(source, alphabet)
        if opening is None or closing is None or spelling is None or model["type"] != "BPE":
            raise UserError(
                f"{where}: {alphabet.name} has no private alphabet in it, so it is not extended; run `llama-gene tokenizer extend`"
            )
        first = _normal(source, alphabet, alphabet.letters[0])
        cut = next((one for one in blocks if first in one.letters), None)
        mark = {str(_word(source, cut.mark)): MARK} if cut else {}
        parts = *_gene_bpe(model, spelling | mark), (opening, closing)
        try:
            encoder = BlockEncoder(alphabet, *parts, cut.k) if cut else GeneEncoder(alphabet, *parts)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        _compare(encoder, source, where)
        encoders[modality] = encoder
    return encoders


def text_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer without the steps that map letters inside tags, which cost most of the time on text.

    For text in which `MAY_HOLD_SPANS` finds nothing it gives the same ids: without an opening tag no step of these ever
    applies. Where another step could make a tag out of something else (NFKC does), the tokenizer itself is returned.
    """
    document = json.loads(tokenizer.to_str())
    kept = [step for step in normalizer_steps(document["normalizer"]) if not _PRIVATE.search(json.dumps(step, ensure_ascii=False))]
    if any(map(_may_make_a_tag, kept)):
        return tokenizer
    document["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    return Tokenizer.from_str(json.dumps(document))


def _may_make_a_tag(step: dict[str, Any]) -> bool:
    if step["type"] not in ("Replace", "Prepend"):
        return True
    written = step["content"] if step["type"] == "Replace" else step["prepend"]
    return not written or not set("".join(TAGS)).isdisjoint(written)


_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
MAY_HOLD_SPANS = re.compile(f"{OPENING.pattern}|{_PRIVATE.pattern}")
"""An opening tag, or a character of the planes that private characters are taken from."""


def _normal(tokenizer: Tokenizer, alphabet: Alphabet, letter: str) -> str:
    """What the normalizer makes of one letter inside tags."""
    ensure(tokenizer.normalizer is not None, "a tokenizer with private alphabets has a normalizer")
    span = tokenizer.normalizer.normalize_str(f"{alphabet.open_tag}{letter}{alphabet.close_tag}")
    return str(span.removeprefix(alphabet.open_tag).removesuffix(alphabet.close_tag))


def _word(tokenizer: Tokenizer, character: str) -> str | None:
    """The model's spelling of a private character; None where it is several words."""
    words = tokenizer.pre_tokenizer.pre_tokenize_str(character) if tokenizer.pre_tokenizer is not None else []
    # SentencePiece's pre-tokenizer puts its blank in front of any text
    return words[0][0].removeprefix("▁") if len(words) == 1 else None


def _spelling(tokenizer: Tokenizer, alphabet: Alphabet) -> dict[str, str] | None:
    """The model's spelling of each letter inside tags -> the letter; None where it is the plain letter, or several words."""
    if tokenizer.normalizer is None:
        return None
    private = {letter: _normal(tokenizer, alphabet, letter) for letter in alphabet.letters}
    words = {_word(tokenizer, character): letter for letter, character in private.items()}
    plain = any(len(character) != 1 or character == letter for letter, character in private.items())
    return None if plain or None in words else words  # type: ignore[return-value]


def _gene_bpe(model: dict[str, Any], spelling: dict[str, str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The pieces and merges spelled in private letters, in plain letters."""
    unit = len(next(iter(spelling)))  # characters per letter: one, or the four bytes of a byte-level base

    def plain(token: str) -> str:
        letters = [spelling.get(token[i : i + unit]) for i in range(0, len(token), unit)]
        return "" if None in letters else "".join(letters)  # type: ignore[arg-type]

    pieces = {piece: number for token, number in model["vocab"].items() if (piece := plain(token))}
    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if (one := plain(left)) and (two := plain(right)):
            merges.append((one, two))
    return pieces, merges


def _compare(encoder: GeneEncoder, tokenizer: Tokenizer, where: str) -> None:
    alphabet = encoder.alphabet
    letters = "".join(random.Random(0).choices(alphabet.letters[:4], k=PROBE_LETTERS)) + alphabet.letters + alphabet.letters.lower()
    public = tokenizer.encode(f"{alphabet.open_tag}{letters}{alphabet.close_tag}", add_special_tokens=False).ids
    if encoder.wrapped(letters).tolist() != public:
        raise UserError(f"{where}: does not encode {alphabet.name} by its gene BPE alone; extend the base with this version of llama-gene")
