"""Benchmarks -> instruction records: `llama-gene convert tasks`.

Writes `<out>/{train,dev,test}.jsonl` (one record per line, all tasks of the run together), `cards.json` (the cards with
the files, split note and row counts in effect) and a manifest with a ledger per file.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from data_convert.cards import Files, TaskCard, load_card
from data_convert.examples import Example, read_examples
from data_convert.prompts import choices, render

STAGE = "tasks"
SPLITS = ("train", "dev", "test")
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

    @model_validator(mode="after")
    def _note(self) -> TaskEntry:
        if self.files is not None and not self.split_note:
            raise ValueError("files differ from the card's: say in split_note what split this is, the report shows it")
        return self


class TasksRecipe(Recipe):
    """Instruction records of several tasks."""

    out: Path
    tasks: list[TaskEntry] = Field(min_length=1)
    wording: Literal["held_out", "shared"] = "held_out"
    """held_out: evaluation asks in words that training has not seen. shared: training uses the evaluation's wording among
    its paraphrases; for small models without a language of their own. The split note says which."""
    seed: int = 0


def convert(recipe: TasksRecipe, *, overwrite: bool = False) -> list[TaskCard]:
    """Write the records; return the cards in effect.

    Raises:
        UserError: output exists, unknown or repeated card, missing file or column, a file with more than half of its
            rows unusable.
    """
    check_absent(recipe.out, overwrite)
    jobs = [_resolve(entry) for entry in recipe.tasks]
    ids = [card.id for card, _ in jobs]
    if repeated := next((name for name in ids if ids.count(name) > 1), None):
        raise UserError(f"task '{repeated}' is in the recipe twice; the records' ids would be the same. Remove one")
    counts: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    cards: list[TaskCard] = []
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        handles = {split: (folder / f"{split}.jsonl").open("w", encoding="utf-8") for split in SPLITS}
        try:
            for card, entry in tqdm(jobs, desc="convert", unit="task", disable=None):
                splits, report, notes = _splits(card, entry, recipe.seed)
                for split, examples in splits.items():
                    for example in examples:
                        handles[split].write(json.dumps(_record(card, split, example, recipe), ensure_ascii=False) + "\n")
                if recipe.wording == "shared":
                    notes.append("the evaluation's wording is also among the training's")
                n = {split: len(examples) for split, examples in splits.items()}
                cards.append(card.model_copy(update={"n": n, "split_note": "; ".join([card.split_note, *notes])}))
                counts[card.id] = {**report, "n": n}
                inputs.update({f"{card.id}/{split}": fingerprint(path) for split, path in _paths(card, entry).items()})
        finally:
            for handle in handles.values():
                handle.close()
        dumped = [card.model_dump(mode="json") for card in cards]
        (folder / "cards.json").write_text(json.dumps(dumped, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return cards


def _resolve(entry: TaskEntry) -> tuple[TaskCard, TaskEntry]:
    card = load_card(entry.card)
    update: dict[str, Any] = {"files": entry.files or card.files, "split_note": entry.split_note or card.split_note}
    card = card.model_copy(update=update)
    for split, path in _paths(card, entry).items():
        if not path.is_file():
            raise UserError(f"{path}: no such file, the {split} rows of {card.id}; set source, or files with a split_note")
    if entry.train and not card.files.train:
        raise UserError(f"task {card.id}: 'train' limits its rows, but it has no train file")
    return card, entry


def _paths(card: TaskCard, entry: TaskEntry) -> dict[str, Path]:
    return {split: entry.source / file for split, file in card.files.model_dump().items() if file is not None}


def _splits(card: TaskCard, entry: TaskEntry, seed: int) -> tuple[dict[str, list[Example]], dict[str, Any], list[str]]:
    """Examples per split, the manifest's report, and what the split note must add."""
    splits: dict[str, list[Example]] = {}
    report: dict[str, Any] = {"files": {}}
    notes: list[str] = []
    for split, path in _paths(card, entry).items():
        splits[split], report["files"][split] = read_examples(card, path, path.relative_to(entry.source))
    if "train" in splits and "dev" not in splits:
        wanted = entry.dev or round(DEV_SHARE * len(splits["train"]))
        splits["train"], splits["dev"] = _cut_dev(splits["train"], wanted, seed)
        notes.append(f"dev is {len(splits['dev']):,} rows cut from train by seed {seed}")
        if not splits["train"] or not splits["dev"]:
            raise UserError(f"task {card.id}: cannot cut {wanted} dev rows from {len(splits['train']) + len(splits['dev'])} train rows")
    splits = {split: splits[split] for split in SPLITS if split in splits}
    for split, limit in (("train", entry.train), ("dev", entry.dev), ("test", entry.test)):
        found = splits.get(split, [])
        if limit is not None and limit < len(found):
            drawn = np.random.default_rng([seed, SPLITS.index(split)]).choice(len(found), size=limit, replace=False)
            splits[split] = [found[i] for i in sorted(drawn)]
            notes.append(f"{split} is a sample of {limit:,} of {len(found):,} rows by seed {seed}")
    trained = {example.key for example in splits.get("train", [])}
    report["inputs_also_in_train"] = {
        split: sum(example.key in trained for example in examples) for split, examples in splits.items() if split != "train" and trained
    }
    return splits, report, notes


def _cut_dev(train: list[Example], wanted: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Rows with the same inputs go to the same side, so `wanted` may be passed by a few."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, example in enumerate(train):
        groups.setdefault(example.key, []).append(index)
    keys = list(groups)
    cut: set[int] = set()
    for position in np.random.default_rng([seed, 3]).permutation(len(keys)):
        if len(cut) >= wanted:
            break
        cut.update(groups[keys[position]])
    return [example for i, example in enumerate(train) if i not in cut], [train[i] for i in sorted(cut)]


def _record(card: TaskCard, split: str, example: Example, recipe: TasksRecipe) -> dict[str, Any]:
    identity = f"{card.id}/{split}/{example.row}"
    template, rng = card.prompts.eval, None
    if split == "train":
        rng = random.Random(f"{recipe.seed}/{identity}")  # its own stream: a row's prompt does not depend on the rows before it
        shared = [card.prompts.eval] if recipe.wording == "shared" else []
        template = rng.choice([*card.prompts.train, *shared])
    return {
        "id": identity,
        "task": card.id,
        "split": split,
        "kind": card.kind,
        "prompt": [{"role": "user", "content": render(card, example.inputs, template, rng)}],
        "completion": [{"role": "assistant", "content": example.answer}],
        "label": example.label,
        "choices": choices(card),
        "inputs": [{"name": item.name, "modality": item.modality, "letters": example.inputs[item.name]} for item in card.inputs],
        "source": example.place,
    }
