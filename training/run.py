"""One training run: what `pretrain` and `instruct` both do, from the recipe to the finished folder.

A stage brings a `Job`: its rows, what watches them, and what it writes beside the weights.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, TrainingArguments, set_seed

from artefacts.errors import UserError
from artefacts.folder import discard, new_folder, write_manifest
from tokenizer.saving import carry_tokenizer
from training.checkpoints import (
    STOP,
    STOPPED,
    NoLastCheckpoint,
    StopWhenAsked,
    check_position,
    check_run,
    newest_complete,
    read_run,
    settings,
)
from training.estimate import planned_sizes, report
from training.launch import keep_cpu_simple, leave, share_cores
from training.loss import IGNORED
from training.model import kmer_tables, load_model, write_result
from training.recipe import TrainingRecipe, accumulation_of, check_hardware, check_rows, shared_arguments
from training.universal import BY_RANKS, AfterUniversal, loads_universal
from training.watch import RunWatch

LONGEST_SAMPLE = 600
"""Characters shown of a training sample."""


class Job(ABC):
    """A stage's side of a run. Making one refuses what would fail late, before weights are read."""

    trainer: type[Any]
    """A `RunTrainer`."""
    arguments: type[TrainingArguments] = TrainingArguments
    watch: RunWatch
    rows: Any
    """See `RunTrainer`."""
    steps: int
    row_tokens: int
    """Of the longest row."""
    summary: str
    """Lines of `--dry-run` that say what the rows are."""

    def __init__(self, recipe: TrainingRecipe, ranks: int) -> None:
        """
        Raises:
            UserError: a model with fewer rows than its tokenizer has ids, a batch that the ranks really started do not
                divide, bf16 without hardware for it, loss=bases without k-mers.
        """
        self.recipe: Any = recipe
        self.ranks = ranks
        self.callbacks: list[Any] = []
        """Of the trainer, which they get as `trainer`; beside those of every run."""
        self.more_arguments: dict[str, Any] = {}
        """Beside those of `shared_arguments`."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(recipe.model)
        self.config = AutoConfig.from_pretrained(recipe.model)
        check_rows(self.config.vocab_size, len(self.tokenizer), recipe.model)
        try:
            self.rows_per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks
        except ValueError as error:
            raise UserError(str(error)) from None
        check_hardware(recipe.precision)
        if recipe.scores_bases:
            kmer_tables(recipe.model)

    @abstractmethod
    def write(self, folder: Path, trainer: Any) -> dict[str, Any]:
        """Write all but weights, tokenizer and history; returns `stage`, `inputs` and `counts` of the manifest."""

    def check_checkpoint(self, checkpoint: Path, run: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run; one of another number of ranks DeepSpeed has to load otherwise. Raises UserError."""
        others = self.recipe.launched and read_run(checkpoint).get("run", {}).get("ranks") != self.ranks
        check_run(checkpoint, run, BY_RANKS if others else ())
        if others and self.recipe.deepspeed is not None:
            self.more_arguments["deepspeed"] = loads_universal(checkpoint, self.recipe.deepspeed)
            self.callbacks.append(AfterUniversal())


def run(job: Job, overwrite: bool = False) -> None:
    """Train, and write the folder with tokenizer, history and manifest.

    A run that was cut short continues from its newest complete checkpoint, exactly as if it had not been.

    Raises:
        UserError: what `check_switch` refuses; checkpoints of a run with other settings; existing output.
        SystemExit: asked to stop (SIGTERM, or the file `stop`): a checkpoint is saved.
    """
    check_switch(job)
    recipe, watch, work = job.recipe, job.watch, job.recipe.work
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    # an earlier part of this run
    now, checkpoint = settings(recipe), newest_complete(work)
    if checkpoint is not None:
        job.check_checkpoint(checkpoint, now)
    # arguments before the model: ZeRO-3 must be known when it is loaded
    arguments = job.arguments(**shared_arguments(recipe, job.steps, job.ranks) | job.more_arguments)
    model = load_model(recipe, arguments, job.trainer.merged, checkpoint)
    # the trainer, and what calls it back
    stop = StopWhenAsked(work)
    callbacks = [watch, NoLastCheckpoint(), stop, *job.callbacks]
    trainer = job.trainer(recipe, now, job.rows, watch, tokenizer=job.tokenizer, model=model, args=arguments, callbacks=callbacks)
    for callback in (watch, *job.callbacks):
        callback.trainer = trainer
    if checkpoint is not None:
        check_position(checkpoint, trainer.position)
    first = trainer.is_world_process_zero()
    if first:
        (work / STOP).unlink(missing_ok=True)
    # training
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        if first:
            print(f"stopped at step {trainer.state.global_step} with a checkpoint; the same command goes on from there", flush=True)
        leave()
        raise SystemExit(STOPPED)
    # the best weights, or the last
    trained = watch.best(trainer.state)
    if trained is None:
        trained = work / "final"
        trainer.save_model(str(trained))  # every rank: ZeRO-3 gathers the weights
    # the finished folder, by the first rank
    if first:
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            write_result(recipe, trained, folder, trainer.merged)
            carry_tokenizer(recipe.model, folder)
            lines = watch.history(trainer.state.log_history)
            (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            write_manifest(folder, recipe=recipe.model_dump(mode="json"), **job.write(folder, trainer))
        discard(work, recipe.out)
    leave()


def check_switch(job: Job) -> None:
    """Refuse loss=bases that would begin after the last step. Raises UserError."""
    if job.recipe.bases_from is not None and not job.recipe.by_bases(job.steps - 1):
        raise UserError(f"bases_from={job.recipe.bases_from}: the run has {job.steps} steps, none of them by bases; set a smaller one")


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
    check_switch(job)
    print(report(job.recipe, sizes, job.row_tokens, len(job.rows) * job.row_tokens, job.steps))
    print(job.summary)
    batch = job.rows.collate([job.rows[0]])
    silent = (batch["labels"][0] == IGNORED).tolist()
    shown = len(silent) - silent[::-1].index(False)  # without padding
    print(marked(job.tokenizer, batch["input_ids"][0].tolist()[:shown], silent))


def marked(tokenizer: Any, ids: Sequence[int], silent: Sequence[bool]) -> str:
    """The text of the ids, tokens without loss in brackets; the middle of a long one is left out."""
    parts = []
    for without_loss, places in groupby(range(len(ids)), key=lambda place: bool(silent[place])):
        text = tokenizer.decode([ids[place] for place in places], skip_special_tokens=False)
        parts.append(f"[{text}]" if without_loss else text)
    whole = "".join(parts)
    half = LONGEST_SAMPLE // 2
    return whole if len(whole) <= LONGEST_SAMPLE else f"{whole[:half]} ... {whole[-half:]}"
