"""Instruction records as ids: whole, or set aside."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from artefacts.errors import Ledger, UserError
from data_convert.tasks.records import read_records
from tokenizer.conversations import SPELLS_CONTROL, controls, conversations

BATCH = 512


@dataclass
class Encoded:
    """Records in the order of their file; behind them, in a run, documents of `replay`."""

    records: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    ids: list[NDArray[np.int32]] = field(default_factory=list)
    """Prompt and answer, the end-of-turn token included."""
    starts: list[int] = field(default_factory=list)
    """Where the answer begins; of a document its second token."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answer_tokens(self) -> list[int]:
        return [len(ids) - start for ids, start in zip(self.ids, self.starts, strict=True)]


def encode(
    tokenizer: Any,
    path: Path,
    max_tokens: int,
    ledger: Ledger,
    most: int | None = None,
    seed: int = 0,
    aside: list[str] | None = None,
    records: list[dict[str, Any]] | None = None,
) -> Encoded:
    """Read and tokenise records. One that is too long, or spells a control token, is counted in the ledger, and its id goes to `aside`.

    Args:
        most: records used, drawn by the seed, as evenly over the tasks as these have them.
        records: those of the file, where they are read already.

    Raises:
        UserError: a malformed record, with its line; no record that fits.
    """
    # the records, or a draw of them
    records = read_records(path) if records is None else records
    if most is not None and len(records) > most:
        records = [records[index] for index in draw([record["task"] for record in records], most, seed)]
    # each whole, or set aside
    found, control = Encoded(), controls(tokenizer)
    for start in tqdm(range(0, len(records), BATCH), desc=f"encode {path.name}", unit=f"{BATCH} records", disable=None):
        batch = records[start : start + BATCH]
        pairs = conversations(tokenizer, [record["prompt"] for record in batch], [record["completion"][0]["content"] for record in batch])
        for record, (prompt, answer) in zip(batch, pairs, strict=True):
            ledger.read += 1
            reason = None
            if any(control.search(message["content"]) for message in (*record["prompt"], *record["completion"])):
                reason = SPELLS_CONTROL
            elif len(prompt) + len(answer) > max_tokens:
                reason = f"longer than max_tokens={max_tokens}"
            if reason is not None:
                ledger.reject(reason, record["id"])
                if aside is not None:
                    aside.append(record["id"])
                continue
            found.records.append(record)
            found.tasks.append(record["task"])
            found.ids.append(np.array(prompt + answer, dtype=np.int32))
            found.starts.append(len(prompt))
            ledger.written += 1
    if not len(found):
        why = ", ".join(f"{count} {reason}" for reason, count in ledger.reasons.items())
        raise UserError(
            f"{path}: none of {ledger.read} records fits max_tokens={max_tokens}; raise it or crop the sequences in the card ({why})"
        )
    return found


def draw(tasks: list[str], most: int, seed: int) -> list[int]:
    """Places of `most` records, ascending: of every task equally many, of a small one all it has, the rest to the others."""
    waiting: dict[str, list[int]] = {}
    for place in np.random.default_rng(seed).permutation(len(tasks)):
        waiting.setdefault(tasks[place], []).append(int(place))
    # a record's turn is its number within its task: first the first of every task, then the second, ...
    turns = sorted((turn, task, place) for task, places in waiting.items() for turn, place in enumerate(places))
    return sorted(place for _, _, place in turns[:most])
