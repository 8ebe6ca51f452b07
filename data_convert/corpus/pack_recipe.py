"""The recipe of a corpus: which files, how they become documents, how much of each is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from sequences.markdown import Unit


class Source(Recipe):
    """Files of one modality."""

    modality: Literal["dna", "rna", "protein", "text"]
    files: list[Path] = Field(min_length=1)
    """FASTA, FASTQ, GenBank, tables with a column `sequence` or one sequence a line, for proteins also UniProt's flat file, XML
    and TSV, by content; .txt, .jsonl or .md for text; all may be gz."""
    heldout_files: list[Path] = Field(default_factory=list)
    """Held-out documents come from these files; where none are given, from `files` by `heldout_share`."""
    heldout_share: float = Field(0.01, ge=0, lt=1)
    """Share of documents held out by a hash of their content. Unused with heldout_files."""
    window: int | None = Field(None, ge=1)
    """Letters per document; null takes whole records. For text: characters, cut between paragraphs; null:
    whole texts, cut where a block is full, between paragraphs if one ends in the block's last quarter."""
    stride: int | None = Field(None, ge=1)
    """Letters between the starts of two windows; null: the window's length, no overlap."""
    unit: Unit = "document"
    """Text only: one document per text, per section or per paragraph."""
    max_n_share: float = Field(0.1, ge=0, le=1)
    """Documents with a larger share of unknown letters (N; X in proteins) are set aside."""
    max_repeat_share: float = Field(1, ge=0, le=1)
    """DNA only: documents with a larger share of lower-case letters, as soft-masked genomes mark repeats, are set aside."""
    repeats_kept: float = Field(0, ge=0, le=1)
    """Share of those that are kept all the same, drawn by their content."""
    both_strands: bool = False
    """DNA only: every training document also as its reverse complement."""
    max_tokens: int | None = Field(None, ge=1)
    """Training tokens of this source; documents are drawn in an order given by the seed until the next would not fit."""
    max_heldout_tokens: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0)
    """Weight of this source in the training tokens; what counts is its part in the sum over all sources."""
    max_repeats: int = Field(1, ge=1)
    """How often a document may stand in the training data, where its source has fewer tokens than its share or max_tokens asks for."""

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if self.stride is not None and (self.window is None or self.modality == "text"):
            raise ValueError("stride needs a window, and sequences")
        if self.both_strands and self.modality != "dna":
            raise ValueError(f"both_strands is for dna, not for {self.modality}")
        if self.max_repeat_share < 1 and self.modality != "dna":
            raise ValueError(f"max_repeat_share is for dna, not for {self.modality}")
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
    total_tokens: int | None = Field(None, ge=1)
    """Training tokens of all sources by their shares; null: as many as the shares and max_repeats allow."""
    exclude: list[Path] = Field(default_factory=list)
    """Files of benchmark sequences (FASTA, CSV, TSV, or records of `convert tasks`): documents that contain one are dropped."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of a file's records that may be broken and set aside; more stop the run. What a recipe leaves out does not count."""
    seed: int = 0
    shard_blocks: int = Field(4096, ge=1)
    """Blocks per shard. Memory grows with it."""
    part_bytes: int = Field(64 << 20, ge=1)
    """Plain files are cut into parts of about so many bytes, between records; gz, FASTQ and GenBank files stay whole."""
    workers: int | None = Field(None, ge=1)
    """Processes; null: one per core, or one alone for small corpora. The output is the same for any number."""
    part: str | None = Field(None, pattern=r"^(\d+/\d+|merge)$")
    """K/N: convert only the K-th of N shares of the files and stop, as one task of an array. merge: all is converted, make the shards."""
    verify: bool = False
    """Afterwards decode all shards and compare every document with the files."""

    @model_validator(mode="after")
    def _fits_together(self) -> PackRecipe:
        shares = [source.share is not None for source in self.sources]
        if any(shares) and not all(shares):
            raise ValueError("give every source a share, or none")
        if self.total_tokens is not None and not all(shares):
            raise ValueError("total_tokens needs a share for every source; use max_tokens for single sources")
        if self.part not in (None, "merge"):
            index, of = self.share_of_parts
            if not 1 <= index <= of:
                raise ValueError(f"part {self.part}: K runs from 1 to N")
        return self

    @property
    def share_of_parts(self) -> tuple[int, int]:
        """(K, N), of `part`; (1, 1) where it is not given."""
        if self.part is None or self.part == "merge":
            return 1, 1
        index, of = self.part.split("/")
        return int(index), int(of)
