"""Small records folders, written as `convert tasks` writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from artefacts.folder import write_manifest
from data_convert.tasks.cards import TaskCard, load_card
from data_convert.tasks.prompts import render

SPLITS = ("train", "dev", "test")
CARDS = {
    "one": "sim/promoter",
    "two": "sim/promoter",
    "pair": "sim/gene_protein",
    "protein": "sim/stability",
    "ppi": "lucaone_type/ppi_yeast",
}
"""Task -> the card it is a copy of; `one` and `two` have the same labels."""

Row = tuple[str, str, Sequence[str], Any]
"""task, split, sequences of the inputs, label: for classes a number, 0 or 1."""


@cache
def card_of(task: str) -> TaskCard:
    return load_card(CARDS[task]).model_copy(update={"id": f"t/{task}"})


def write_records(folder: Path, rows: Sequence[Row]) -> Path:
    """One folder with the rows in their order; ids number the rows of each task and split."""
    folder.mkdir(parents=True)
    tasks = sorted({row[0] for row in rows})
    cards = {task: card_of(task) for task in tasks}
    counts: dict[tuple[str, str], int] = {}
    handles = {split: (folder / f"{split}.jsonl").open("w", encoding="utf-8") for split in SPLITS}
    for task, split, sequences, label in rows:
        card, number = cards[task], counts.get((task, split), 0)
        counts[task, split] = number + 1
        inputs = {item.name: letters for item, letters in zip(card.inputs, sequences, strict=True)}
        if card.labels:
            label = text = list(card.labels.values())[label].name
        else:
            text = card.grid.nearest(label)
        template = card.prompts.train[0] if split == "train" else card.prompts.eval
        prompt = render(card, inputs, template, random.Random(number) if split == "train" else None)
        record = {
            "id": f"{card.id}/{split}/{number}",
            "task": card.id,
            "split": split,
            "kind": card.kind,
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": text}],
            "label": label,
            "choices": card.choices,
            "inputs": [{"name": item.name, "modality": item.modality, "letters": inputs[item.name]} for item in card.inputs],
            "source": f"{split}.csv:{number + 2}",
        }
        handles[split].write(json.dumps(record) + "\n")
    for handle in handles.values():
        handle.close()
    n = {task: {split: counts.get((task, split), 0) for split in SPLITS} for task in tasks}
    dumped = [cards[task].model_copy(update={"n": n[task]}).model_dump(mode="json") for task in tasks]
    (folder / "cards.json").write_text(json.dumps(dumped), encoding="utf-8")
    write_manifest(
        folder, "tasks", recipe={"seed": 0, "wording": "held_out"}, inputs={}, counts={f"t/{task}": {"n": n[task]} for task in tasks}
    )
    return folder


def letters(rng: random.Random, alphabet: str, size: int) -> str:
    return "".join(rng.choices(alphabet, k=size))


def mutated(rng: random.Random, sequence: str, identity: float, alphabet: str, gaps: float = 0.1) -> str:
    """A copy with `1 - identity` of the letters changed, of these changes `gaps` insertions or deletions."""
    out = []
    for letter in sequence:
        if rng.random() < identity:
            out.append(letter)
        elif (kind := rng.random()) < gaps / 2:
            continue
        elif kind < gaps:
            out += [letter, rng.choice(alphabet)]
        else:
            out.append(rng.choice([other for other in alphabet if other != letter]))
    return "".join(out)
