"""A small task card for tests."""

from __future__ import annotations

from typing import Any

from data_convert.tasks.cards import TaskCard

CARD: dict[str, Any] = {
    "id": "x/toy",
    "version": 1,
    "title": "Toy",
    "simulated": False,
    "source": {"name": "nowhere"},
    "format": "csv",
    "files": {"train": "train.csv", "test": "test.csv"},
    "split_note": "made up",
    "inputs": [{"column": "seq", "modality": "dna", "name": "sequence"}],
    "label": "label",
    "kind": "binary",
    "labels": {0: {"name": "off", "meaning": "no"}, 1: {"name": "on", "meaning": "yes"}},
    "label_evidence": "made up",
    "prompts": {"train": ["Is {sequence} on? {choices}"], "eval": "Say {choices} for {sequence}"},
    "metrics": ["mcc", "accuracy"],
    "primary_metric": "mcc",
    "max_letters": 8,
    "crop": "centre",
}


def toy_card(**changes: Any) -> TaskCard:
    """The card with some fields changed; None takes a field away."""
    return TaskCard.model_validate({key: value for key, value in {**CARD, "max_letters": 200, **changes}.items() if value is not None})
