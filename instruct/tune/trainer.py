"""TRL's trainer on planned rows, with the loss at the output layer that pre-training has."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import SFTTrainer

from instruct.tune.rows import PackedRows
from training.trainer import RunTrainer


class AnswerTrainer(RunTrainer, SFTTrainer):
    """`SFTTrainer` over `PackedRows`.

    TRL's own loss scores every position away from Triton (8.5 s a step instead of 0.5 s with 33,600 ids on two CPU cores), knows
    no weights, and fails on single trained rows of the head (`'TrainableTokensWrapper' object has no attribute 'bias'`, TRL 1.16).
    """

    merged = False

    def __init__(self, recipe: Any, run: dict[str, Any], rows: PackedRows, watch: Any = None, **more: Any) -> None:
        # TRL takes nothing but a `datasets.Dataset`; the rows then stand in its place
        first = Dataset.from_dict({"input_ids": [rows.encoded.ids[0]], "labels": [rows.encoded.ids[0]]})
        super().__init__(recipe, run, rows, watch, train_dataset=first, **more)
