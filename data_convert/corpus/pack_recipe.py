"""The recipe of a corpus: which files, how they become documents, how much of each is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from data_convert.corpus.crew import Engine
from sequences.markdown import Unit

Regions = Literal["genes", "transcripts", "cds", "promoters", "intergenic"]


class Source(Recipe):
    """Files of one modality."""

    modality: Literal["dna", "rna", "protein", "text", "mixed"]
    files: list[Path] = Field(min_length=1)
    """FASTA, FASTQ, GenBank, tables with a column `sequence` or one sequence a line, for proteins also UniProt's flat file, XML
    and TSV, by content; .txt, .jsonl or .md for text; GenBank, UniProt or .jsonl for mixed; all may be gz."""
    heldout_files: list[Path] = Field(default_factory=list)
    """Held-out documents come from these files; where none are given, from `files` by `heldout_share`."""
    regions: Regions | None = None
    """DNA (transcripts and cds: RNA too): what is cut out by the annotation, each on its own strand, instead of whole sequences."""
    annotations: list[Path] = Field(default_factory=list)
    """GFF3 or GTF of each of `files`, in their order; GenBank needs none."""
    heldout_annotations: list[Path] = Field(default_factory=list)
    upstream: int = Field(0, ge=0)
    """Letters before genes, or of promoters before the gene's first letter."""
    downstream: int = Field(0, ge=0)
    """Letters behind genes, or of promoters from the gene's first letter on."""
    longest: int | None = Field(None, ge=1)
    """Regions with more letters are set aside."""
    shortest: int = Field(1, ge=1)
    """Regions with fewer letters are set aside."""
    isoforms: Literal["longest", "all"] = "longest"
    """Transcripts and coding sequences: one of each gene, or all."""
    pseudogenes: bool = False
    """Whether they count as genes."""
    species: str | None = None
    """What the sequences are from; GenBank says it itself."""
    described: float = Field(0.5, ge=0, le=1)
    """Share of the documents, drawn by the seed, that begin with species and kind in words; for sources with regions or a species."""
    shifted: float = Field(0, ge=0, le=1)
    """Sequences: share of the records or regions, drawn by the seed, that begin 1 to 5 letters later, so that k-mers meet every frame."""
    repeat_weight: float | None = Field(None, ge=0, le=1)
    """DNA: how much a lower-case letter, as soft-masked genomes mark repeats, counts in the loss; null: 0.1 with regions, else 1."""
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
    near_duplicates: float | None = Field(None, gt=0, le=1)
    """Documents of which at least this share stands in documents of this source before them are dropped; null: exact copies alone."""
    both_strands: bool = False
    """DNA only: every training document also as its reverse complement."""
    max_tokens: int | None = Field(None, ge=1)
    """Training tokens of this source; documents are drawn in an order given by the seed until the next would not fit."""
    max_heldout_tokens: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0)
    """Weight of this source in the training tokens; what counts is its part in the sum over all sources."""
    max_repeats: int = Field(1, ge=1)
    """How often a document may stand in the training data, where its source has fewer tokens than its share or max_tokens asks for."""

    @property
    def weighted(self) -> bool:
        """Whether its letters count unequally in the loss."""
        return self.modality == "dna" and self.weight_of_repeats < 1

    @property
    def weight_of_repeats(self) -> float:
        return self.repeat_weight if self.repeat_weight is not None else 0.1 if self.regions else 1.0

    @property
    def keeps_case(self) -> bool:
        """Whether lower case is read, which marks repeats."""
        return self.max_repeat_share < 1 or self.weighted

    @property
    def described_share(self) -> float:
        """Share of the documents that begin with words."""
        return self.described if self.modality != "mixed" and (self.regions or self.species) else 0.0

    @property
    def spoken(self) -> bool:
        """Whether words stand beside sequences in some of its documents, drawn by the seed."""
        return self.modality == "mixed" or self.described_share > 0

    def all_files(self) -> list[tuple[bool, Path, Path | None]]:
        """(held out, file, its annotation) of every file, held-out ones first."""
        sides = (True, self.heldout_files, self.heldout_annotations), (False, self.files, self.annotations)
        return [(held_out, file, noted[place] if noted else None) for held_out, files, noted in sides for place, file in enumerate(files)]

    @model_validator(mode="after")
    def _regions_fit(self) -> Source:
        if self.regions and self.modality != "dna" and (self.modality != "rna" or self.regions not in ("transcripts", "cds")):
            raise ValueError(f"regions: {self.regions} is for dna, transcripts and cds also for rna; not for {self.modality}")
        if self.regions and self.both_strands:
            raise ValueError("regions are read on their own strand; leave both_strands out")
        if (self.upstream or self.downstream) and self.regions not in ("genes", "promoters"):
            raise ValueError("upstream and downstream are for regions: genes or promoters")
        if self.regions == "promoters" and not self.upstream:
            raise ValueError("promoters need upstream, such as 1000 letters")
        for name, noted, files in (
            ("annotations", self.annotations, self.files),
            ("heldout_annotations", self.heldout_annotations, self.heldout_files),
        ):
            if noted and (not self.regions or len(noted) != len(files)):
                raise ValueError(f"{name} belong to regions, one to each of its files: {len(noted)} for {len(files)} files")
        if self.repeat_weight is not None and self.modality != "dna":
            raise ValueError(f"repeat_weight is for dna, not for {self.modality}")
        if self.species and self.modality in ("text", "mixed"):
            raise ValueError(f"species is for sequences, not for {self.modality}")
        if self.shifted and self.modality in ("text", "mixed"):
            raise ValueError(f"shifted is for sequences, not for {self.modality}")
        if self.modality == "mixed" and (self.window or self.max_n_share != 0.1):
            raise ValueError("mixed documents are whole: window and max_n_share are for sequences")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if self.stride is not None and (self.window is None or self.modality == "text"):
            raise ValueError("stride needs a window, and sequences")
        if self.both_strands and self.modality != "dna":
            raise ValueError(f"both_strands is for dna, not for {self.modality}")
        if self.max_repeat_share < 1 and self.modality != "dna":
            raise ValueError(f"max_repeat_share is for dna, not for {self.modality}")
        overlap = self.stride is not None and self.window is not None and self.stride < self.window
        if overlap and self.near_duplicates is not None:
            raise ValueError("overlapping windows (stride < window) are near duplicates of each other; leave near_duplicates out")
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
    engine: Engine = "local"
    """Who runs them: processes of this machine; Ray, on the cluster that RAY_ADDRESS names, else on one of this machine; datatrove's
    local executor. Same output."""
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
