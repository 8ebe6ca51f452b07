"""Invented records of every kind of answer, for tests that ask a model."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

from data_convert.tasks.cards import load_card
from data_convert.tasks.prompts import render

KINDS: dict[str, list[str]] = {
    "binary": ["promoter", "background"],
    "multiclass": ["donor", "acceptor", "neither of them"],
    "multilabel": ["nucleus", "membrane", "cytosol"],
    "regression": [f"{step / 10:.1f}" for step in range(3, 9)],
    "text": [],
}
LABELS = {"regression": 0.42, "multilabel": ["nucleus"]}


def record(kind: str, number: int, draw: random.Random) -> dict[str, Any]:
    letters = "".join(draw.choices("ACGT", k=draw.randint(5, 60)))
    names = KINDS[kind]
    answer = draw.choice(names or ["Binds ATP.", "Cleaves DNA."])
    return {
        "id": f"{kind}/{number}",
        "task": kind,
        "split": "test",
        "kind": kind,
        "prompt": [{"role": "user", "content": f"What is <dna>{letters}</dna>? One of: {', '.join(names)}."}],
        "completion": [{"role": "assistant", "content": answer}],
        "label": LABELS.get(kind, answer),
        "choices": names,
        "inputs": [{"name": "sequence", "modality": "dna", "letters": letters}],
        "source": "invented",
    }


def records(each: int, kinds: list[str] | None = None) -> list[dict[str, Any]]:
    """Tasks take turns, so that order must be restored."""
    draw = random.Random(2)
    return [record(kind, number, draw) for number in range(each) for kind in kinds or KINDS]


def of_cards(folder: Path, names: list[str], each: int) -> Path:
    """A records folder of shipped cards with random sequences: cards.json, train and test."""
    draw = random.Random(3)
    cards = [load_card(name) for name in names]
    lines: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for card, split, number in itertools.product(cards, lines, range(each)):
        letters = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
        inputs = {item.name: "".join(draw.choices(letters[item.modality], k=draw.randint(8, 40))) for item in card.inputs}
        names_ = card.choices
        answer = names_[number % len(names_)]
        lines[split].append(
            {
                "id": f"{card.id}/{split}/{number}",
                "task": card.id,
                "split": split,
                "kind": card.kind,
                "prompt": [{"role": "user", "content": render(card, inputs, card.prompts.eval)}],
                "completion": [{"role": "assistant", "content": answer}],
                "label": float(answer) if card.kind == "regression" else answer,
                "choices": names_,
                "inputs": [{"name": item.name, "modality": item.modality, "letters": inputs[item.name]} for item in card.inputs],
                "source": "invented",
            }
        )
    folder.mkdir(parents=True)
    for split, its in lines.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in its), encoding="utf-8")
    (folder / "cards.json").write_text(json.dumps([card.model_dump(mode="json") for card in cards]), encoding="utf-8")
    return folder


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
