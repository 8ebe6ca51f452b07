"""One part of a corpus -> token files, atomically: what a worker does.

A part's folder holds
- `tokens`: ids of all fragments, one after another, uint32; `weights`: how much each counts in the loss, float32, where the
  source weighs repeats, else empty;
- `fragments`: one row (FRAGMENT) each, in the order of the documents;
- `pieces`: one row (PIECE) each. A document is one piece; a long text is several, and a strand is a piece of its own;
- `ids`: the pieces' ids, one a line;
- `sketches`, `sketch_sizes`: where near duplicates are sought, kept stretches of all documents (uint64), and how many are
  whose (uint32); else absent;
- `set_aside.tsv`: places and reasons of records and documents that were set aside;
- `counts.json`: the part's key, ledgers (records of the file, regions of its annotation, documents made of them), and the
  letters of rejected documents.
Held-out documents are marked, not set apart; duplicates and budgets concern all parts and come later (choose.py).
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import SET_ASIDE, Ledger, UserError
from artefacts.folder import new_folder, seal, sound
from data_convert.corpus.documents import Document, other_strand, read_documents, split_text
from data_convert.corpus.encode import Encoder
from data_convert.corpus.exclude import HOLDS, NAMED, read_excluded
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.plan import Part, content, content_hash
from data_convert.corpus.shards import COUNTS
from data_convert.corpus.sketch import sketches
from sequences.accessions import accessions

T = TypeVar("T")
PIECE = np.dtype([("digest", "<u8"), ("tokens", "<u8"), ("first", "<u8"), ("letters", "<u8"), ("fragments", "<u4"), ("flags", "<u4")])
"""The document's digest; tokens; number of its first fragment in the part; bases, residues or bytes; how many fragments."""
HELD_OUT, BEGINS, SPECIAL = 1, 2, 4
"""Flags of a piece: held out; the first of its document; spells a special token, so that it has no fragments."""
FRAGMENT = np.dtype(
    [("start", "<u8"), ("id", "<u8"), ("tokens", "<u4"), ("letters", "<u4"), ("piece", "<u4"), ("turn", "<u4"), ("id_bytes", "<u4")]
)
"""Where its tokens start, and in `ids` the id of its piece; tokens; bases, residues or bytes; number of its piece in the part,
and its place in the piece; bytes of the id."""
SKETCHES = ("sketches", "sketch_sizes")
LINE = re.compile(r"^line\d+")
"""How readers call a record without a name."""
BATCH_LETTERS = 1 << 20
"""Letters encoded and written at once: large enough to cost nothing, small enough to need little memory."""


def convert_part(job: tuple[PackRecipe, Part, Path]) -> None:
    """Convert one part into a folder, replacing what is there.

    Raises:
        UserError: an unusable file, or not one usable record in a whole one.
    """
    recipe, part, folder = job
    shutil.rmtree(folder, ignore_errors=True)  # of another key, or damaged
    with new_folder(folder) as temporary:
        _convert(recipe, part, temporary)
        seal(temporary)


def _convert(recipe: PackRecipe, part: Part, folder: Path) -> None:
    source = recipe.sources[part.source]
    encoder = _encoder(recipe.tokenizer, tuple(sorted({source.modality for source in recipe.sources})), recipe.block_tokens)
    # of a range of a file the share of broken records tells nothing: choose.py sees all of them
    records, documents, letters = Ledger(recipe.max_broken if part.whole else 1.0), Ledger(), Counter[str]()
    regions = Ledger(recipe.max_broken)
    with content(part, folder) as file:
        found = _documents(recipe, part, file, records, regions, documents, letters)
        if recipe.exclude:
            found = _without(found, recipe, documents, letters)
        if not part.whole:
            found = _named(found, part)
        with ExitStack() as stack:
            names = ("tokens", "pieces", "fragments", "ids", "weights")
            tokens, pieces, cuts, ids, weights = (stack.enter_context((folder / name).open("wb", buffering=1 << 20)) for name in names)
            writer = Writer(tokens, cuts, pieces, ids, weights if source.weighted else None)
            if source.near_duplicates is not None:
                found = _sketched(found, *(stack.enter_context((folder / name).open("wb")) for name in SKETCHES))
            for batch in _batches(_pieces(found, part, source), lambda piece: piece[0]):
                fragments = encoder.encode([piece for piece, _, _ in batch], source.weight_of_repeats)
                for (piece, digest, flags), of_piece in zip(batch, fragments, strict=True):
                    writer.add(piece, digest, flags, of_piece)
        aside = [
            f"{_placed(place, file, part)}\t{reason}\n" for ledger in (records, regions, documents) for place, reason in ledger.listed()
        ]
        (folder / SET_ASIDE).write_text("".join(aside), encoding="utf-8")
        records.examples = {reason: [_placed(place, file, part) for place in places] for reason, places in records.examples.items()}
        counts = {
            "records": records.as_dict(),
            "regions": regions.as_dict(),
            "documents": documents.as_dict(),
            "letters": letters,
            "sha256": content_hash(file),
            "pieces": writer.pieces,
            "fragments": writer.fragments,
            "tokens": writer.tokens,
        }
        (folder / COUNTS).write_text(json.dumps({"key": part.key, **counts}, indent=1) + "\n", encoding="utf-8")


def finished(folder: Path, part: Part) -> bool:
    """Whether the folder holds this very part, undamaged."""
    return sound(folder) and json.loads((folder / COUNTS).read_text(encoding="utf-8"))["key"] == part.key


@lru_cache(maxsize=1)
def _encoder(folder: Path, modalities: tuple[str, ...], block_tokens: int) -> Encoder:
    return Encoder(folder, set(modalities), block_tokens)


def check_encoder(recipe: PackRecipe) -> Encoder:
    """The recipe's encoder. Raises UserError for an unusable tokenizer (see `Encoder`)."""
    _encoder.cache_clear()  # the folder may hold another tokenizer than before
    encoder = _encoder(recipe.tokenizer, tuple(sorted({source.modality for source in recipe.sources})), recipe.block_tokens)
    if any(source.weighted or source.spoken for source in recipe.sources):
        encoder.check_spoken()
    return encoder


def _documents(
    recipe: PackRecipe, part: Part, file: Path, records: Ledger, regions: Ledger, documents: Ledger, letters: Counter[str]
) -> Iterator[Document]:
    source, annotation, seed = recipe.sources[part.source], part.annotation, recipe.seed
    try:
        yield from read_documents(source, file, records, documents, letters, annotation=annotation, regions=regions, seed=seed)
    except UserError:
        if part.whole or records.written:
            raise
        # a range without one usable record is no error; a file without one is, which only all of its parts can tell


def _without(found: Iterator[Document], recipe: PackRecipe, ledger: Ledger, letters: Counter[str]) -> Iterator[Document]:
    """The documents that contain no benchmark sequence and are not called as a benchmark record is."""
    excluded, _, names = read_excluded(tuple(recipe.exclude), recipe.max_broken)
    for batch in _batches(found, lambda document: document):
        held = set[int]()
        parts = [(place, kind, part) for place, document in enumerate(batch) for kind, part in document.parts if kind in excluded]
        for kind in {kind for _, kind, _ in parts}:
            mine = [(place, part) for place, name, part in parts if name == kind]
            held |= {place for (place, _), holds in zip(mine, excluded[kind].held_by([one for _, one in mine]), strict=True) if holds}
        for place, document in enumerate(batch):
            named = bool(names) and not names.isdisjoint(accessions(f"{document.id} {document.names}"))
            if reason := HOLDS if place in held else NAMED if named else "":
                ledger.written -= 1
                ledger.reject(reason, document.id)
                letters[reason] += document.size
            else:
                yield document


def _sketched(found: Iterator[Document], hashes: BinaryIO, sizes: BinaryIO) -> Iterator[Document]:
    """The same documents; their kept stretches are written."""
    for batch in _batches(found, lambda document: document):
        kept, of_each = sketches(batch)
        hashes.write(kept.astype("<u8").tobytes())
        sizes.write(of_each.astype("<u4").tobytes())
        yield from batch


def _named(found: Iterator[Document], part: Part) -> Iterator[Document]:
    """The file as the recipe names it, not the copy of the range that was read; ids that count the range's lines say so."""
    for document in found:
        identity = LINE.sub(rf"\g<0>@{part.start}", document.id) if part.start else document.id
        yield replace(document, id=identity, source=str(part.file))


def pieces_of(document: Document, source: Source, held_out: bool) -> Iterator[Document]:
    """Long texts in pieces; the other strand where it is asked for, in training only: held-out loss needs one strand."""
    if source.modality == "text":
        yield from split_text(document, source.window) if source.window else [document]
        return
    yield document
    if source.both_strands and not held_out:
        yield other_strand(document)


def _pieces(found: Iterator[Document], part: Part, source: Source) -> Iterator[tuple[Document, int, int]]:
    """(piece, its document's digest, flags)."""
    for document in found:
        sha = document.sha
        held_out = part.held_out or (not source.heldout_files and document.is_held_out(source.heldout_share, sha))
        flags = BEGINS | (HELD_OUT if held_out else 0)
        for piece in pieces_of(document, source, held_out):
            yield piece, int.from_bytes(sha[8:16]), flags
            flags &= ~BEGINS


def _batches(items: Iterator[T], document_of: Callable[[T], Document]) -> Iterator[list[T]]:
    """Items one after the other, of about BATCH_LETTERS together."""
    batch, size = list[T](), 0
    for item in items:
        batch.append(item)
        size += len(document_of(item).letters)
        if size >= BATCH_LETTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Writer:
    """Appends pieces to a part's files."""

    def __init__(self, tokens: BinaryIO, fragments: BinaryIO, pieces: BinaryIO, ids: BinaryIO, weights: BinaryIO | None) -> None:
        self._tokens, self._fragments, self._pieces, self._ids, self._weights = tokens, fragments, pieces, ids, weights
        self.pieces = self.fragments = self.tokens = 0
        self._id_at = 0

    def add(self, piece: Document, digest: int, flags: int, fragments: list[Any] | None) -> None:
        """`fragments` are None for a text that spells a special token."""
        rows, start = [], self.tokens
        identity = piece.id.replace("\n", " ").encode()
        for turn, fragment in enumerate(fragments or []):
            rows.append((self.tokens, self._id_at, len(fragment.ids), fragment.letters, self.pieces, turn, len(identity)))
            self.tokens += len(fragment.ids)
            self._tokens.write(fragment.ids.astype("<u4", copy=False).data)
            if self._weights is not None:
                weights = np.ones(len(fragment.ids)) if fragment.weights is None else fragment.weights
                self._weights.write(weights.astype("<f4").data)
        self._fragments.write(np.array(rows, dtype=FRAGMENT).tobytes())
        flags |= SPECIAL if fragments is None else 0
        row = (digest, self.tokens - start, self.fragments, piece.size, len(rows), flags)
        self._pieces.write(np.array([row], dtype=PIECE).tobytes())
        self._ids.write(identity + b"\n")
        self._id_at += len(identity) + 1
        self.pieces += 1
        self.fragments += len(rows)


def read_rows(folder: Path, name: str) -> NDArray[np.void]:
    """All rows of `pieces` or `fragments` of a part."""
    return np.fromfile(folder / name, dtype=PIECE if name == "pieces" else FRAGMENT)


def _placed(place: str, file: Path, part: Part) -> str:
    """A place in the file itself, and from where its lines are counted, instead of one in the copy of a range."""
    return place if part.whole else place.replace(str(file), f"{part.file}[from byte {part.start}]")
