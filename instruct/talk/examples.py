"""Examples for the page: held-out records where there are some, else letters that only show the form."""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard, find_cards, read_cards
from data_convert.tasks.prompts import render
from data_convert.tasks.records import each_record
from sequences.alphabets import PLAIN_LETTERS

KEPT = 20
"""Records kept of each task."""
RECORDS = 20_000
"""Records of a file that are looked at: the page opens at once, however large the records are."""
LETTERS = {**PLAIN_LETTERS, "rna": "ACGU"}
LONGEST = 60
"""Letters of a made-up sequence."""


@dataclass(frozen=True, slots=True)
class Example:
    """What the page fills in."""

    box: str
    """The sequences, as FASTA when there are several."""
    prompt: str
    note: str


class Examples:
    """Examples by task.

    Raises:
        UserError: a folder without cards.json or without a held-out split, or a malformed record.
    """

    def __init__(self, records: Path | None) -> None:
        self._kept: dict[str, list[dict[str, Any]]] = {}
        if records is None:
            return
        path = next((path for split in ("test", "dev") if (path := records / f"{split}.jsonl").is_file()), None)
        if path is None:
            raise UserError(f"{records}: neither test.jsonl nor dev.jsonl; give the folder that `convert tasks` wrote")
        for record in islice(each_record(path), RECORDS):
            kept = self._kept.setdefault(record["task"], [])
            if len(kept) < KEPT:
                kept.append(record)

    def record(self, prompt: str) -> dict[str, Any] | None:
        """The record that was asked in these very words; None where there is none of them."""
        every = (record for kept in self._kept.values() for record in kept)
        return next((record for record in every if record["prompt"][-1]["content"] == prompt), None)

    def of(self, card: TaskCard, number: int) -> Example:
        """The example of that number, counted around."""
        kept = self._kept.get(card.id)
        if not kept:
            draw = random.Random(f"{card.id}/{number}")
            size = min(LONGEST, card.max_letters)
            letters = {item.name: "".join(draw.choices(LETTERS[item.modality], k=size)) for item in card.inputs}
            note = "Made-up letters: they only show the form of the prompt."
            if card.besides:
                return Example(_box(letters), "", f"{note} It shows a row's own text besides; write the prompt, or give --records.")
            return Example(_box(letters), render(card, letters, card.prompts.eval), note)
        record = kept[number % len(kept)]
        letters = {item["name"]: item["letters"] for item in record["inputs"]}
        label = record["completion"][-1]["content"]
        note = f"Held-out record {record['id']}{' (simulated)' if card.simulated else ''}; its own answer is: {label}"
        return Example(_box(letters), record["prompt"][-1]["content"], note)


def cards_of(records: Path | None, tasks: list[str]) -> list[TaskCard]:
    """The cards beside the records, or those that the patterns name. Raises UserError as the readers of cards do."""
    return read_cards(records) if records is not None else find_cards(tasks)


def _box(letters: dict[str, str]) -> str:
    if len(letters) == 1:
        return next(iter(letters.values()))
    return "".join(f">{name}\n{sequence}\n" for name, sequence in letters.items())
