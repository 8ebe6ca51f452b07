"""Documents for the packer: genome windows, proteins, texts; which are held out, which are duplicates.

A document is held out by a hash of its content, so the same content falls on the same side in every run and in every
file. Windows that overlap could stand on both sides, which is why the recipe refuses `stride < window` together with
a held-out share (pack.py).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import Ledger
from data_convert.corpus.pack_recipe import Source
from sequences.alphabets import ALPHABETS, reverse_complement
from sequences.readers import Sequence, read_sequences
from sequences.texts import read_texts

IN_LOWER_CASE = bytes(ord("1") if chr(byte).islower() and byte < 128 else ord("0") for byte in range(256))
PARAGRAPH = re.compile(r".+?(?:\n[^\S\n]*\n\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text or one sequence that attention must not leave."""

    id: str
    modality: str
    """dna, rna, protein or text."""
    letters: str
    """Bases, residues, or the text itself."""
    source: str = ""
    """The file it comes from, as the recipe names it."""

    @property
    def wrapped(self) -> str:
        """As the tokenizer reads it: sequences between their tags."""
        if self.modality == "text":
            return self.letters
        alphabet = ALPHABETS[self.modality]
        return f"{alphabet.open_tag}{self.letters}{alphabet.close_tag}"

    @property
    def size(self) -> int:
        """Bases, residues, or UTF-8 bytes of text."""
        return len(self.letters.encode()) if self.modality == "text" else len(self.letters)

    @property
    def key(self) -> str:
        """What makes two documents the same: the content; for DNA on either strand."""
        if self.modality != "dna":
            return f"{self.modality}:{self.letters}"
        return f"dna:{min(self.letters, reverse_complement(self.letters))}"

    @property
    def sha(self) -> bytes:
        """SHA-256 of the key."""
        return hashlib.sha256(self.key.encode()).digest()


def read_documents(
    source: Source, file: str | Path, records: Ledger, documents: Ledger, rejected: Counter[str] | None = None
) -> Iterator[Document]:
    """Documents of one file as its source in the recipe asks for them, each with modality, source and id.

    Args:
        records: counts what the file holds. documents: counts what becomes of it.
        rejected: letters of the sequence documents set aside, by reason, are added to it.

    Raises:
        UserError: see `read_texts`, `read_sequences`.
    """
    if source.modality != "text":
        sequences = read_sequences(file, ALPHABETS[source.modality], records, keep_case=source.max_repeat_share < 1)
        yield from sequence_documents(sequences, source, documents, str(file), rejected)
        return
    for text in read_texts(file, records, source.unit):  # `split_text` cuts long ones after they are held out: a text stays on one side
        documents.read += 1
        documents.written += 1
        yield Document(text.id, "text", text.text, str(file))


def sequence_documents(
    sequences: Iterable[Sequence], source: Source, ledger: Ledger, file: str = "", rejected: Counter[str] | None = None
) -> Iterator[Document]:
    """One document per window, or per record where `window` is None. Ids are `name`, or `name:start-end` (0-based, end excluded).

    Nothing is lost where `stride <= window`: the last window of a record is as short as what is left. A window with more
    than `max_n_share` of N is set aside in `ledger` (proteins have no N: there the letter X counts), its letters in
    `rejected`; so are windows with more than `max_repeat_share` of lower case, as repeats are marked, but for a share
    `repeats_kept` of these, drawn by a hash of their content. A record without a capital letter marks nothing.
    """
    modality, window, most_unknown, most_repeats = source.modality, source.window, source.max_n_share, source.max_repeat_share
    unknown = "X" if modality == "protein" else "N"
    for sequence in sequences:
        length = len(sequence.letters)
        size, step = window or length, source.stride or window or length
        whole, repeats = sequence.letters, b""
        if most_repeats < 1:  # only then the file's own case was kept
            whole = sequence.letters.upper()
            repeats = b"" if sequence.letters.islower() else sequence.letters.encode().translate(IN_LOWER_CASE)
        for start in range(0, length, step):
            letters = whole[start : start + size]
            identity = sequence.id if window is None else f"{sequence.id}:{start}-{start + len(letters)}"
            ledger.read += 1
            reason = ""
            if letters.count(unknown) > most_unknown * len(letters):
                reason = f"more than {most_unknown:g} of its letters are {unknown}"
            elif repeats.count(b"1", start, start + size) > most_repeats * len(letters) and not _drawn(letters, source.repeats_kept):
                reason = f"more than {most_repeats:g} of its letters are marked as repeats"
            if reason:
                ledger.reject(reason, identity)
                if rejected is not None:
                    rejected[reason] += len(letters)
            else:
                ledger.written += 1
                yield Document(identity, modality, letters, file)
            if start + size >= length:
                break


def _drawn(letters: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(f"repeats:{letters}".encode()).digest()[:8]) < share * 2**64


def split_text(document: Document, longest: int) -> Iterator[Document]:
    """Cut a text between paragraphs into parts of at most `longest` characters; a single longer paragraph stays whole.

    The parts put together are the text, blank lines included.
    """
    if len(document.letters) <= longest:
        yield document
        return
    parts = [""]
    for paragraph in PARAGRAPH.findall(document.letters):
        if parts[-1] and len(parts[-1]) + len(paragraph) > longest:
            parts.append("")
        parts[-1] += paragraph
    for number, part in enumerate(parts, 1):
        yield Document(f"{document.id}#{number}", "text", part, document.source)


def is_held_out(sha: bytes, share: float) -> bool:
    """True for about `share` of all documents, by the SHA-256 of their content: stable across runs, machines and file order."""
    return int.from_bytes(sha[:8]) < share * 2**64


def other_strand(document: Document) -> Document:
    """The reverse complement of a DNA document; its id ends in `(-)`."""
    return Document(f"{document.id}(-)", document.modality, reverse_complement(document.letters), document.source)
