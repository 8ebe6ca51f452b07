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
from sequences.alphabets import ALPHABETS, reverse_complement
from sequences.markdown import Unit
from sequences.readers import Sequence, read_sequences
from sequences.texts import Text, read_texts

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


def read_documents(
    modality: str,
    file: str | Path,
    records: Ledger,
    documents: Ledger,
    *,
    window: int | None = None,
    stride: int | None = None,
    max_n_share: float = 1.0,
    max_repeat_share: float = 1.0,
    repeats_kept: float = 0.0,
    unit: Unit = "document",
    rejected: Counter[str] | None = None,
) -> Iterator[Document]:
    """Documents of one file, each with modality, source and id.

    Args:
        modality: dna, rna, protein or text.
        records: counts what the file holds. documents: counts what becomes of it.
        window, stride, max_n_share, max_repeat_share, repeats_kept: see `sequence_documents`; without meaning for text.
        unit: text only: one document per text, section or paragraph.
        rejected: letters of the sequence documents set aside, by reason, are added to it.

    Raises:
        UserError: see `read_texts`, `read_sequences`.
    """
    if modality == "text":
        return text_documents(read_texts(file, records, unit), documents, str(file))
    return sequence_documents(
        read_sequences(file, ALPHABETS[modality], records, keep_case=max_repeat_share < 1), modality, documents, window=window,
        stride=stride, max_n_share=max_n_share, max_repeat_share=max_repeat_share, repeats_kept=repeats_kept, source=str(file),
        rejected=rejected,
    )  # fmt: skip


def sequence_documents(
    sequences: Iterable[Sequence],
    modality: str,
    ledger: Ledger,
    *,
    window: int | None = None,
    stride: int | None = None,
    max_n_share: float = 1.0,
    max_repeat_share: float = 1.0,
    repeats_kept: float = 0.0,
    source: str = "",
    rejected: Counter[str] | None = None,
) -> Iterator[Document]:
    """One document per window, or per record where `window` is None. Ids are `name`, or `name:start-end` (0-based, end excluded).

    Nothing is lost where `stride <= window`: the last window of a record is as short as what is left. A window with more
    than `max_n_share` of N is set aside in `ledger` (proteins have no N: there the letter X counts), its letters in
    `rejected`; so are windows with more than `max_repeat_share` of lower case, as repeats are marked, but for a share
    `repeats_kept` of these, drawn by a hash of their content. A record without a capital letter marks nothing.
    """
    unknown = "X" if modality == "protein" else "N"
    for sequence in sequences:
        length = len(sequence.letters)
        size, step = window or length, stride or window or length
        whole, repeats = sequence.letters, b""
        if max_repeat_share < 1:  # only then the file's own case was kept
            whole = sequence.letters.upper()
            repeats = b"" if sequence.letters.islower() else sequence.letters.encode().translate(IN_LOWER_CASE)
        for start in range(0, length, step):
            letters = whole[start : start + size]
            identity = sequence.id if window is None else f"{sequence.id}:{start}-{start + len(letters)}"
            ledger.read += 1
            reason = ""
            if letters.count(unknown) > max_n_share * len(letters):
                reason = f"more than {max_n_share:g} of its letters are {unknown}"
            elif repeats.count(b"1", start, start + size) > max_repeat_share * len(letters) and not _drawn(letters, repeats_kept):
                reason = f"more than {max_repeat_share:g} of its letters are marked as repeats"
            if reason:
                ledger.reject(reason, identity)
                if rejected is not None:
                    rejected[reason] += len(letters)
            else:
                ledger.written += 1
                yield Document(identity, modality, letters, source)
            if start + size >= length:
                break


def _drawn(letters: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(f"repeats:{letters}".encode()).digest()[:8]) < share * 2**64


def text_documents(texts: Iterable[Text], ledger: Ledger, source: str = "") -> Iterator[Document]:
    """One document per text; `split_text` cuts long ones after they are held out, so that a text stays on one side."""
    for text in texts:
        ledger.read += 1
        ledger.written += 1
        yield Document(text.id, "text", text.text, source)


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


def is_held_out(document: Document, share: float) -> bool:
    """True for about `share` of all documents, by SHA-256 of the content: stable across runs, machines and file order."""
    return held_out_by(hashlib.sha256(document.key.encode()).digest(), share)


def held_out_by(sha: bytes, share: float) -> bool:
    """The same by the hash itself, for those who need it for more."""
    return int.from_bytes(sha[:8]) < share * 2**64


def other_strand(document: Document) -> Document:
    """The reverse complement of a DNA document; its id ends in `(-)`."""
    return Document(f"{document.id}(-)", document.modality, reverse_complement(document.letters), document.source)
