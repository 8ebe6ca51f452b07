"""Recipe of `baseline embed`; fields have the original's names where it has one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe

RELEASED = {
    ("lucaone", 36000000): "LucaGroup/LucaOne-default-step36M",
    ("lucaone", 17600000): "LucaGroup/LucaOne-default-step17.6M",
    ("lucaone", 5600000): "LucaGroup/LucaOne-default-step5.6M",
    ("lucaone-gene", 36800000): "LucaGroup/LucaOne-gene-step36.8M",
    ("lucaone-prot", 38200000): "LucaGroup/LucaOne-prot-step38.2M",
}
"""(version, step) -> hub id."""
DEFAULT_STEP = {"lucaone": 36000000, "lucaone-gene": 36800000, "lucaone-prot": 38200000}


class EncoderUse(Recipe):
    """Where and how an encoder runs."""

    gpu_id: int | None = None
    """-1: the CPU; without it a GPU where there is one."""
    use_bf16: bool = False
    """Of the encoder; a head on it is trained in float32."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a batch, padding included; null: 8192 on a GPU, 1024 on the CPU, whose caches hold no more."""


class Windows(Recipe):
    """What becomes of sequences that are longer than one pass; the fields have upstream's names."""

    trunc_type: Literal["right", "left"] = "right"
    """right keeps the first letters, left the last; also the end where windows begin."""
    embedding_complete: bool = False
    """Embed every letter of a longer sequence, in windows where it must be, and cut the rows afterwards; else the letters are cut."""
    embedding_complete_seg_overlap: bool = False
    """Let windows overlap by half."""
    embedding_fixed_len_a_time: int | None = Field(default=None, ge=1)
    """Tokens of a window; null: as long as the sequence, the encoder and memory allow."""


class Extent(Windows):
    """How much of a sequence is embedded, and in which pieces."""

    truncation_seq_length: int | None = Field(default=4094, ge=1)
    """Letters kept, special tokens not counted; null: all of them."""

    def truncate(self, letters: str) -> str:
        """The letters that are embedded."""
        limit = self.truncation_seq_length
        if self.embedding_complete or limit is None or len(letters) <= limit:
            return letters
        return letters[:limit] if self.trunc_type == "right" else letters[-limit:]


class EmbedRecipe(Extent, EncoderUse):
    """Embed sequences with LucaOne, ESM-2, DNABERT-2, a gene LLaMA, any AutoModel, or none (one-hot, kmer, placed)."""

    input_file: Path | None = None
    """CSV, TSV or FASTA, plain or gz."""
    seq: str | None = None
    """One sequence instead of a file; its id is `seq`."""
    out: Path
    """Folder of embeddings; one that exists with the same settings is continued."""
    encoder: str | None = None
    """Folder or hub id of an encoder, or one-hot, kmer, placed; without it the released LucaOne of llm_version and llm_step."""
    llm_type: Literal["lucaone"] = "lucaone"
    llm_version: Literal["lucaone", "lucaone-gene", "lucaone-prot"] = "lucaone"
    llm_step: int | None = None
    """Steps of the released LucaOne; the newest where it is not given."""
    seq_type: str
    """gene (or dna, rna) or prot."""
    id_idx: int | str | None = None
    """Column of ids, by index from 0 or by name."""
    seq_idx: int | str | None = None
    """Column of sequences, by index from 0 or by name."""
    embedding_type: Literal["matrix", "vector"] = "matrix"
    vector_type: Literal["mean", "max", "cls"] = "mean"
    save_type: Literal["numpy", "tensor", "safetensors"] = "safetensors"
    """numpy: a .pt file per sequence that the original's tools read; tensor: the same, a tensor in it; safetensors: shards."""
    matrix_add_special_token: bool = False
    """Keep the rows of the special tokens around the sequence."""
    on_bad: Literal["refuse", "set_aside"] = "refuse"
    """What becomes of a record with unknown letters, of the wrong molecule or without letters."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of such records that may be set aside; more stop the run."""

    @model_validator(mode="after")
    def _consistent(self) -> EmbedRecipe:
        if (self.input_file is None) == (self.seq is None):
            raise ValueError("give either input_file or seq")
        if self.encoder is None and (self.llm_version, self.step) not in RELEASED:
            known = ", ".join(f"{version} {step}" for version, step in RELEASED)
            raise ValueError(f"no released {self.llm_version} of {self.step} steps; known: {known}")
        return self

    @property
    def step(self) -> int:
        return self.llm_step if self.llm_step is not None else DEFAULT_STEP[self.llm_version]

    @property
    def encoder_name(self) -> str:
        """Folder, hub id, or the name of one without a model."""
        return self.encoder or RELEASED[self.llm_version, self.step]
