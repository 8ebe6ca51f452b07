"""The pre-training recipe and its cross-checks."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from training.recipe import TrainingRecipe


class Spikes(Recipe):
    """What to do about a step whose loss is far above those before it."""

    then: Literal["nothing", "skip", "stop"] = "nothing"
    """skip: leave weights and optimiser as they are at that step. A loss that is no number stops the run unless it is skipped."""
    sigmas: float = Field(default=6.0, gt=0)
    """Standard deviations above the mean of the window."""
    window: int = Field(default=128, ge=8)
    """Steps looked back on; nothing is a spike before so many are seen."""


class Mixture(Recipe):
    """Parts of an epoch, by tokens (padding not counted). Without shares, an epoch is every block `most_passes` times, once by default."""

    share: dict[str, float] = {}
    """Modality -> weight; what counts is its part in the sum. Modalities that are not named are left out."""
    most_passes: dict[str, float] = {}
    """Modality -> how often an epoch may go through its blocks at most (default 1). The epoch is as large as these caps allow."""


class PretrainRecipe(TrainingRecipe):
    """Continued pre-training on token shards, under the DeepSpeed launcher. Shapes: a step is micro_batch x accumulation x ranks
    blocks of the shards' block_tokens.
    """

    model: Path
    """Extended base (`tokenizer extend`)."""
    shards: Path
    """Token shards (`convert pack`) made with that model's tokenizer."""
    out: Path
    """Model folder to write. Checkpoints live in `<out>.checkpoints` until the run is complete."""
    train: Literal["all", "lora", "rows"] = "all"
    """all weights, LoRA adapters, or nothing but rows of the vocabulary matrices (as a first run, before one of the others)."""
    mixture: Mixture = Mixture()
    no_loss_on: list[Literal["N", "tags"]] = []
    """Tokens that are read but not learnt to be written: runs of unknown bases, opening and closing tags."""
    deepspeed: str | None = "zero1"
    """A config of configs/deepspeed by name, or a path; null runs one plain process."""
    epochs: float = 1.0
    embedding_learning_rate: float | None = Field(default=None, gt=0)
    """Of both vocabulary matrices; null: as everything else."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Not applied to embeddings, head, norms and biases."""
    spikes: Spikes = Spikes()
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between held-out measurements."""
    heldout_blocks: int = Field(default=32, ge=1)
    """Held-out blocks measured per modality."""
    english: str | None = "english"
    """Fixed text, of configs/text by name or a path, whose bits per byte tell whether the model still reads English; null for none."""
    sample_tokens: int = Field(default=24, ge=0)
    """Tokens generated per modality at every measurement, to be looked at; 0 for none."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Of one rank's device, for MFU; null: by the table of training/estimate.py, which knows no CPU."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.train == "rows" and self.rows == "none":
            raise ValueError("train=rows with rows=none trains nothing; set rows=new or rows=all")
        return self
