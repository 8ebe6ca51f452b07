"""Documents for the packer: genome windows, proteins, texts; which are held out, which are duplicates.

A document is held out by a hash of its content, so the same content falls on the same side in every run and in every
file. Windows that overlap could stand on both sides, which is why the recipe refuses `stride < window` together with
a held-out share (pack.py).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from artefacts.errors import Ledger
from data_convert.corpus.pack_recipe import Source
from data_convert.corpus.regions import region_sequences
from data_convert.corpus.words import GENE, drawn, heading, mixed_documents, number_of
from sequences.alphabets import ALPHABETS, reverse_complement
from sequences.readers import Sequence, read_sequences
from sequences.texts import read_texts

SHIFTED = "left out to begin in another frame"
LARGEST_SHIFT = 5
"""Letters; with the place itself the six frames of a 6-mer."""
KINDS = {"dna": "genomic sequence", "rna": "RNA", "protein": "protein"}
"""What a sequence of a source without regions is called, in words."""
IN_LOWER_CASE = bytes(ord("1") if chr(byte).islower() and byte < 128 else ord("0") for byte in range(256))
SPAN = re.compile(r"<(dna|rna|protein)>([^<]*)</\1>")
PARAGRAPH = re.compile(r".+?(?:\n[^\S\n]*\n\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text or one sequence that attention must not leave."""

    id: str
    modality: str
    """dna, rna, protein, text or mixed."""
    letters: str
    """Bases, residues, or the text itself, in which sequences stand between their tags where it is mixed."""
    source: str = ""
    """The file it comes from, as the recipe names it."""
    words: str = ""
    """Said of a sequence, before it; no part of its content."""
    group: str = ""
    """What decides on which side it is, instead of its content: the gene that it is cut from, the protein that it is about."""
    repeats: bytes = b""
    """Of each letter whether it is marked as a repeat, 1 or 0; empty where all count alike."""
    names: str = ""
    """What it is called beside its id, which also names the record that it is a window of."""

    @property
    def wrapped(self) -> str:
        """As the tokenizer reads it: sequences between their tags."""
        if self.modality in ("text", "mixed"):
            return self.letters
        alphabet = ALPHABETS[self.modality]
        return f"{self.words}{alphabet.open_tag}{self.letters}{alphabet.close_tag}"

    @property
    def parts(self) -> list[tuple[str, str]]:
        """(modality, letters) of its words and sequences, in order; words stand before, between and behind, or are empty there."""
        if self.modality == "text":
            return [("text", self.letters)]
        if self.modality != "mixed":
            return [("text", self.words), (self.modality, self.letters), ("text", "")]
        cells = SPAN.split(self.letters)
        found = [("text", cells[0])]
        for kind, letters, text in zip(cells[1::3], cells[2::3], cells[3::3], strict=True):
            found += [(kind, letters), ("text", text)]
        return found

    @property
    def size(self) -> int:
        """Bases, residues, and UTF-8 bytes of text; not what is said before a sequence."""
        if self.modality == "mixed":
            return sum(len(letters.encode()) for _, letters in self.parts)
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

    def is_held_out(self, share: float, sha: bytes = b"") -> bool:
        """Whether it is among the held-out ones, with all others of its group. `sha`: its own, where that is known."""
        return is_held_out(hashlib.sha256(self.group.encode()).digest() if self.group else sha or self.sha, share)


def read_documents(
    source: Source,
    file: str | Path,
    records: Ledger,
    documents: Ledger,
    rejected: Counter[str] | None = None,
    *,
    annotation: Path | None = None,
    regions: Ledger | None = None,
    seed: int = 0,
) -> Iterator[Document]:
    """Documents of one file as its source in the recipe asks for them, each with modality, source and id.

    Args:
        records: counts what the file holds. documents: counts what becomes of it. regions: counts what is annotated.
        annotation: GFF3 or GTF of the file.
        rejected: letters of the sequence documents set aside, by reason, are added to it.

    Raises:
        UserError: see `read_texts`, `read_sequences`.
    """
    regions = Ledger() if regions is None else regions
    if source.modality == "mixed":
        for identity, names, group, mixed in mixed_documents(source, Path(file), records, regions, documents, seed):
            documents.read += 1
            documents.written += 1
            yield Document(identity, "mixed", mixed, str(file), group=group, names=names)
        return
    if source.modality != "text":
        if source.regions:
            sequences = region_sequences(source, Path(file), annotation, records, regions)
        else:
            sequences = read_sequences(file, ALPHABETS[source.modality], records, keep_case=source.keeps_case)
        yield from sequence_documents(sequences, source, documents, str(file), rejected, seed)
        return
    for text in read_texts(file, records, source.unit):  # `split_text` cuts long ones after they are held out: a text stays on one side
        documents.read += 1
        documents.written += 1
        yield Document(text.id, "text", text.text, str(file))


def sequence_documents(
    sequences: Iterable[Sequence],
    source: Source,
    ledger: Ledger,
    file: str = "",
    rejected: Counter[str] | None = None,
    seed: int = 0,
) -> Iterator[Document]:
    """One document per window, or per record where `window` is None. Ids are `name`, or `name:start-end` (0-based, end excluded).

    Nothing is lost where `stride <= window`: the last window of a record is as short as what is left. A window with more
    than `max_n_share` of N is set aside in `ledger` (proteins have no N: there the letter X counts), its letters in
    `rejected`; so are windows with more than `max_repeat_share` of lower case, as repeats are marked, but for a share
    `repeats_kept` of these, drawn by a hash of their content. A record without a capital letter marks nothing.
    A share of the documents, drawn by the seed, begins with species and kind in words. A share `shifted` of the sequences,
    drawn by the seed too, begins a few letters later; these letters are counted in `rejected`.
    """
    modality, window, most_unknown, most_repeats = source.modality, source.window, source.max_n_share, source.max_repeat_share
    described, weighted, keeps_case = source.described_share, source.weighted, source.keeps_case
    unknown = "X" if modality == "protein" else "N"
    for sequence in sequences:
        length = len(sequence.letters)
        size, step = window or length, source.stride or window or length
        whole, repeats = sequence.letters, b""
        if keeps_case:
            whole = sequence.letters.upper()
            marks = not sequence.letters.islower() or source.regions  # of a region its whole record decides
            repeats = sequence.letters.encode().translate(IN_LOWER_CASE) if marks else b""
        first = 0
        if source.shifted and length > LARGEST_SHIFT and drawn(source.shifted, seed, "shifted", sequence.id, whole):
            first = 1 + number_of(seed, "shift", sequence.id, whole) % LARGEST_SHIFT
            if rejected is not None:
                rejected[SHIFTED] += first
        for start in range(first, length, step):
            letters = whole[start : start + size]
            identity = sequence.id if window is None and not first else f"{sequence.id}:{start}-{start + len(letters)}"
            ledger.read += 1
            reason = ""
            if letters.count(unknown) > most_unknown * len(letters):
                reason = f"more than {most_unknown:g} of its letters are {unknown}"
            elif repeats.count(b"1", start, start + size) > most_repeats * len(letters) and not drawn(
                source.repeats_kept, "repeats", letters
            ):
                reason = f"more than {most_repeats:g} of its letters are marked as repeats"
            if reason:
                ledger.reject(reason, identity)
                if rejected is not None:
                    rejected[reason] += len(letters)
            else:
                ledger.written += 1
                words, marked = "", repeats[start : start + size] if weighted else b""
                if described and drawn(described, seed, "described", identity, letters):
                    organism, kind = source.species or sequence.organism, sequence.kind or KINDS[modality]
                    words = heading(organism, kind, seed, identity, letters)
                group = GENE.format(sequence.gene) if sequence.gene else ""
                yield Document(identity, modality, letters, file, words, group, marked, f"{sequence.id} {sequence.names}")
            if start + size >= length:
                break


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
    letters, repeats = reverse_complement(document.letters), document.repeats[::-1]
    return replace(document, id=f"{document.id}(-)", letters=letters, repeats=repeats)
