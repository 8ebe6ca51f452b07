"""Sequences that are read, and windows drawn from them."""

from collections.abc import Callable, Sequence
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
    """Take back what was read, on purpose."""
    ledger.written -= 1
    ledger.reject(reason, where, on_purpose=True)


def usable(records: Sequence[tuple[str, Read]], ledger: Ledger, *why_not: Callable[[str], str]) -> list[tuple[str, Read]]:
    """Records that one use or another can take; those that none can are set aside.

    Args:
        why_not: of each use, letters -> the reason against it, empty where there is none.
    """
    kept = []
    for where, record in records:
        reasons = [why(record.letters) for why in why_not]
        if all(reasons):
            set_aside(ledger, "; ".join(reasons), where)
        else:
            kept.append((where, record))
    return kept


def shorter_than(letters: int) -> Callable[[str], str]:
    """A reason for `usable`."""
    return lambda text: f"shorter than {letters:,} letters" if len(text) < letters else ""


def draw_windows(
    records: Sequence[tuple[str, Read]], letters: int, count: int, alphabet: str, seed: Sequence[int]
) -> list[tuple[str, str]]:
    """(`id:first-last`, from 1) and letters of windows at places drawn evenly, all of them plain letters; several may overlap.

    Raises:
        UserError: no record is long enough, or none has such a stretch of plain letters.
    """
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
