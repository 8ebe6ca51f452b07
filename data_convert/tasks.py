"""Benchmarks -> instruction records: `llama-gene convert tasks`.

Writes `<out>/{train,dev,test}.jsonl` (one record per line, all tasks of the run together), `cards.json` (the cards with
the files, labels, split note and row counts in effect) and a manifest with a ledger per file. Files are read twice: once to check
every row and choose, keeping a key and a class code per row, and once to write.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from data_convert.card_fields import CLASSIFICATION, Files
from data_convert.cards import TaskCard, find_cards, load_card
from data_convert.examples import Reader, TaskLedger
from data_convert.mixing import SPLITS, Ints, Mix, balanced_size, cut, draw, shares, task_stream
from data_convert.records import RecordWriter
from data_convert.token_lengths import TokenLengths

STAGE = "tasks"
DEV_SHARE = 0.1
"""Share of train that becomes dev where a benchmark has no dev file and the recipe names no number."""


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
    balance: bool = False
    """Draw train rows so that all classes are equally frequent, as far as `train` and the rows allow."""
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
    source: Path | None = None
    """Folder that the files of `cards` are relative to."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do where a card's file is not there: stop, or convert what is there and say so."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of a file's rows that may be broken and set aside; more stop the run. Rows left out on purpose do not count."""
    mix: Mix | None = None
    """Share the train rows out among the tasks: `mix={records: 100000, temperature: 2}`."""
    tokenizer: Path | None = None
    """Tokenizer folder: report how many tokens prompts and answers of each task have."""
    wording: Literal["held_out", "shared"] = "held_out"
    """held_out: evaluation asks in words that training has not seen. shared: training uses the evaluation's wording among
    its paraphrases; for small models without a language of their own. The split note says which."""
    seed: int = 0

    @model_validator(mode="after")
    def _something(self) -> TasksRecipe:
        if not self.tasks and not self.cards:
            raise ValueError("name cards (and the source folder of their files), or tasks")
        if self.cards and self.source is None:
            raise ValueError("source: name the folder that the files of `cards` are relative to")
        return self


@dataclass
class _Job:
    """One task on its way: its reader, what was found, and which rows of which file go where."""

    reader: Reader
    entry: TaskEntry
    files: dict[str, str]
    notes: list[str] = field(default_factory=list)
    ledgers: dict[str, TaskLedger] = field(default_factory=dict)
    keys: dict[str, Ints] = field(default_factory=dict)
    """File's split -> hash of the inputs per usable row."""
    codes: dict[str, Ints] = field(default_factory=dict)
    """File's split -> class code per usable row; all 0 where the task has no classes."""
    rows: dict[str, tuple[str, Ints]] = field(default_factory=dict)
    """Split -> the file's split that its rows come from, and their numbers."""

    @property
    def card(self) -> TaskCard:
        return self.reader.card

    @property
    def balance(self) -> Ints | None:
        return self.codes["train"] if self.entry.balance else None


def convert(recipe: TasksRecipe, *, overwrite: bool = False) -> list[TaskCard]:
    """Write the records; return the cards in effect.

    Raises:
        UserError: output exists, unknown or repeated card, missing file or column, a file with more than `max_broken` of its
            rows broken, reverse complements asked for where they are not the same task.
    """
    check_absent(recipe.out, overwrite)
    jobs = [_job(card, entry, recipe) for card, entry in _entries(recipe)]
    ids = [job.card.id for job in jobs]
    if repeated := next((name for name in ids if ids.count(name) > 1), None):
        raise UserError(f"task '{repeated}' is in the recipe twice; the records' ids would be the same. Remove one")
    lengths = TokenLengths(recipe.tokenizer, recipe.seed) if recipe.tokenizer is not None else None
    for job in tqdm(jobs, desc="check", unit="task", disable=None):
        _survey(job, recipe.max_broken)
        _split(job, recipe.seed)
    if recipe.mix is not None:
        _mix(jobs, recipe.mix, recipe.seed)
    counts: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    cards: list[TaskCard] = []
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        handles = {split: (folder / f"{split}.jsonl").open("w", encoding="utf-8") for split in SPLITS}
        try:
            for job in tqdm(jobs, desc="write", unit="task", disable=None):
                n = {split: 0 for split in job.rows}
                classes = {split: Counter[str]() for split in job.rows}
                for split, line, record in _records(job, recipe):
                    handles[split].write(line)
                    n[split] += 1
                    if job.card.kind in CLASSIFICATION:
                        classes[split][record["label"]] += 1
                    if lengths is not None:
                        lengths.add(record)
                if recipe.wording == "shared":
                    job.notes.append("the evaluation's wording is also among the training's")
                cards.append(job.card.model_copy(update={"n": n, "split_note": "; ".join([job.card.split_note, *job.notes])}))
                files = {split: ledger.as_dict() for split, ledger in job.ledgers.items()}
                counts[job.card.id] = {"files": files, "inputs_also_in_train": _also_in_train(job), "n": n}
                if job.card.kind in CLASSIFICATION:
                    counts[job.card.id]["classes"] = {split: dict(sorted(found.items())) for split, found in classes.items()}
                if lengths is not None:
                    counts[job.card.id]["tokens"] = lengths.report()
                paths = {split: job.entry.source / file for split, file in job.files.items()}
                inputs.update({f"{job.card.id}/{split}": fingerprint(path) for split, path in paths.items()})
        finally:
            for handle in handles.values():
                handle.close()
        dumped = [card.model_dump(mode="json") for card in cards]
        (folder / "cards.json").write_text(json.dumps(dumped, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return cards


def summary(folder: Path) -> str:
    """The ledger of a folder of records as a table: rows read, written and rejected by file, and token lengths where counted."""
    counts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["counts"]
    lines = [f"{'task':<34}{'file':<7}{'read':>9}{'usable':>9}{'rejected':>9}  reasons"]
    for task, found in counts.items():
        for split, ledger in found["files"].items():
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in ledger["reasons"].items())
            lines.append(f"{task:<34}{split:<7}{ledger['read']:>9,}{ledger['written']:>9,}{ledger['rejected']:>9,}  {reasons}".rstrip())
        lines.append(f"{'':<34}records: " + ", ".join(f"{split} {count:,}" for split, count in found["n"].items()))
        for split, part in found.get("tokens", {}).items():
            shown = "; ".join(f"{what} " + ", ".join(f"{name} {value}" for name, value in part[what].items()) for what in ("prompt", "answer"))
            lines.append(f"{'':<34}tokens of {part['n']:,} {split} records: {shown}")
    return "\n".join(lines)


def _entries(recipe: TasksRecipe) -> Iterator[tuple[TaskCard, TaskEntry]]:
    patterns = [pattern.strip() for item in recipe.cards for pattern in item.split(",") if pattern.strip()]
    for card in find_cards(patterns):
        assert recipe.source is not None, "the recipe's own check"
        yield card, TaskEntry(card=card.id, source=recipe.source)
    for entry in recipe.tasks:
        yield load_card(entry.card), entry


def _job(card: TaskCard, entry: TaskEntry, recipe: TasksRecipe) -> _Job:
    """Everything about one task that can be refused before a row is read."""
    update: dict[str, Any] = {"files": entry.files or card.files, "split_note": entry.split_note or card.split_note}
    card = card.model_copy(update=update)
    files = {split: file for split, file in card.files.model_dump().items() if file is not None}
    absent = [split for split, file in files.items() if not (entry.source / file).is_file()]
    if absent and (recipe.missing == "refuse" or len(absent) == len(files)):
        raise UserError(
            f"{entry.source / files[absent[0]]}: no such file, the {absent[0]} rows of {card.id}; set source, or files with a split_note, "
            "or missing=skip to convert the files that are there"
        )
    for item in card.inputs:
        if item.sequences and not (entry.source / item.sequences).is_file():
            raise UserError(f"{entry.source / item.sequences}: no such file, the sequences of {card.id}; set source")
    files = {split: file for split, file in files.items() if split not in absent}
    if entry.train and "train" not in files:
        raise UserError(f"task {card.id}: 'train' limits its rows, but it has no train file")
    if entry.balance and card.kind not in CLASSIFICATION:
        raise UserError(f"task {card.id}: 'balance' is for classes, and this task is {card.kind}; remove it")
    if entry.reverse_complement and not card.strand_symmetric:
        raise UserError(
            f"task {card.id}: its answer is not known to be the same for the reverse complement (strand_symmetric: false in the card); "
            "remove reverse_complement"
        )
    reader = Reader(card, entry.source)
    notes = [reader.note] if reader.note else []
    if absent:
        notes.append(f"no {' and no '.join(absent)} file was there")
    return _Job(reader, entry, files, notes)


def _survey(job: _Job, max_broken: float) -> None:
    """Read every row once: ledgers, keys of the inputs, class codes."""
    order = {label.name: code for code, label in enumerate(job.card.labels.values())} if job.card.kind in CLASSIFICATION else {}
    for split, file in job.files.items():
        ledger = TaskLedger()
        keys: list[int] = []
        codes: list[int] = []
        for example in job.reader.read(file, ledger):
            keys.append(hash(tuple(example.inputs.values())))
            codes.append(order.get(example.answer, 0))
        ledger.check(job.entry.source / file, job.card.id, max_broken)
        job.ledgers[split], job.keys[split], job.codes[split] = ledger, np.array(keys, dtype=np.int64), np.array(codes, dtype=np.int64)


def _split(job: _Job, seed: int) -> None:
    """Decide which rows go where within the task, and say so in the notes."""
    card, entry, files = job.card, job.entry, job.files
    job.rows = {split: (split, np.arange(len(job.keys[split]))) for split in files}
    if "train" in files:
        rows = job.rows["train"][1]
        whole = len(rows)
        wanted = {"dev": entry.dev or round(DEV_SHARE * whole)} if card.files.dev is None else {}
        if card.files.test is None and card.test_share:
            wanted["test"] = entry.test or round(card.test_share * whole)
        for split in ("test", "dev"):
            if split not in wanted:
                continue
            rows, taken = cut(rows, job.keys["train"], wanted[split], split, seed)
            if not len(rows) or not len(taken):
                raise UserError(f"task {card.id}: cannot cut {wanted[split]} {split} rows from {whole} train rows")
            job.rows[split] = ("train", taken)
            job.notes.append(f"{split} is {len(taken):,} rows cut from train by seed {seed}")
        job.rows["train"] = ("train", rows)
    for position, (split, limit) in enumerate((("train", entry.train), ("dev", entry.dev), ("test", entry.test))):
        if split not in job.rows:
            continue
        file, rows = job.rows[split]
        codes = job.balance if split == "train" else None
        wanted_rows = limit or (balanced_size(rows, codes) if codes is not None else len(rows))
        if (limit is not None and limit < len(rows)) or (codes is not None and wanted_rows < len(rows)):
            if file == split:  # what was cut is as large as asked for
                job.rows[split] = (file, draw(rows, wanted_rows, codes, [seed, position]))
                how = ", classes balanced" if codes is not None else ""
                job.notes.append(f"{split} is a sample of {len(job.rows[split][1]):,} of {len(rows):,} rows by seed {seed}{how}")
    job.rows = {split: job.rows[split] for split in SPLITS if split in job.rows}
    if entry.reverse_complement:
        job.notes.append("train also holds the reverse complement of each row")


def _mix(jobs: list[_Job], mix: Mix, seed: int) -> None:
    mixed = [job for job in jobs if "train" in job.rows]
    parts = shares(mix, [len(job.rows["train"][1]) for job in mixed])
    for job, part in zip(mixed, parts, strict=True):
        rows = job.rows["train"][1]
        if part < len(rows):
            job.rows["train"] = ("train", draw(rows, part, job.balance, task_stream(seed, job.card.id)))
            job.notes.append(f"{part:,} of {len(rows):,} train rows in a mixture of {mix.records:,} at temperature {mix.temperature:g}")


def _records(job: _Job, recipe: TasksRecipe) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Split, JSON line and record of every chosen row, file by file in the file's order."""
    writer = RecordWriter(job.card, recipe.wording, recipe.seed)
    for name, file in job.files.items():
        to = np.zeros(len(job.keys[name]), dtype=np.int8)
        for place, split in enumerate(SPLITS, 1):
            if split in job.rows and job.rows[split][0] == name:
                to[job.rows[split][1]] = place
        ledger = TaskLedger()
        for example, place in zip(job.reader.read(file, ledger), to.tolist(), strict=True):
            if place:
                split = SPLITS[place - 1]
                for record in writer.records(example, split, file, both_strands=job.entry.reverse_complement and split == "train"):
                    yield split, writer.line(record), record


def _also_in_train(job: _Job) -> dict[str, int]:
    if "train" not in job.rows:
        return {}
    file, rows = job.rows["train"]
    trained = job.keys[file][rows]
    return {split: int(np.isin(job.keys[file][rows], trained).sum()) for split, (file, rows) in job.rows.items() if split != "train"}
