"""Documents -> token ids, by the plain tokenizer of a model folder, and cut to what a block can hold.

A sequence becomes [BOS] <tag> pieces </tag> EOS, a text [BOS] pieces EOS. A longer document becomes several fragments,
each complete in itself: the tags are opened and closed again, and no letter is lost.

Sequences, and text without tags, take the fast ways of tokenizer/encoders.py, which give the same ids.
"""

from __future__ import annotations

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
        for modality in sorted(modalities - {"text"}):
            self._probe(ALPHABETS[modality])
        self._genes = self._gene_encoders(sorted(modalities - {"text"}))
        self._words = read_word_encoder(self._backend) if "text" in modalities else None
        if "text" in modalities and self._words is None:
            log.warning("%s: text is encoded slowly, by the tokenizer itself: it is not known to keep words apart", folder)

    def encode(self, documents: list[Document]) -> list[list[Fragment] | None]:
        """Fragments of each document, in order; None for a text that spells one of the tokenizer's special tokens.

        Such a text would start or end a document, or open a sequence, in the middle of a sentence.
        """
        ids: dict[int, NDArray[np.uint32]] = {}
        fast: dict[str, Any] = self._genes if self._words is None else {**self._genes, "text": self._words}
        for modality, encoder in fast.items():
            mine = [place for place, document in enumerate(documents) if document.modality == modality]
            ids.update(zip(mine, encoder.encode_many([documents[place].letters for place in mine]), strict=True))
        mine = [place for place in range(len(documents)) if place not in ids]
        encodings = self._backend.encode_batch_fast([documents[place].wrapped for place in mine], add_special_tokens=False)
        ids.update((place, np.array(encoding.ids, dtype=np.uint32)) for place, encoding in zip(mine, encodings, strict=True))
        return [self._fragments(document, ids[place]) for place, document in enumerate(documents)]

    def _fragments(self, document: Document, ids: NDArray[np.uint32]) -> list[Fragment] | None:
        """Fragments from the ids of a document; for a modality in `_genes`, ids of its pieces without tags."""
        if document.modality in self._genes:
            return list(self._cut_sequence(self._genes[document.modality], ids))
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

    def _cut_sequence(self, encoder: GeneEncoder, ids: NDArray[np.uint32]) -> Iterator[Fragment]:
        opening, closing = encoder.tags
        head, tail = np.array([*self.start, opening], dtype=np.uint32), np.array([closing, *self.end], dtype=np.uint32)
        room = self.block_tokens - len(head) - len(tail)
        if room < 1:
            raise UserError(f"block_tokens={self.block_tokens}: too small for one letter of {encoder.alphabet.name}; use larger blocks")
        for first in range(0, max(len(ids), 1), room):
            part = ids[first : first + room]
            yield Fragment(np.concatenate((head, part, tail)), int(encoder.letters_of[part].sum()))

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
