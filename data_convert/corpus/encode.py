"""Documents -> token ids, by the plain tokenizer of a model folder, and cut to what a block can hold.

A sequence becomes [BOS] <tag> pieces </tag> EOS, a text [BOS] pieces EOS, a mixed document or a sequence with words before it
[BOS] words <tag> pieces </tag> words EOS. A longer document becomes several fragments, each complete in itself: the tags
are opened and closed again, and no letter is lost.

Sequences, and text without tags, take the fast ways of tokenizer/encoders.py, which give the same ids.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from artefacts.errors import UserError
from data_convert.corpus.documents import Document
from sequences.alphabets import ALPHABETS, Alphabet
from tokenizer.bpe.encode import GeneEncoder
from tokenizer.bpe.words import read_word_encoder
from tokenizer.encoders import read_encoders
from tokenizer.private import check_tags, letterless

log = logging.getLogger(__name__)
BLANK_LINES = re.compile(rb"\n(?:[ \t\r]*\n)+")


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """A document's tokens, or a part of them where a block cannot hold them all."""

    ids: NDArray[np.uint32]
    letters: int
    """Bases, residues, or UTF-8 bytes of text in this fragment."""
    weights: NDArray[np.float32] | None = None
    """How much each token counts in the loss; None: all alike."""


@dataclass(slots=True, eq=False)
class _Tokens:
    """The tokens of a document with words and sequences, [n] each."""

    ids: NDArray[np.uint32]
    letters: NDArray[np.int64]
    may_cut: NDArray[np.bool_]
    """Whether a fragment may begin here."""
    weights: NDArray[np.float32]
    within: NDArray[np.uint32]
    """The opening tag of the span that a cut before this token would cut; 0 outside of spans."""

    def insert(self, place: int, pieces: NDArray[np.uint32], sizes: NDArray[np.int32], weights: NDArray[np.float32], tag: int) -> None:
        """Fill an empty span before its closing tag."""
        self.ids = np.insert(self.ids, place, pieces)
        self.letters = np.insert(self.letters, place, sizes)
        self.weights = np.insert(self.weights, place, weights)
        may_cut = np.ones(len(pieces), dtype=bool)
        may_cut[:1] = False
        self.may_cut = np.insert(self.may_cut, place, may_cut)
        self.within = np.insert(self.within, place, np.full(len(pieces), tag, dtype=np.uint32))
        behind = place + len(pieces)
        self.within[behind], self.may_cut[behind] = tag, False


def _bytes_of_tokens(text: str, offsets: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """UTF-8 bytes of each token, by where the next one begins, and whether it begins a character."""
    upto = np.concatenate(([0], np.cumsum([len(letter.encode()) for letter in text]))) if not text.isascii() else np.arange(len(text) + 1)
    begins = np.array([begin for begin, _ in offsets] + [len(text)], dtype=np.int64)
    begins[0] = 0
    ends = np.array([0, *(end for _, end in offsets[:-1])], dtype=np.int64)
    return np.diff(upto[begins]), ends <= begins[:-1]


def _weights(repeats: bytes, sizes: NDArray[np.int32], repeat_weight: float) -> NDArray[np.float32]:
    """[tokens] The mean weight of each token's letters."""
    marked = np.concatenate(([0], np.cumsum(np.frombuffer(repeats, dtype=np.uint8) - ord("0"), dtype=np.int64)))
    ends = np.concatenate(([0], np.cumsum(sizes)))
    return (1 - (1 - repeat_weight) * np.diff(marked[ends]) / np.maximum(sizes, 1)).astype(np.float32)


def _padded(weights: NDArray[np.float32], before: int, behind: int) -> NDArray[np.float32]:
    """Tags and the ends of a document count whole."""
    return np.concatenate((np.ones(before, dtype=np.float32), weights, np.ones(behind, dtype=np.float32)))


class Encoder:
    """The tokenizer of a model folder, probed once, so that a wrong one fails before a corpus is read."""

    def __init__(self, folder: Path, modalities: set[str], block_tokens: int) -> None:
        """
        Raises:
            UserError: no fast tokenizer, no end-of-sequence token, tags that are not single tokens, or lost letters.
        """
        self.folder = folder
        if not (folder / "tokenizer.json").is_file():
            raise UserError(f"{folder}: no tokenizer.json; name a folder written by `llama-gene tokenizer extend`")
        # not by AutoTokenizer, which gives the same ids: importing it takes longer than packing a small corpus, in every worker
        self._backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        begin, end, pad = (self._named(name) for name in ("bos_token", "eos_token", "pad_token"))
        if end is None:
            raise UserError(f"{folder}: the tokenizer has no eos_token, so documents could not be ended; set one in tokenizer_config.json")
        self.block_tokens = block_tokens
        self.start: list[int] = [] if begin is None else [begin]
        self.end: list[int] = [end]
        self.pad: int = end if pad is None else pad
        check_tags(self._backend, folder)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._special = np.zeros(max(self._backend.get_vocab().values()) + 1, dtype=bool)
        self._special[letterless(self._backend.get_added_tokens_decoder())] = True
        modalities = modalities - {"mixed"} | (set(ALPHABETS) if "mixed" in modalities else set())
        for modality in sorted(modalities - {"text"}):
            self._probe(ALPHABETS[modality])
        self._genes = self._gene_encoders(sorted(modalities - {"text"}))
        self._words = read_word_encoder(self._backend) if "text" in modalities else None
        if "text" in modalities and self._words is None:
            log.warning("%s: text is encoded slowly, by the tokenizer itself: it is not known to keep words apart", folder)

    def check_spoken(self) -> None:
        """Raise UserError where sequences are not spelled in private alphabets, so that no token says how many letters it stands for."""
        if not self._genes:
            raise UserError(
                f"{self.folder}: words beside sequences and weights of repeats need a tokenizer of `llama-gene tokenizer extend`; "
                "name one, or set described: 0 and repeat_weight: 1"
            )

    def encode(self, documents: list[Document], repeat_weight: float = 1.0) -> list[list[Fragment] | None]:
        """Fragments of each document, in order; None for a text that spells one of the tokenizer's special tokens.

        Such a text would start or end a document, or open a sequence, in the middle of a sentence.

        Args:
            repeat_weight: how much a letter counts that a document marks as a repeat.
        """
        found: dict[int, list[Fragment] | None] = {}
        if spoken := [place for place, document in enumerate(documents) if document.words or document.modality == "mixed"]:
            found.update(zip(spoken, self._spoken([documents[place] for place in spoken], repeat_weight), strict=True))
        ids: dict[int, NDArray[np.uint32]] = {}
        fast: dict[str, Any] = self._genes if self._words is None else {**self._genes, "text": self._words}
        for modality, encoder in fast.items():
            mine = [place for place, document in enumerate(documents) if document.modality == modality and place not in found]
            ids.update(zip(mine, encoder.encode_many([documents[place].letters for place in mine]), strict=True))
        mine = [place for place in range(len(documents)) if place not in ids and place not in found]
        encodings = self._backend.encode_batch_fast([documents[place].wrapped for place in mine], add_special_tokens=False)
        ids.update((place, np.array(encoding.ids, dtype=np.uint32)) for place, encoding in zip(mine, encodings, strict=True))
        found.update((place, self._fragments(documents[place], of_document, repeat_weight)) for place, of_document in ids.items())
        return [found[place] for place in range(len(documents))]

    def _fragments(self, document: Document, ids: NDArray[np.uint32], repeat_weight: float) -> list[Fragment] | None:
        """Fragments from the ids of a document; for a modality in `_genes`, ids of its pieces without tags."""
        if document.modality in self._genes:
            encoder = self._genes[document.modality]
            weights = _weights(document.repeats, encoder.letters_of[ids], repeat_weight) if document.repeats else None
            return list(self._cut_sequence(encoder, ids, weights))
        if document.modality == "text" and self._special[ids].any():
            return None
        if len(self.start) + len(ids) + len(self.end) <= self.block_tokens:
            return [Fragment(self._ended(ids), document.size)]
        if document.modality == "text" and (cuts := self._cut_text(document, ids)) is not None:
            return cuts
        return list(self._cut(document))

    def _ended(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return np.concatenate((np.array(self.start, dtype=np.uint32), ids, np.array(self.end, dtype=np.uint32)))

    def _cut_text(self, document: Document, ids: NDArray[np.uint32]) -> list[Fragment] | None:
        """Cut between paragraphs where one ends in the last quarter of a block, else between tokens.

        By the bytes that tokens spell, not by a second, slower encoding as in `_cut`; None where they are not the text's.
        """
        if self._words is None:
            return None
        encoded = document.letters.encode()
        raw = np.frombuffer(encoded, dtype=np.uint8)
        ends = np.concatenate(([0], np.cumsum(self._words.spelt[ids])))
        if ends[-1] == len(raw) + 1:  # the blank that SentencePiece puts in front
            ends[1:] -= 1
        room = self.block_tokens - len(self.start) - len(self.end)
        if ends[-1] != len(raw) or room < 4:
            return None
        whole = np.append((raw & 0xC0) != 0x80, True)[ends]  # before a token that begins a character
        begins = np.array([blank.end() for blank in BLANK_LINES.finditer(encoded)], dtype=np.int64)
        paragraphs = np.searchsorted(ends, begins)
        paragraphs = paragraphs[ends[paragraphs] == begins]  # tokens that begin one
        found, first = [], 0
        while first < len(ids):
            cut = min(first + room, len(ids))
            if cut < len(ids) and (last := int(np.searchsorted(paragraphs, cut, "right"))) and paragraphs[last - 1] > first + room * 3 // 4:
                cut = int(paragraphs[last - 1])
            while not whole[cut] and cut > first:
                cut -= 1
            if cut == first:
                return None
            found.append(Fragment(self._ended(ids[first:cut]), int(ends[cut] - ends[first])))
            first = cut
        return found

    def _named(self, name: str) -> int | None:
        """The id of a token that the folder's tokenizer_config.json names by its role."""
        path = self.folder / "tokenizer_config.json"
        token = json.loads(path.read_text(encoding="utf-8")).get(name) if path.is_file() else None
        token = token["content"] if isinstance(token, dict) else token
        return None if token is None else self._backend.token_to_id(token)

    def _cut_sequence(self, encoder: GeneEncoder, ids: NDArray[np.uint32], weights: NDArray[np.float32] | None) -> Iterator[Fragment]:
        opening, closing = encoder.tags
        head, tail = np.array([*self.start, opening], dtype=np.uint32), np.array([closing, *self.end], dtype=np.uint32)
        room = self.block_tokens - len(head) - len(tail)
        if room < 1:
            raise UserError(f"block_tokens={self.block_tokens}: too small for one letter of {encoder.alphabet.name}; use larger blocks")
        for first in range(0, max(len(ids), 1), room):
            part = ids[first : first + room]
            weighed = None if weights is None else _padded(weights[first : first + room], len(head), len(tail))
            yield Fragment(np.concatenate((head, part, tail)), int(encoder.letters_of[part].sum()), weighed)

    def _spoken(self, documents: list[Document], repeat_weight: float) -> Iterator[list[Fragment] | None]:
        """Fragments of documents in which words stand beside sequences, with the public tokenizer's ids.

        The tokenizer reads the words with empty spans between them, since no token reaches over a tag; the bulk encoders
        fill the spans.
        """
        parts = [document.parts for document in documents]
        outlines = ["".join(text if modality == "text" else f"<{modality}></{modality}>" for modality, text in of) for of in parts]
        encodings = self._backend.encode_batch(outlines, add_special_tokens=False)
        spans = {
            modality: iter(encoder.encode_many([letters for of in parts for name, letters in of if name == modality]))
            for modality, encoder in self._genes.items()
        }
        for document, of, outline, encoding in zip(documents, parts, outlines, encodings, strict=True):
            named = [modality for modality, _ in of if modality != "text"]
            inner = [next(spans[modality]) for modality in named]
            ids = np.array(encoding.ids, dtype=np.uint32)
            tags = [place for place in range(len(ids)) if self._special[ids[place]]]
            if ids[tags].tolist() != [tag for modality in named for tag in self._genes[modality].tags]:
                yield None  # the words spell a special token
                continue
            letters, whole = _bytes_of_tokens(outline, encoding.offsets)
            letters[tags] = 0
            if document.modality != "mixed":
                letters[:] = 0
            weights = np.ones(len(ids), dtype=np.float32)
            tokens = _Tokens(ids, letters, whole, weights, np.zeros(len(ids), dtype=np.uint32))
            for place, modality, pieces in reversed(list(zip(tags[1::2], named, inner, strict=True))):
                sizes = self._genes[modality].letters_of[pieces]
                weighed = _weights(document.repeats, sizes, repeat_weight) if document.repeats else np.ones(len(pieces), dtype=np.float32)
                tokens.insert(place, pieces, sizes, weighed, self._genes[modality].tags[0])
            yield list(self._cut_spoken(document, tokens))

    def _cut_spoken(self, document: Document, tokens: _Tokens) -> Iterator[Fragment]:
        """Cut between tokens, never inside a character nor beside a tag; a span that is cut is closed and opened again."""
        closing = dict(encoder.tags for encoder in self._genes.values())
        room, first, size = self.block_tokens - len(self.start) - len(self.end), 0, len(tokens.ids)
        while first < size:
            reopened = [int(tokens.within[first])] if tokens.within[first] else []
            cut = min(first + room - len(reopened), size)
            if cut < size and tokens.within[cut]:
                cut -= 1  # for the closing tag
            while first < cut < size and not tokens.may_cut[cut]:
                cut -= 1
            if cut == first:
                raise UserError(f"block_tokens={self.block_tokens}: too small for document {document.id}; use larger blocks")
            closed = [closing[int(tokens.within[cut])]] if cut < size and tokens.within[cut] else []
            head, tail = [*self.start, *reopened], [*closed, *self.end]
            ids = np.concatenate((np.array(head, dtype=np.uint32), tokens.ids[first:cut], np.array(tail, dtype=np.uint32)))
            weights = _padded(tokens.weights[first:cut], len(head), len(tail)) if document.repeats else None
            yield Fragment(ids, int(tokens.letters[first:cut].sum()), weights)
            first = cut

    def _cut(self, document: Document) -> Iterator[Fragment]:
        """Cut between tokens, never inside a character; letters are counted by the tokens' offsets in the text."""
        encoding: Encoding = self._backend.encode(document.wrapped, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        head, tail = list(self.start), list(self.end)
        first, last, begin, stop = 0, len(ids), 0, len(document.wrapped)
        if document.modality != "text":
            head.append(ids[0])
            tail.insert(0, ids[-1])
            first, last, begin, stop = 1, len(ids) - 1, offsets[0][1], offsets[-1][0]
        room = self.block_tokens - len(head) - len(tail)
        while first < last:
            cut = min(first + room, last)
            while first < cut < last and offsets[cut - 1][1] > offsets[cut][0]:  # the bytes of one character
                cut -= 1
            if cut == first:
                raise UserError(
                    f"block_tokens={self.block_tokens}: too small for one character of document {document.id}; use larger blocks"
                )
            upto = offsets[cut][0] if cut < last else stop
            piece = document.wrapped[begin:upto]
            letters = len(piece.encode()) if document.modality == "text" else len(piece)
            yield Fragment(np.array([*head, *ids[first:cut], *tail], dtype=np.uint32), letters)
            first, begin = cut, upto

    def _gene_encoders(self, modalities: list[str]) -> dict[str, GeneEncoder]:
        """The fast way, or nothing where sequences are not spelled in private alphabets: any tokenizer with tags can be packed."""
        try:
            return read_encoders(self._backend, modalities)
        except UserError as error:
            log.warning("%s: sequences are encoded slowly, by the tokenizer itself: %s", self.folder, error)
            return {}

    def _probe(self, alphabet: Alphabet) -> None:
        wrapped = alphabet.wrap(alphabet.letters)
        ids = self._backend.encode(wrapped, add_special_tokens=False).ids
        tags = [self._backend.token_to_id(tag) for tag in (alphabet.open_tag, alphabet.close_tag)]
        if None in tags or not ids or [ids[0], ids[-1]] != tags:
            raise UserError(
                f"{self.folder}: {alphabet.open_tag} and {alphabet.close_tag} are not single tokens, so this tokenizer is not "
                "extended; run `llama-gene tokenizer extend` and name its folder"
            )
        spelt = "".join(self._backend.decode(ids[1:-1], skip_special_tokens=False).split())
        if spelt != alphabet.letters:
            raise UserError(f"{self.folder}: {alphabet.name} letters do not survive the tokenizer: {alphabet.letters} came back as {spelt}")
