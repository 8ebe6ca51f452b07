"""The instruction-tuning recipe and its cross-checks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from training.recipe import TrainingRecipe


class InstructRecipe(TrainingRecipe):
    """Instruction tuning with TRL, loss on the answer and its end-of-turn token only. A step is micro_batch x accumulation x ranks rows."""

    model: Path
    """Gene base model (`pretrain`), or an extended base."""
    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    """Adapter folder to write, with train=all a model folder. Checkpoints live in `<out>.checkpoints` until the run is complete."""
    train: Literal["lora", "dora", "qlora", "all"] = "lora"
    """Adapters (plain; with magnitudes of their own; on a base held in 4 bits, which needs bitsandbytes and a GPU), or all weights."""
    shards: Path | None = None
    """Token shards (`convert pack`) whose documents are learnt between the records, so that the model keeps its English. null: none."""
    replay: dict[str, float] = {"text": 0.1}
    """Of the shards, modality -> its part of the run's tokens and of its loss."""
    rows: Literal["all", "new", "none"] = "none"
    """Rows of both vocabulary matrices that are trained too. new: those the extension added, kept small in the adapter. all: full
    copies in the adapter, needed where pre-training left the chat's own tokens untrained, as on a random base."""
    loss_per: Literal["token", "record", "task"] = "token"
    """What counts alike in the loss: every token of an answer, every record however long its answer, or every task."""
    balance: bool = False
    """Every task equally often, small ones repeated; otherwise each record once in an epoch. Either way tasks are spread evenly over it."""
    epochs: float = 2.0
    micro_batch: int = Field(32, ge=1)
    """Rows per rank and forward pass; a row is a record, with packing up to max_tokens of records."""
    max_tokens: int = Field(512, ge=8)
    """Longest record; a longer one is set aside and noted, never cut: the answer is at its end."""
    packing: bool = False
    """Put whole records together into rows of at most max_tokens, isolated from each other; otherwise rows are padded to the longest."""
    evaluate_every: int = Field(100, ge=1)
    """Steps between losses on the dev records."""
    dev_records: int = Field(500, ge=1)
    """Dev records used, drawn by the seed: of every task equally many, of a small one all it has."""
    metric_every: int | None = Field(None, ge=1)
    """Steps between scorings of dev records by each task's primary metric, as `eval score` has it. The weights with the best mean over
    tasks are then the result, instead of the last ones. null: none."""
    metric_records: int = Field(100, ge=1)
    """Of the dev records, how many of each task are scored."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many scorings without a better one; null: train to the end."""

    @model_validator(mode="after")
    def _check(self) -> InstructRecipe:
        if self.patience is not None and self.metric_every is None:
            raise ValueError("patience counts scorings by the dev metric; set metric_every too")
        if self.train == "all" and self.rows == "new" and self.weight_decay:
            raise ValueError("rows=new with weight_decay would shrink the rows that are to stay; set weight_decay=0")
        if min(self.replay.values(), default=0) <= 0 or sum(self.replay.values()) >= 1:
            raise ValueError("replay: name modalities of the shards, each with a part above 0, together below 1")
        return self
