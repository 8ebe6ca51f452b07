"""Benchmarks -> instruction records: `llama-gene convert tasks`.

Writes `<out>/{train,dev,test}.jsonl` (one record per line, all tasks of the run together), `cards.json` (the cards with
the files, labels, split note and row counts in effect), with `parquet` what publish.py adds, and a manifest with a ledger per file.
Files are read twice: once to check every row and choose, keeping a key and a class code per row, and once to write. Each task is a
job of the crew for either; a folder of its own holds what it found and wrote until all are put together, in the recipe's order.
"""

import json
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import SET_ASIDE, SET_ASIDE_HEAD, UserError
from artefacts.folder import check_absent, new_folder, read_manifest, write_manifest
from data_convert.corpus.crew import run_jobs
from data_convert.splits.grouping import Grouping
from data_convert.tasks.cards import TaskCard, find_cards, load_card
from data_convert.tasks.chats import chat_card
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.mixing import MIX, SPLITS, Ints, balanced_size, cut, draw, shares
from data_convert.tasks.places import Place, how_to_get, identity, one_by_one, places
from data_convert.tasks.publish import publish
from data_convert.tasks.records import RecordWriter
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from data_convert.tasks.token_lengths import TokenLengths
from sequences.columnar import HubSplit

STAGE = "tasks"
DEV_SHARE = 0.1
"""Share of train that becomes dev where a benchmark has no dev file and the recipe names no number."""
FOUND, WRITTEN, ARRAYS = "found.json", "written.json", "rows.npz"
"""In a job's folder."""
PER_ROW = ("keys", "answers", "codes")


@dataclass
class _Job:
    """One task on its way: its reader, what was found, and which rows of which file go where."""

    reader: Reader
    entry: TaskEntry
    files: dict[str, str]
    notes: list[str] = field(default_factory=list)
    ledgers: dict[str, TaskLedger] = field(default_factory=dict)
    keys: dict[str, Ints] = field(default_factory=dict)
    """File's split -> hash of the inputs per usable row, the same for a swapped pair where the card says it is the same."""
    answers: dict[str, Ints] = field(default_factory=dict)
    """File's split -> hash of the answer per usable row."""
    codes: dict[str, Ints] = field(default_factory=dict)
    """File's split -> class code per usable row; all 0 where the task has no classes."""
    rows: dict[str, tuple[str, Ints]] = field(default_factory=dict)
    """Split -> the file's split that its rows come from, and their numbers."""
    grouped: dict[str, Any] | None = None
    """What the split by clusters came to, for the manifest."""

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
    jobs, absent = list[_Job](), list[str]()
    for card, entry in _entries(recipe):
        if recipe.missing == "skip" and entry not in recipe.tasks and not any(_places(card, entry).values()):
            absent.append(card.id)
        else:
            jobs.append(_job(card, entry, recipe))
    if not jobs:
        raise UserError(f"{recipe.source}: not one file of {', '.join(recipe.cards)} lies here; set source to the folder that holds them")
    ids = [job.card.id for job in jobs]
    if repeated := next((name for name in ids if ids.count(name) > 1), None):
        raise UserError(f"task '{repeated}' is in the recipe twice; the records' ids would be the same. Remove one")
    _say_licences(jobs)
    if recipe.tokenizer is not None:
        _lengths.cache_clear()  # the folder may hold another tokenizer than before
        _lengths(recipe.tokenizer, recipe.seed)
    counts: dict[str, Any] = {name: {"files": {}, "n": {}, "skipped": "no file is there"} for name in absent}
    inputs: dict[str, str] = {}
    cards: list[TaskCard] = []
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        parts = [folder / "parts" / f"{number:05d}" for number in range(len(jobs))]
        tasks = [(job, recipe, part) for job, part in zip(jobs, parts, strict=True)]
        run_jobs(_check, tasks, recipe.workers, "check tasks", recipe.engine)
        mixed = _mixed(recipe, parts)
        run_jobs(_write, [(*task, mixed.get(task[-1])) for task in tasks], recipe.workers, "write tasks", recipe.engine)
        for name in (*(f"{split}.jsonl" for split in SPLITS), SET_ASIDE):
            with (folder / name).open("wb") as whole:
                whole.write(SET_ASIDE_HEAD.encode() if name == SET_ASIDE and any((part / name).stat().st_size for part in parts) else b"")
                for part in parts:
                    with (part / name).open("rb") as lines:
                        shutil.copyfileobj(lines, whole)
        if not (folder / SET_ASIDE).stat().st_size:
            (folder / SET_ASIDE).unlink()
        for job, part in zip(jobs, parts, strict=True):
            found = json.loads((part / WRITTEN).read_text(encoding="utf-8"))
            cards.append(job.card.model_copy(update={"n": found["counts"]["n"], "split_note": found["split_note"]}))
            counts[job.card.id] = found["counts"]
            inputs.update({f"{job.card.id}/{split}": identity(places) for split, places in _places(job.card, job.entry).items() if places})
        shutil.rmtree(folder / "parts")
        dumped = [card.model_dump(mode="json") for card in cards]
        (folder / "cards.json").write_text(json.dumps(dumped, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if recipe.parquet:
            publish(folder, cards)
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return cards


def _check(task: tuple[_Job, TasksRecipe, Path]) -> None:
    """Read every row of a task once, decide which go where, and keep that in the folder."""
    job, recipe, folder = task
    _survey(job, recipe.max_broken)
    _split(job, recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {f"rows/{split}/{file}": numbers for split, (file, numbers) in job.rows.items()}
    per_row = {f"{name}/{split}": values for name in PER_ROW for split, values in getattr(job, name).items()}
    np.savez(folder / ARRAYS, **rows, **per_row)  # type: ignore[arg-type]
    found = {
        "notes": job.notes,
        "grouped": job.grouped,
        "files": {split: ledger.as_dict() for split, ledger in job.ledgers.items()},
        "train": len(job.rows["train"][1]) if "train" in job.rows else None,
    }
    (folder / FOUND).write_text(json.dumps(found), encoding="utf-8")
    aside = [f"{place}\t{reason}\n" for ledger in job.ledgers.values() for place, reason in ledger.listed()]
    (folder / SET_ASIDE).write_text("".join(aside), encoding="utf-8")


def _mixed(recipe: TasksRecipe, folders: list[Path]) -> dict[Path, int]:
    """Train rows of each task in the mixture, where one is asked for."""
    if recipe.mix is None:
        return {}
    sizes = {folder: json.loads((folder / FOUND).read_text(encoding="utf-8"))["train"] for folder in folders}
    trained = {folder: size for folder, size in sizes.items() if size is not None}
    return dict(zip(trained, shares(recipe.mix, list(trained.values())), strict=True))


def _write(task: tuple[_Job, TasksRecipe, Path, int | None]) -> None:
    """Write the records of a task, and what its card and the manifest say of them, into the folder that `_check` left."""
    job, recipe, folder, share = task
    found = json.loads((folder / FOUND).read_text(encoding="utf-8"))
    job.notes, job.grouped = found["notes"], found["grouped"]
    with np.load(folder / ARRAYS) as arrays:
        for name in PER_ROW:
            getattr(job, name).update({split: arrays[f"{name}/{split}"] for split in job.files})
        job.rows = {
            split: (file, arrays[f"rows/{split}/{file}"]) for split in SPLITS for file in job.files if f"rows/{split}/{file}" in arrays
        }
    if share is not None:
        _mix(job, recipe, share)
    lengths = _lengths(recipe.tokenizer, recipe.seed) if recipe.tokenizer is not None else None
    n = dict.fromkeys(job.rows, 0)
    classes = {split: Counter[str]() for split in job.rows}
    with ExitStack() as stack:
        handles = {split: stack.enter_context((folder / f"{split}.jsonl").open("w", encoding="utf-8")) for split in SPLITS}
        for split, line, record in _records(job, recipe):
            handles[split].write(line)
            n[split] += 1
            if job.card.answers.one_label:
                classes[split][record["label"]] += 1
            if lengths is not None:
                lengths.add(record)
    if recipe.wording == "shared":
        job.notes.append("the evaluation's wording is also among the training's")
    counts = {"files": found["files"], "inputs_also_in_train": _also_in_train(job), "n": n, "same_input_other_answer": _conflicts(job)}
    if job.grouped is not None:
        counts["grouped"] = job.grouped
    if job.card.answers.one_label:
        counts["classes"] = {split: dict(sorted(of_split.items())) for split, of_split in classes.items()}
    if lengths is not None:
        counts["tokens"] = lengths.report()
    written = {"split_note": "; ".join([job.card.split_note, *job.notes]), "counts": counts}
    (folder / WRITTEN).write_text(json.dumps(written), encoding="utf-8")


@lru_cache(maxsize=1)
def _lengths(tokenizer: Path, seed: int) -> TokenLengths:
    return TokenLengths(tokenizer, seed)


def _entries(recipe: TasksRecipe) -> Iterator[tuple[TaskCard, TaskEntry]]:
    patterns = [pattern.strip() for item in recipe.cards for pattern in item.split(",") if pattern.strip()]
    for card in find_cards(patterns):
        assert recipe.source is not None, "the recipe's own check"
        shared = {"source": recipe.source, "max_letters": recipe.max_letters, "group": recipe.group}
        entry = TaskEntry.model_validate({"card": card.id, **shared})
        yield from ((each, entry) for each in one_by_one(card, recipe.source))
    for path in recipe.chats:
        card = chat_card(path)
        yield card, TaskEntry.model_validate({"card": card.id, "source": path.parent, "group": recipe.group})
    for entry in recipe.tasks:
        card = load_card(entry.card)
        card = card.model_copy(update={"files": entry.files or card.files})
        yield from ((each, entry) for each in one_by_one(card, entry.source))


def _places(card: TaskCard, entry: TaskEntry) -> dict[str, list[Place]]:
    """Split -> what there is of the file that the entry or else the card names."""
    files = (entry.files or card.files).model_dump()
    return {split: places(entry.source, file, card.where) for split, file in files.items() if file is not None}


def _say_licences(jobs: list[_Job]) -> None:
    """Of the datasets of the Hub that are about to be downloaded."""
    found = [(place.path, job.card.source.licence) for job in jobs for its in _places(job.card, job.entry).values() for place in its]
    for name, licence in {path.name: licence for path, licence in found if isinstance(path, HubSplit) and not path.copy.is_dir()}.items():
        print(f"downloads {name} from the Hub; its licence: {licence or 'not known'}", file=sys.stderr)


def _job(card: TaskCard, entry: TaskEntry, recipe: TasksRecipe) -> _Job:
    """Everything about one task that can be refused before a row is read."""
    update: dict[str, Any] = {"files": entry.files or card.files, "split_note": entry.split_note or card.split_note}
    if entry.max_letters is not None:
        most = entry.max_letters
        update["max_letters"] = min(card.max_letters, most)
        update["inputs"] = [item.model_copy(update={"max_letters": min(item.max_letters or most, most)}) for item in card.inputs]
    card = card.model_copy(update=update)
    files = {split: file for split, file in card.files.model_dump().items() if file is not None}
    absent = [split for split, found in _places(card, entry).items() if not found]
    if absent and (recipe.missing == "refuse" or len(absent) == len(files)):
        raise UserError(
            f"{entry.source / files[absent[0]]}: no such file, the {absent[0]} rows of {card.id}; set source, or files with a split_note, "
            f"or missing=skip to convert the files that are there{how_to_get(files[absent[0]], entry.source)}"
        )
    for item in card.inputs:
        beside = item.region.genome if item.region is not None else item.sequences
        if beside and not (entry.source / beside).is_file():
            raise UserError(
                f"{entry.source / beside}: no such file, the sequences of {card.id}; set source{how_to_get(beside, entry.source)}"
            )
    files = {split: file for split, file in files.items() if split not in absent}
    if entry.train and "train" not in files:
        raise UserError(f"task {card.id}: 'train' limits its rows, but it has no train file")
    if entry.balance and not card.answers.one_label:
        raise UserError(f"task {card.id}: 'balance' is for classes, and this task is {card.kind}; remove it")
    if entry.reverse_complement and not card.strand_symmetric:
        raise UserError(
            f"task {card.id}: its answer is not known to be the same for the reverse complement (strand_symmetric: false in the card); "
            "remove reverse_complement"
        )
    reader = Reader(card, entry.source)
    notes = [reader.note] if reader.note else []
    if entry.max_letters is not None:
        notes.append(f"inputs of at most {entry.max_letters:,} letters ({card.crop})")
    if absent:
        notes.append(f"no {' and no '.join(absent)} file was there")
    return _Job(reader, entry, files, notes)


def _survey(job: _Job, max_broken: float) -> None:
    """Read every row once: ledgers, keys of the inputs, class codes."""
    order = {label.name: code for code, label in enumerate(job.card.labels.values())} if job.card.answers.one_label else {}
    for split, file in job.files.items():
        ledger = TaskLedger(max_broken)
        keys: list[int] = []
        answers: list[int] = []
        codes: list[int] = []
        for example in job.reader.read(file, ledger, split):
            letters, answer = example.opening
            keys.append(hash(tuple(sorted(letters) if job.card.symmetric else letters)))
            answers.append(hash(answer))
            codes.append(order.get(example.answer, 0))
        ledger.close(job.entry.source / file, TaskLedger(), "row", f" of {job.card.id}")
        job.ledgers[split] = ledger
        job.keys[split], job.answers[split], job.codes[split] = (np.array(found, dtype=np.int64) for found in (keys, answers, codes))


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
                raise UserError(
                    f"task {card.id}: cannot cut {wanted[split]} {split} rows from {whole} train rows; bring more rows, or a {split} file"
                )
            job.rows[split] = ("train", taken)
        job.rows["train"] = ("train", rows)
        if entry.group is not None and wanted:
            _group(job, entry.group, seed)
        elif entry.group is not None:
            job.notes.append("group changes nothing: no split is cut from train")
        for split in wanted:
            job.notes.append(f"{split} is {len(job.rows[split][1]):,} rows cut from train by seed {seed}")
    for position, (split, limit) in enumerate((("train", entry.train), ("dev", entry.dev), ("test", entry.test))):
        if split not in job.rows or job.rows[split][0] != split:
            continue  # what was cut from train is as large as asked for
        file, rows = job.rows[split]
        codes = job.balance if split == "train" else None
        wanted_rows = limit or (balanced_size(rows, codes) if codes is not None else len(rows))
        if (limit is not None and limit < len(rows)) or (codes is not None and wanted_rows < len(rows)):
            job.rows[split] = (file, draw(rows, wanted_rows, codes, [seed, position]))
            how = ", classes balanced" if codes is not None else ""
            job.notes.append(f"{split} is a sample of {len(job.rows[split][1]):,} of {len(rows):,} rows by seed {seed}{how}")
    job.rows = {split: job.rows[split] for split in SPLITS if split in job.rows}
    if entry.reverse_complement:
        job.notes.append("train also holds the reverse complement of each row")


def _group(job: _Job, how: Grouping, seed: int) -> None:
    """Draw the rows that were cut from train again, so that no cluster stands on two sides; sizes and classes stay close."""
    from data_convert.splits.audit import grouped_split

    asked = {split: len(rows) for split, (file, rows) in job.rows.items() if file == "train"}
    split = np.zeros(len(job.keys["train"]), dtype=np.int64)
    for name in asked:
        split[job.rows[name][1]] = SPLITS.index(name)
    found = grouped_split(job.card, job.reader.read(job.files["train"], TaskLedger(), "train"), split, how, seed)
    job.rows |= {name: ("train", np.flatnonzero(found.split == SPLITS.index(name))) for name in asked}
    (report,) = found.report
    job.grouped = {"rule": how.rule, "asked": asked, **{name: report[name] for name in ("groups", "largest_group", "left_out")}}
    if empty := next((name for name in asked if not len(job.rows[name][1])), None):
        raise UserError(
            f"task {job.card.id}: cannot cut {asked[empty]} {empty} rows from train so that no cluster stands on two sides: the largest of "
            f"{report['groups']} groups holds {report['largest_group']:.0%} of the rows. Leave out group, raise its identity, or for pairs "
            "say group.pairs=unseen"
        )
    left_out = f", {report['left_out']:,} rows left out: their inputs are on two sides" if report["left_out"] else ""
    job.notes.append(f"no group stands on two sides of what is cut from train ({how.rule}{left_out})")


def _mix(job: _Job, recipe: TasksRecipe, part: int) -> None:
    mix, rows = recipe.mix, job.rows["train"][1]
    if mix is not None and part < len(rows):
        stream = [recipe.seed, MIX, zlib.crc32(job.card.id.encode())]  # does not depend on which other tasks there are
        job.rows["train"] = ("train", draw(rows, part, job.balance, stream))
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
        for example, place in zip(job.reader.read(file, ledger, name), to.tolist(), strict=True):
            if place:
                split = SPLITS[place - 1]
                for record in writer.records(example, split, both_strands=job.entry.reverse_complement and split == "train"):
                    yield split, writer.line(record), record


def _also_in_train(job: _Job) -> dict[str, int]:
    if "train" not in job.rows:
        return {}
    file, rows = job.rows["train"]
    trained = job.keys[file][rows]
    return {split: int(np.isin(job.keys[file][rows], trained).sum()) for split, (file, rows) in job.rows.items() if split != "train"}


def _conflicts(job: _Job) -> dict[str, int]:
    """Split -> rows whose input also stands with another answer, in any split."""
    of_split = {split: job.keys[file][rows] for split, (file, rows) in job.rows.items()}
    keys = np.concatenate([*of_split.values()])
    answers = np.concatenate([job.answers[file][rows] for file, rows in job.rows.values()])
    order = np.lexsort((answers, keys))
    keys, answers = keys[order], answers[order]
    several = keys[1:][(keys[1:] == keys[:-1]) & (answers[1:] != answers[:-1])]
    return {split: int(np.isin(mine, several).sum()) for split, mine in of_split.items()}


def summary(folder: Path) -> str:
    """The ledger as a table for the terminal: rows read, written and rejected by file with the reasons, records by split, what
    disagrees, and token lengths where counted."""
    lines = [f"{'task':<34}{'file':<7}{'read':>9}{'written':>9}{'rejected':>9}  reasons"]
    for task, found in read_manifest(folder, "tasks")["counts"].items():
        if "skipped" in found:
            lines.append(f"{task:<34}{found['skipped']}: skipped")
            continue
        for split, ledger in found["files"].items():
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in ledger["reasons"].items())
            changed = f" ({ledger['cropped']:,} cropped)" if ledger["cropped"] else ""
            changed += "".join(f" ({count:,} {note})" for note, count in ledger.get("notes", {}).items())
            lines.append(
                f"{task:<34}{split:<7}{ledger['read']:>9,}{ledger['written']:>9,}{ledger['rejected']:>9,}  {reasons}{changed}".rstrip()
            )
        lines.append(f"{'':<34}records: " + ", ".join(f"{split} {count:,}" for split, count in found["n"].items()))
        if other := {split: count for split, count in found.get("same_input_other_answer", {}).items() if count}:
            rows = ", ".join(f"{split} {count:,}" for split, count in other.items())
            lines.append(f"{'':<34}the same input stands with another answer: {rows}")
        for split, part in found.get("tokens", {}).items():
            shown = [f"{what} " + ", ".join(f"{name} {value:,}" for name, value in part[what].items()) for what in ("prompt", "answer")]
            lines.append(f"{'':<34}tokens in {part['n']:,} {split} records: {'; '.join(shown)}")
    if (folder / SET_ASIDE).is_file():
        lines.append(f"rows set aside: {folder / SET_ASIDE}")
    return "\n".join(lines)
