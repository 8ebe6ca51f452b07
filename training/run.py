"""One training run: what `pretrain` and `instruct` both do, from the recipe to the finished folder.

A stage brings a `Job`: its rows, what it watches, and what it writes beside the weights.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, TrainingArguments, set_seed

from artefacts.errors import UserError
from artefacts.folder import discard, new_folder, write_manifest
from tokenizer.saving import carry_tokenizer
from training.batch import RunRows
from training.checkpoints import (
    STOP,
    STOPPED,
    NoLastCheckpoint,
    StopWhenAsked,
    check_position,
    check_run,
    newest_complete,
    settings,
)
from training.estimate import planned_sizes, report
from training.launch import keep_cpu_simple, leave, share_cores
from training.loss import IGNORED
from training.marked import marked
from training.model import load_model, write_result
from training.recipe import TrainingRecipe, accumulation_of, check_hardware, check_rows, shared_arguments
from training.trainer import RunTrainer
from training.watch import RunWatch


class Job(ABC):
    """A stage's side of a run. Making one refuses what would fail late, before weights are read."""

    trainer: type[RunTrainer]
    recipe: TrainingRecipe
    rows: RunRows
    steps: int
    row_tokens: int
    """Of the longest row."""

    def __init__(self, recipe: TrainingRecipe, ranks: int) -> None:
        """
        Raises:
            UserError: a model with fewer rows than its tokenizer has ids, a batch that the ranks really started do not
                divide, bf16 without hardware for it.
        """
        self.recipe, self.ranks = recipe, ranks
        self.tokenizer: Any = AutoTokenizer.from_pretrained(recipe.model)
        self.config = AutoConfig.from_pretrained(recipe.model)
        check_rows(self.config.vocab_size, len(self.tokenizer), recipe.model)
        try:
            self.rows_per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks
        except ValueError as error:
            raise UserError(str(error)) from None
        check_hardware(recipe.precision)

    @abstractmethod
    def watch(self) -> RunWatch:
        """What watches the run."""

    @abstractmethod
    def write(self, folder: Path, trainer: RunTrainer, watch: Any) -> dict[str, Any]:
        """Write all but weights and tokenizer; returns `stage`, `inputs` and `counts` of the manifest."""

    @abstractmethod
    def summary(self) -> str:
        """Lines of `--dry-run`: what the rows are."""

    def arguments(self) -> TrainingArguments:
        """The trainer's arguments."""
        return TrainingArguments(**shared_arguments(self.recipe, self.steps, self.ranks))

    def more(self) -> dict[str, Any]:
        """Further arguments of the trainer."""
        return {}

    def callbacks(self) -> list[Any]:
        """Further callbacks of the trainer, which get it as `trainer`."""
        return []

    def check_checkpoint(self, checkpoint: Path, run: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run. Raises UserError."""
        check_run(checkpoint, run)

    def result(self, trainer: RunTrainer, watch: Any) -> Path:
        """The folder of the weights that are the result. Every rank calls this: ZeRO-3 gathers the weights."""
        final = self.recipe.work / "final"
        trainer.save_model(str(final))
        return final


def run(job: Job, overwrite: bool = False) -> None:
    """Train, and write the folder with tokenizer, history and manifest.

    A run that was cut short continues from its newest complete checkpoint, exactly as if it had not been.

    Raises:
        UserError: checkpoints of a run with other settings; existing output.
        SystemExit: asked to stop (SIGTERM, or the file `stop`): a checkpoint is saved.
    """
    recipe = job.recipe
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    # an earlier part of this run
    now, checkpoint = settings(recipe), newest_complete(recipe.work)
    if checkpoint is not None:
        job.check_checkpoint(checkpoint, now)
    # arguments before the model: ZeRO-3 must be known when it is loaded
    arguments = job.arguments()
    model = load_model(recipe, arguments, job.trainer.merged)
    # trainer and watch, which need each other
    watch, stop, more = job.watch(), StopWhenAsked(recipe.work), job.callbacks()
    callbacks = [watch, NoLastCheckpoint(), stop, *more]
    trainer: Any = job.trainer(recipe, now, job.rows, watch, model=model, args=arguments, callbacks=callbacks, **job.more())
    for callback in (watch, *more):
        callback.trainer = trainer
    if checkpoint is not None:
        check_position(checkpoint, trainer.position)
    first = trainer.is_world_process_zero()
    if first:
        (recipe.work / STOP).unlink(missing_ok=True)
    # training
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        if first:
            print(f"stopped at step {trainer.state.global_step} with a checkpoint; the same command goes on from there", flush=True)
        leave()
        raise SystemExit(STOPPED)
    # the finished folder, by the first rank
    trained = job.result(trainer, watch)
    if first:
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            write_result(recipe, trained, folder, trainer.merged)
            carry_tokenizer(recipe.model, folder)
            lines = watch.history(trainer.state.log_history)
            (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            made = job.write(folder, trainer, watch)
            write_manifest(folder, made["stage"], recipe=recipe.model_dump(mode="json"), inputs=made["inputs"], counts=made["counts"])
        discard(recipe.work, recipe.out)
    leave()


def preview(recipe: TrainingRecipe, inputs: list[Path], missing: str, job_of: type[Job]) -> None:
    """`--dry-run`: the estimate; where the inputs are there, every check of the run and one row of it too.

    Args:
        inputs: files that are there when all can be checked.
        missing: what they are, in words.
    """
    sizes = planned_sizes(recipe)
    if not all(path.is_file() for path in inputs):
        print(report(recipe, sizes, recipe.planned.block_tokens, recipe.planned.tokens, None))
        print(f"{missing} are not there yet: planned figures; nothing was checked against them")
        return
    job = job_of(recipe, recipe.ranks * recipe.nodes)
    print(report(recipe, sizes, job.row_tokens, len(job.rows) * job.row_tokens, job.steps))
    print(job.summary())
    batch = job.rows.collate([job.rows[0]])
    silent = (batch["labels"][0] == IGNORED).tolist()
    shown = len(silent) - silent[::-1].index(False)  # without padding
    print(marked(job.tokenizer, batch["input_ids"][0].tolist()[:shown], silent))
