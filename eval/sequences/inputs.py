"""Sequences that are read, and windows drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artefacts.errors import Ledger, UserError, at
from sequences.alphabets import ALPHABETS, PLAIN_LETTERS
from sequences.readers import Sequence as Read
from sequences.readers import read_sequences

TRIES = 50
"""Draws for a window of plain letters, before a file is given up."""


def read_all(files: Sequence[Path], alphabet: str, ledger: Ledger) -> list[tuple[str, Read]]:
    """(file:line, record) of all files. Raises UserError as `read_sequences` does."""
    return [(at(path, record.line), record) for path in files for record in read_sequences(path, ALPHABETS[alphabet], ledger)]


def set_aside(ledger: Ledger, reason: str, where: str) -> None:
    """Take back a record that was read, on purpose."""
    ledger.written -= 1
    ledger.reject(reason, where, on_purpose=True)


def draw_windows(
    records: Sequence[tuple[str, Read]], letters: int, count: int, alphabet: str, seed: Sequence[int], ledger: Ledger | None = None
) -> list[tuple[str, str]]:
    """(`id:first-last`, from 1) and letters of windows at places drawn evenly, all of them plain letters; several may overlap.

    Args:
        ledger: counts the records that are too short.

    Raises:
        UserError: no record is long enough, or none has such a stretch of plain letters.
    """
    for where, record in records:
        if ledger is not None and len(record.letters) < letters:
            set_aside(ledger, f"shorter than {letters:,} letters", where)
    long = [record for _, record in records if len(record.letters) >= letters]
    if not long:
        raise UserError(f"{records[0][0]}: no record of {letters:,} letters or more; ask for fewer letters, or give longer sequences")
    rng, plain = np.random.default_rng(seed), set(PLAIN_LETTERS[alphabet])
    ends = np.cumsum([len(record.letters) - letters + 1 for record in long])
    found: list[tuple[str, str]] = []
    for _ in range(TRIES * count):
        place = int(rng.integers(0, ends[-1]))
        which = int(np.searchsorted(ends, place, "right"))
        start = place - (int(ends[which - 1]) if which else 0)
        window = long[which].letters[start : start + letters]
        if set(window) <= plain:
            found.append((f"{long[which].id}:{start + 1}-{start + letters}", window))
        if len(found) == count:
            return found
    raise UserError(
        f"{records[0][0]}: of {TRIES * count:,} windows of {letters:,} letters only {len(found):,} hold plain letters alone; ask for fewer "
        "letters, or give sequences with fewer unknown ones"
    )
