"""Recipe of `baseline embed`; fields have the original's names where it has one."""

import sys
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from artefacts.errors import UserError
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
DOCUMENTED_STEP = {**DEFAULT_STEP, "lucaone-prot": 30000000}
"""Of checkpoints below a root, as the original's documentation has it."""
FTP = "http://47.93.21.181/lucaone/TrainedCheckPoint/latest"
MODEL_FILES = ("config.json", "pytorch.pth", "pytorch_model.bin", "model.safetensors", "model.safetensors.index.json")
"""One of them makes a folder a model's."""


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

    WRITES = ("out", "save_path")
    input_file: Path | None = None
    """CSV, TSV or FASTA, plain or gz."""
    seq: str | None = None
    """One sequence instead of a file; its id is `seq`."""
    out: Path
    """Folder of embeddings; one that exists with the same settings is continued."""
    save_path: Path | None = None
    """`out` under the original's name, and then in its form: save_type=numpy where nothing else is said."""
    encoder: str | None = None
    """Folder or hub id of an encoder, or one-hot, kmer, placed; without it the released LucaOne of llm_version and llm_step."""
    llm_dir: str | None = None
    """The original's root, below which llm/models/<llm_type>/<llm_version>/checkpoint-step<llm_step> is looked for before the hub; or
    what `encoder` takes."""
    llm_type: Literal["lucaone"] = "lucaone"
    llm_version: Literal["lucaone", "lucaone-gene", "lucaone-prot"] = "lucaone"
    llm_step: int | None = None
    """Steps of the released LucaOne; without it the newest, of lucaone-prot below llm_dir 30000000."""
    seq_type: str
    """gene (or dna, rna) or prot."""
    id_idx: int | str | None = None
    """Column of ids, by index from 0 or by name."""
    seq_idx: int | str | None = None
    """Column of sequences, by index from 0 or by name."""
    embedding_type: Literal["matrix", "vector"] = "matrix"
    vector_type: Literal["cls", "mean", "max"] | None = None
    """Of vectors: the row of [CLS], which is what the original's documentation says and the default, or of the letters' rows the mean
    or the maximum."""
    save_type: Literal["numpy", "tensor", "safetensors"] = "safetensors"
    """numpy: a .pt file per sequence that the original's tools read; tensor: the same, a tensor in it; safetensors: shards."""
    matrix_add_special_token: bool = False
    """Keep the rows of the special tokens around the sequence."""
    on_bad: Literal["refuse", "set_aside"] = "refuse"
    """What becomes of a record with unknown letters, of the wrong molecule or without letters."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of such records that may be set aside; more stop the run."""

    @model_validator(mode="before")
    @classmethod
    def _saved_as_upstream(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("save_path") is not None:
            if values.get("out") is not None:
                raise ValueError("out and save_path are one folder; give one of them")
            values = {"save_type": "numpy"} | values | {"out": values["save_path"], "save_path": None}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.input_file is None) == (self.seq is None):
            raise ValueError("give either input_file or seq")
        if self.encoder is not None and (idle := self._given("llm_dir", "llm_type", "llm_version", "llm_step")):
            raise ValueError(f"{idle} and encoder both name an encoder; give one of them")
        if self.embedding_type == "matrix" and self.vector_type is not None:
            raise ValueError("vector_type is for embedding_type=vector")
        if self.embedding_type == "vector" and self.matrix_add_special_token:
            raise ValueError("matrix_add_special_token is for embedding_type=matrix; a vector is one row")
        if self.seq is not None and (idle := self._given("id_idx", "seq_idx")):
            raise ValueError(f"{idle}: seq has no columns; leave it out")
        if self.encoder is None and self.llm_dir is None:
            released(self.llm_version, self.step)
        return self

    def _given(self, *names: str) -> str:
        """Those of the fields that somebody set."""
        return ", ".join(name for name in names if name in self.model_fields_set and getattr(self, name) is not None)

    @property
    def step(self) -> int:
        """Steps of the checkpoint that is meant."""
        return self.llm_step or (DEFAULT_STEP if self.llm_dir is None else DOCUMENTED_STEP)[self.llm_version]

    def encoder_name(self) -> str:
        """Folder, hub id, or the name of one without a model.

        Raises:
            UserError: a root that is not there, or without the checkpoint, which is not on the hub either.
        """
        named = self._given("llm_type", "llm_version", "llm_step")
        if self.encoder is not None or self.llm_dir is None:
            return self.encoder or released(self.llm_version, self.step)
        root = Path(self.llm_dir)
        if not root.is_dir() and not named:
            return self.llm_dir
        if any((root / name).is_file() for name in MODEL_FILES):
            if named:
                raise UserError(f"{root}: is the folder of a model, so {named} choose nothing; leave them out, or give the root above it")
            return self.llm_dir
        return checkpoint_below(root, self.llm_version, self.step)


def checkpoint_below(root: Path, version: str, step: int) -> str:
    """A checkpoint below the original's root, in its layout or that of 2024; else its hub id, which is said.

    Raises:
        UserError: no such root, or neither.
    """
    place = f"models/lucaone/{version}/checkpoint-step{step}"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the root that holds llm/{place}, or the folder of a model")
    if (found := local_checkpoint(root, version, step)) is not None:
        return found
    try:
        name = released(version, step)
    except ValueError as error:
        raise UserError(f"{root}: holds no llm/{place}, and {error}") from None
    print(f"{root}: holds no llm/{place}; {name} is taken", file=sys.stderr)
    return name


def local_checkpoint(root: Path, version: str, step: int) -> str | None:
    """The folder of a checkpoint below the original's root, in its layout or that of 2024; None where there is none."""
    for folder in (root / "llm", root):
        older = sorted(folder.glob(f"models/lucagplm/*/*/*/*/checkpoint-step{step}")) if version == "lucaone" else []
        for found in (folder / f"models/lucaone/{version}/checkpoint-step{step}", *older):
            if found.is_dir():
                return str(found)
    return None


def released(version: str, step: int) -> str:
    """The hub id of a released LucaOne. Raises ValueError with where it is to be had, where it is not on the hub."""
    if (version, step) in RELEASED:
        return RELEASED[version, step]
    if step == DOCUMENTED_STEP[version]:
        place = f"models/lucaone/{version}/checkpoint-step{step}"
        raise ValueError(
            f"{version} of {step} steps is not on the hub: fetch {FTP}/{place}/ into ROOT/llm/{place} and pass llm_dir=ROOT, "
            f"or take llm_step={DEFAULT_STEP[version]}, which is"
        )
    raise ValueError(f"no released {version} of {step} steps; known: {', '.join(f'{name} {steps}' for name, steps in RELEASED)}")
