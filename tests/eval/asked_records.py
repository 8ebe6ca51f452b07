"""Invented records of every kind of answer, for tests that ask a model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

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


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
