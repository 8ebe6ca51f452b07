"""Instruction tuning: records -> TRL `SFTTrainer` with PEFT -> adapter folder, or model folder where all weights are trained."""

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import GenerationConfig
from trl import SFTConfig, SFTTrainer

from artefacts.errors import Ledger, UserError, say_read
from artefacts.folder import MANIFEST, check_absent, fingerprint
from instruct.tune.base import base_fingerprint
from instruct.tune.encode import encode
from instruct.tune.recipe import InstructRecipe
from instruct.tune.replay import add_documents
from instruct.tune.rows import PackedRows, order_of, plan, weights_of
from instruct.tune.watch import DevWatch, counts_of, scored_records
from tokenizer.conversations import check_chat
from tokenizer.saving import new_ids, with_fixed_date
from training import run as training_run
from training.checkpoints import identity, world_size
from training.launch import zero_of
from training.model import size
from training.run import Job
from training.trainer import RunTrainer

Records = dict[str, list[dict[str, Any]]]
"""Of each split."""


def tune(recipe: InstructRecipe, *, overwrite: bool = False, records: Records | None = None) -> None:
    """Train, and write the folder with tokenizer, history and manifest.

    Args:
        records: train and dev, where the command has read them already.

    Raises:
        UserError: what `TuneJob` and `training.run.run` refuse; existing output.
        SystemExit: asked to stop: a checkpoint is saved.
    """
    check_absent(recipe.out, overwrite)
    job = TuneJob(recipe, world_size(), records)
    if not int(os.environ.get("RANK") or 0):  # the others read the same
        for split, ledger in job.ledgers.items():
            say_read(str(recipe.records / f"{split}.jsonl"), ledger.as_dict(), recipe.out / "set_aside.txt")
    training_run.run(job, overwrite)


def preview(recipe: InstructRecipe) -> None:
    """What `--dry-run` shows."""
    inputs = [recipe.model / "tokenizer.json", *(recipe.records / f"{split}.jsonl" for split in ("train", "dev"))]
    inputs += [recipe.shards / MANIFEST] if recipe.shards else []
    training_run.preview(recipe, inputs, "model, records or shards", TuneJob)


class AnswerTrainer(RunTrainer, SFTTrainer):
    """`SFTTrainer` over `PackedRows`, with the loss at the output layer that pre-training has.

    TRL's own loss scores every position away from Triton (8.5 s a step instead of 0.5 s with 33,600 ids on two CPU cores), knows
    no weights, and fails on single trained rows of the head (`'TrainableTokensWrapper' object has no attribute 'bias'`, TRL 1.16).
    """

    merged = False

    def __init__(self, recipe: InstructRecipe, run: dict[str, Any], rows: PackedRows, watch: Any, tokenizer: Any, **more: Any) -> None:
        # TRL takes nothing but a `datasets.Dataset`; the rows then replace it
        first = Dataset.from_dict({"input_ids": [rows.encoded.ids[0]], "labels": [rows.encoded.ids[0]]})
        super().__init__(recipe, run, rows, watch, train_dataset=first, processing_class=tokenizer, **more)


class TuneJob(Job):
    """The records of a run, and the dev records that watch it."""

    trainer, arguments = AnswerTrainer, SFTConfig
    rows: PackedRows
    watch: DevWatch

    def __init__(self, recipe: InstructRecipe, ranks: int, records: Records | None = None) -> None:
        """
        Raises:
            UserError: what `Job`, `check_tokenizer` and `check_way` refuse; max_tokens beyond the model's context; no
                usable record.
        """
        super().__init__(recipe, ranks)
        # what would fail late
        check_tokenizer(recipe.model, self.tokenizer, self.config)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token  # only ever after a row, where it has no label and nothing sees it
        if recipe.max_tokens > self.config.max_position_embeddings:
            raise UserError(
                f"max_tokens={recipe.max_tokens}: the context of {recipe.model} is {self.config.max_position_embeddings}; "
                f"set max_tokens={self.config.max_position_embeddings}, longer records are set aside and noted"
            )
        check_way(recipe)
        # the records come ready: nothing is prepared, cut or shuffled by TRL
        self.more_arguments = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}, "eval_strategy": "no"}
        self.ledgers, self.aside = {"train": Ledger(), "dev": Ledger()}, list[str]()
        known, (train_file, dev_file) = records or {}, (recipe.records / f"{split}.jsonl" for split in self.ledgers)
        train = encode(self.tokenizer, train_file, recipe.max_tokens, self.ledgers["train"], aside=self.aside, records=known.get("train"))
        self.dev = encode(
            self.tokenizer, dev_file, recipe.max_tokens, self.ledgers["dev"], recipe.dev_records, recipe.seed, records=known.get("dev")
        )
        self.scored = scored_records(self.dev.records, recipe.metric_records) if recipe.metric_every is not None else []
        self.scored_of = counts_of(train.tasks, self.scored) if recipe.metric_every is not None else {}
        # the rows of the run
        order = order_of(train.tasks, recipe.balance, recipe.seed)
        weights = weights_of(train, order, recipe.loss_per)
        if recipe.shards is not None:
            order, weights = add_documents(recipe.shards, train, order, weights, recipe, self.rows_per_step)
        wanted = max(1, round(recipe.epochs * order.size))
        room = recipe.max_tokens if recipe.packing else None
        rows = plan(order, [len(ids) for ids in train.ids], wanted, self.rows_per_step, room, recipe.steps)
        self.rows = PackedRows(train, rows, weights, self.tokenizer.pad_token_id)
        self.steps = len(rows) // self.rows_per_step
        self.row_tokens = max(sum(len(train.ids[record]) for record in row) for row in rows)
        self.watch = DevWatch(recipe, self.tokenizer, self.dev, self.scored, self.scored_of)
        fit = "records: {0.written:,} of {0.read:,} fit max_tokens={1}".format(self.ledgers["train"], recipe.max_tokens)
        self.summary = f"{fit}; in the run: {self.rows.consumed(len(rows))}\none training row, [tokens without loss] in brackets:"

    def write(self, folder: Path, trainer: Any) -> dict[str, Any]:
        """The ids of records that were set aside."""
        recipe = self.recipe
        if self.aside:
            (folder / "set_aside.txt").write_text("".join(f"{name}\n" for name in self.aside), encoding="utf-8")
        return {
            "stage": "tuned" if recipe.train == "all" else "adapter",
            "inputs": {
                "model": base_fingerprint(recipe.model),
                "records": fingerprint(recipe.records),
                **({"shards": identity(recipe.shards)} if recipe.shards else {}),
            },
            "counts": {
                **{split: ledger.as_dict() for split, ledger in self.ledgers.items()},
                "trainable_parameters": sum(size(parameter) for parameter in trainer.model.parameters() if parameter.requires_grad),
                "steps": trainer.state.global_step,
                "best_step": trainer.state.best_global_step,
                **({"scored": self.scored_of} if self.scored_of else {}),
                "records": self.rows.consumed(trainer.state.global_step * self.rows_per_step),
                "seconds": round(time.monotonic() - self.watch.begun, 1),
            },
        }


def check_tokenizer(model: Path, tokenizer: Any, config: Any) -> None:
    """Refuse a base whose answers could not be learnt, or would never end.

    Raises:
        UserError: no chat template, one that writes today's date, or one that ends answers where no generation ends;
            tags of another version.
    """
    answer = check_chat(tokenizer, model)
    if with_fixed_date(tokenizer.chat_template) != tokenizer.chat_template:
        raise UserError(
            f"{model}: its chat template writes today's date, so a run continued tomorrow would train on other tokens; "
            "`llama-gene tokenizer extend` fixes the date, or write one into chat_template.jinja in place of strftime_now"
        )
    # `tokenizer extend` notes the template's end of turn, others may not have
    noted = GenerationConfig.from_pretrained(model) if (model / "generation_config.json").is_file() else config
    stops = noted.eos_token_id if isinstance(noted.eos_token_id, list) else [noted.eos_token_id]
    if not set(answer) & set(stops):
        raise UserError(
            f"{model}: the chat template ends an answer with '{tokenizer.decode(answer[-1:])}' (id {answer[-1]}), which ends no "
            "generation; add that id to eos_token_id in generation_config.json, or extend the base with `llama-gene tokenizer extend`"
        )


def check_way(recipe: InstructRecipe) -> None:
    """Refuse ways of training that this machine, or a library, does not have.

    Raises:
        UserError: QLoRA without bitsandbytes; single rows under ZeRO-3; new rows of a base that was not extended.
    """
    if recipe.train == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("train=qlora: bitsandbytes is not installed; pip install 'llama-gene[qlora]', or use train=lora")
    if recipe.rows == "new":
        new_ids(recipe.model)
        if recipe.train != "all" and zero_of(recipe.deepspeed).get("stage") == 3:
            # PEFT's layer for them reads weights that ZeRO-3 has spread over the ranks
            raise UserError("rows=new under ZeRO-3: PEFT cannot train single rows there; set deepspeed=zero2, or rows=all")
