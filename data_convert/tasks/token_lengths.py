"""How many tokens the prompts and answers of a task have, for a given tokenizer and its chat template."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError
from tokenizer.conversations import chat_tokenizer, rendered

SAMPLE = 500
"""Records per task and split that are counted, drawn by the seed; the one with the most letters comes on top."""
QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "most": 1.0}


class TokenLengths:
    """Collects a sample of one task's records at a time.

    Raises:
        UserError: no tokenizer there, or one without a chat template.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        if not (folder / "tokenizer_config.json").is_file():
            raise UserError(f"{folder}: no tokenizer here (tokenizer_config.json); give a folder of `llama-gene tokenizer extend`")
        self._tokenizer: Any = chat_tokenizer(folder)
        self._seed = seed
        self._start()

    def _start(self) -> None:
        self._random = random.Random(self._seed)
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, list[dict[str, Any]]] = {}
        self._longest: dict[str, tuple[int, dict[str, Any]]] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Reservoir sampling: every record is kept with the same chance."""
        split = record["split"]
        self._seen[split] += 1
        kept = self._kept.setdefault(split, [])
        letters = sum(len(message["content"]) for message in record["prompt"] + record["completion"])
        if letters > self._longest.get(split, (-1, record))[0]:
            self._longest[split] = (letters, record)
        if len(kept) < SAMPLE:
            kept.append(record)
        elif (place := self._random.randrange(self._seen[split])) < SAMPLE:
            kept[place] = record

    def report(self) -> dict[str, Any]:
        """Quantiles of the task's prompts and answers by split, chat template and end-of-turn token included; starts afresh."""
        found: dict[str, Any] = {}
        for split, kept in self._kept.items():
            longest = self._longest[split][1]
            records = kept if any(record is longest for record in kept) else [*kept, longest]
            prompts = self._count([record["prompt"] for record in records], add_generation_prompt=True)
            wholes = self._count([record["prompt"] + record["completion"] for record in records])
            found[split] = {"n": len(records), "prompt": _quantiles(prompts), "answer": _quantiles(wholes - prompts)}
        self._start()
        return found

    def _count(self, conversations: list[list[dict[str, str]]], **options: bool) -> np.ndarray:
        texts = [rendered(self._tokenizer, messages, **options) for messages in conversations]
        return np.array([len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]])


def _quantiles(numbers: np.ndarray) -> dict[str, int]:
    return {name: int(np.quantile(numbers, share, method="higher")) for name, share in QUANTILES.items()}
