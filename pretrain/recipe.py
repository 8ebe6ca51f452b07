"""The pre-training recipe and its cross-checks."""

from bisect import bisect
from itertools import accumulate
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


class Stage(Recipe):
    """A stretch of the run. What it does not name is as the recipe says."""

    steps: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    """Instead of steps: with padding, rounded up to a whole step."""
    share: dict[str, float] = {}
    """As `mixture.share`."""
    learning_rate: float | None = Field(default=None, gt=0)
    """What `schedule`, which goes over the whole run, is multiplied with; the embeddings' rate keeps its ratio to it."""
    loss: Literal["auto", "bases"] | None = None
    shards: Path | None = None
    """Others of the same tokenizer, such as longer blocks. A step has as many of them."""
    rope_theta: float | None = Field(default=None, gt=0)
    """Base of the rotary embedding from here on; the model's context then grows to the length of the blocks."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            raise ValueError("a stage has steps or tokens, one of the two")
        return self


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
    stages: list[Stage] = []
    """Stretches of the run, one after another; they say how long it is. The last is the decay of schedule=warmup_stable_decay."""
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

    @property
    def planned_steps(self) -> int | None:
        return sum(stage.steps or 0 for stage in self.stages) or self.steps

    @property
    def scores_bases(self) -> bool:
        return self.loss == "bases" or any(stage.loss == "bases" for stage in self.stages)

    def stage_at(self, step: int) -> int:
        """Number of the stage that the step after so many is in; 0 where there are none. Needs their `steps` (`planned`)."""
        return min(bisect(list(accumulate(stage.steps or 0 for stage in self.stages)), step), max(0, len(self.stages) - 1))

    def by_bases(self, step: int) -> bool:
        loss = self.stages[self.stage_at(step)].loss if self.stages else None
        return super().by_bases(step) if loss is None else loss == "bases"

    def decay_steps(self, steps: int) -> int:
        return self.stages[-1].steps or 1 if self.stages else super().decay_steps(steps)

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if not self.stages:
            return self
        length = ("steps", "epochs", "bases_from", "decay")
        if twice := [name for name in length if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(f"the stages say when what begins and ends; leave {', '.join(twice)} out")
        if self.schedule == "warmup_stable_decay" and len(self.stages) < 2:
            raise ValueError("the last of the stages is the decay of warmup_stable_decay; give two or more")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.train == "rows" and self.rows == "none":
            raise ValueError("train=rows with rows=none trains nothing; set rows=new or rows=all")
        return self
