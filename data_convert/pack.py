"""Corpora -> packed token shards: `llama-gene convert pack`.

Blocks hold whole documents of one modality, packed best-fit-decreasing, then padded. Choose windows that fill a block
well: the padding share is in the manifest, and a share above a tenth is said aloud.
Not supported: corpora beyond memory. Letters of one source and all tokens (4 bytes each) stand in memory; pack larger
corpora as several runs over different files, each with its own output.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.errors import Ledger, UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from data_convert.blocks import write_blocks
from data_convert.corpus import read_documents
from data_convert.documents import Document, Duplicates, is_held_out, other_strand, split_text
from data_convert.encode import Encoder, Fragment
from data_convert.shards import SPLITS, STAGE, tokenizer_fingerprint
from tokenizer.readers import open_bytes

BATCH = 256
TEXT_CHARACTERS_PER_TOKEN = 3
"""English has about four; with three, most parts of a long text fit a block without being cut between paragraphs."""


class Source(Recipe):
    """Files of one modality."""

    modality: Literal["dna", "rna", "protein", "text"]
    files: list[Path] = Field(min_length=1)
    """FASTA, FASTQ, GenBank or plain lines for sequences, for proteins also UniProt's .dat, XML and TSV, by content;
    .txt, .jsonl or .md for text; all may be gz."""
    heldout_files: list[Path] = Field(default_factory=list)
    """Held-out documents come from these files; where none are given, from `files` by `heldout_share`."""
    heldout_share: float = Field(0.01, ge=0, lt=1)
    """Share of documents held out by a hash of their content. Unused with heldout_files."""
    window: int | None = Field(None, ge=1)
    """Letters per document; null takes whole records. For text: characters, cut between paragraphs; null: three per token of a block."""
    stride: int | None = Field(None, ge=1)
    """Letters between the starts of two windows; null: the window's length, no overlap."""
    max_n_share: float = Field(0.1, ge=0, le=1)
    """Documents with a larger share of unknown letters (N; X in proteins) are set aside."""
    both_strands: bool = False
    """DNA only: every training document also as its reverse complement."""
    max_tokens: int | None = Field(None, ge=1)
    """Training tokens of this source; documents are drawn in an order given by the seed until the next would not fit."""
    max_heldout_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if self.stride is not None and (self.window is None or self.modality == "text"):
            raise ValueError("stride needs a window, and sequences")
        if self.both_strands and self.modality != "dna":
            raise ValueError(f"both_strands is for dna, not for {self.modality}")
        overlap = self.stride is not None and self.window is not None and self.stride < self.window
        if overlap and self.heldout_share > 0 and not self.heldout_files:
            raise ValueError(
                "overlapping windows (stride < window) would stand in training and held-out data at once; "
                "give heldout_files, or heldout_share: 0, or stride >= window"
            )
        return self


class PackRecipe(Recipe):
    """Token shards for continued pre-training."""

    tokenizer: Path
    """Folder of an extended tokenizer."""
    out: Path
    block_tokens: int = Field(2048, ge=16)
    """Tokens per block; longer documents are cut and their tags re-opened."""
    sources: list[Source] = Field(min_length=1)
    seed: int = 0


def pack(recipe: PackRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `train/` and, where documents are held out, `heldout/` (format: shards.py). Returns the manifest's counts.

    The same recipe over the same files gives the same bytes.

    Raises:
        UserError: missing or unusable files, a tokenizer that was not extended, no training document left.
    """
    check_absent(recipe.out, overwrite)
    files = sorted({file for source in recipe.sources for file in [*source.files, *source.heldout_files]})
    for file in files:
        open_bytes(file).close()
    inputs = {"tokenizer": tokenizer_fingerprint(recipe.tokenizer), **{str(file): fingerprint(file) for file in files}}
    encoder = Encoder(recipe.tokenizer, {source.modality for source in recipe.sources}, recipe.block_tokens)
    fragments: dict[str, dict[str, list[Fragment]]] = {split: {} for split in SPLITS}
    duplicates, sources = Duplicates(), []
    for index, source in enumerate(recipe.sources):
        found, report = _read_source(source, duplicates)
        for split, limit in (("train", source.max_tokens), ("heldout", source.max_heldout_tokens)):
            candidates = _expand(found[split], source, recipe.block_tokens, split)
            order = np.random.default_rng([recipe.seed, index, SPLITS.index(split)]).permutation(len(candidates))
            taken, report[split] = _encode(encoder, [candidates[i] for i in order], limit, f"{source.modality} {split}")
            fragments[split].setdefault(source.modality, []).extend(taken)
        sources.append(report)
    if not any(fragments["train"].values()):
        raise UserError(f"{recipe.out}: no training document is left; lower heldout_share, or raise max_tokens or max_n_share")
    counts: dict[str, Any] = {"sources": sources}
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        for split in SPLITS:
            counts[split] = write_blocks(
                folder / split, fragments[split], recipe.block_tokens, encoder.pad, [recipe.seed, SPLITS.index(split)]
            )
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return counts


def _read_source(source: Source, duplicates: Duplicates) -> tuple[dict[str, list[Document]], dict[str, Any]]:
    """Documents of both sides. Held-out files come first, so that a duplicate is taken from the training side."""
    found: dict[str, list[Document]] = {split: [] for split in SPLITS}
    records: dict[str, Any] = {}
    ledger = Ledger()
    jobs = [(file, True) for file in source.heldout_files] + [(file, False) for file in source.files]
    for file, held_out in tqdm(jobs, desc=f"read {source.modality}", unit="file", disable=None):
        of_file = Ledger()
        for document in duplicates.drop(_read_file(source, file, of_file, ledger), ledger):
            hold = held_out or (not source.heldout_files and is_held_out(document, source.heldout_share))
            found["heldout" if hold else "train"].append(document)
        records[str(file)] = of_file.as_dict()
    return found, {"modality": source.modality, "records": records, "documents": ledger.as_dict()}


def _read_file(source: Source, file: Path, of_file: Ledger, ledger: Ledger) -> Iterator[Document]:
    return read_documents(
        source.modality, file, of_file, ledger, window=source.window, stride=source.stride, max_n_share=source.max_n_share
    )


def _expand(documents: list[Document], source: Source, block_tokens: int, split: str) -> list[Document]:
    """Long texts into parts; the other strand where it is asked for (training only: held-out loss needs one strand)."""
    if source.modality == "text":
        longest = source.window or TEXT_CHARACTERS_PER_TOKEN * block_tokens
        return [part for document in documents for part in split_text(document, longest)]
    if source.both_strands and split == "train":
        return [strand for document in documents for strand in (document, other_strand(document))]
    return documents


def _encode(encoder: Encoder, documents: list[Document], limit: int | None, name: str) -> tuple[list[Fragment], dict[str, Any]]:
    """Fragments of the documents that fit the budget, and the ledger."""
    taken: list[Fragment] = []
    ledger, tokens = Ledger(), 0

    def report() -> dict[str, Any]:
        return {**ledger.as_dict(), "left_out_by_budget": len(documents) - ledger.read}

    for start in tqdm(range(0, len(documents), BATCH), desc=f"encode {name}", unit=f"{BATCH} documents", disable=None):
        batch = documents[start : start + BATCH]
        for document, fragments in zip(batch, encoder.encode(batch), strict=True):
            size = sum(len(fragment.ids) for fragment in fragments or [])
            if limit is not None and tokens + size > limit:
                return taken, report()
            ledger.read += 1
            if fragments is None:
                ledger.reject("spells a special token of the tokenizer", document.id)
                continue
            ledger.written += 1
            tokens += size
            taken.extend(fragments)
    return taken, report()
