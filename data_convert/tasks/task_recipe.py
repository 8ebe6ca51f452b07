"""What a conversion of tasks is asked for: `llama-gene convert tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from data_convert.corpus.crew import Engine
from data_convert.splits.grouping import Grouping
from data_convert.tasks.card_fields import Files
from data_convert.tasks.mixing import Mix


class TaskEntry(Recipe):
    """One task of a run."""

    card: str
    """Id of a card (`gue/tf_0`) or path of a YAML card."""
    source: Path
    """Folder that the card's files are relative to."""
    files: Files | None = None
    """Instead of the card's files; say in `split_note` what split this is."""
    split_note: str | None = None
    train: int | None = Field(None, ge=1)
    """At most this many rows, drawn by the seed."""
    dev: int | None = Field(None, ge=1)
    """The same; where there is no dev file, the rows to cut from train (null: a tenth)."""
    test: int | None = Field(None, ge=1)
    """The same; where there is no test file, the rows to cut from train (null: the card's test_share)."""
    max_letters: int | None = Field(None, ge=1)
    """Shorter inputs than the card allows, for a model with a short context; what happens to longer ones says the card."""
    balance: bool = False
    """Draw train rows so that all classes are equally frequent, as far as `train` and the rows allow."""
    group: Grouping | None = None
    """`group: cluster`, or with thresholds `group: {identity: 0.7, pairs: unseen}`: dev and test that are cut from train share no
    cluster of near duplicates with it, nor with each other; docs/splits.md says what a cluster is."""
    reverse_complement: bool = False
    """Add to train the reverse complement of every row; only where the card says that the task is the same on both strands."""

    @model_validator(mode="after")
    def _note(self) -> TaskEntry:
        if self.files is not None and not self.split_note:
            raise ValueError("files differ from the card's: say in split_note what split this is, the report shows it")
        return self


class TasksRecipe(Recipe):
    """Instruction records of several tasks."""

    out: Path
    tasks: list[TaskEntry] = Field(default_factory=list)
    """Tasks one by one, with their limits; or use `cards`."""
    cards: list[str] = Field(default_factory=list)
    """Patterns of card ids, `gue/*`, also several with commas between them; their files are below `source`."""
    chats: list[Path] = Field(default_factory=list)
    """Files of conversations, each a task `chats/<name>`: ShareGPT, Alpaca or OpenAI's messages, JSON or parquet (docs/tuning.md)."""
    source: Path | None = None
    """Folder that the files of `cards` are relative to."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do where a card's file is not there: stop, or convert what is there and say so; of `cards` also without any file."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of a file's rows that may be broken and set aside; more stop the run. Rows left out on purpose do not count."""
    max_letters: int | None = Field(None, ge=1)
    """The same limit for all `cards`: shorter inputs than they allow."""
    group: Grouping | None = None
    """The same for all `cards` and `chats`: dev and test cut from train share no cluster with it."""
    mix: Mix | None = None
    """Share the train rows out among the tasks: `mix={records: 100000, temperature: 2}`."""
    parquet: bool = False
    """Write the records as parquet too, with a dataset card, so that `datasets.load_dataset` reads the folder."""
    tokenizer: Path | None = None
    """Tokenizer folder: report how many tokens prompts and answers of each task have."""
    wording: Literal["held_out", "shared"] = "held_out"
    """held_out: evaluation asks in words that training has not seen. shared: training uses the evaluation's wording among
    its paraphrases; for small models without a language of their own. The split note says which."""
    seed: int = 0
    workers: int = Field(1, ge=1)
    """Processes; each takes one task after another. The output is the same for any number."""
    engine: Engine = "local"
    """Who runs them, as in `convert pack` (docs/scaling.md)."""

    @model_validator(mode="after")
    def _something(self) -> TasksRecipe:
        if not self.tasks and not self.cards and not self.chats:
            raise ValueError("name cards (and the source folder of their files), tasks, or chats")
        if self.cards and self.source is None:
            raise ValueError("source: name the folder that the files of `cards` are relative to")
        return self
