"""Errors a user can cause, and the ledger of records that were set aside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


class UserError(ValueError):
    """Something the user can mend. The message names the file, the line where there is one, and the remedy.

    The front door prints it as one line and exits with 2; every other exception is a bug of ours and keeps its traceback.
    """


def ensure(truth: bool, what: str) -> None:
    """Raise AssertionError, in words, where only a bug of ours can have led. `assert` would be gone under `python -O`."""
    if not truth:
        raise AssertionError(what)


def at(path: str | Path, line: int | None = None) -> str:
    """Format a place for a message: `file:line`, or the file alone."""
    return f"{path}:{line}" if line is not None else f"{path}"


class Ledger:
    """Counts records: read = written + rejected, each rejection with its reason.

    One bad record in a million is set aside and reported, never lost silently and never fatal; only a source that
    yields nothing at all is an error.
    """

    def __init__(self, examples: int = 5) -> None:
        self.read = 0
        self.written = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.notes: Counter[str] = Counter()
        """What else is worth counting of records that were read, such as their licences; no part of the balance."""
        self._max_examples = examples

    def reject(self, reason: str, where: str) -> None:
        """Count one rejected record under `reason`; `where` (file:line or id) is kept for the first few."""
        self.reasons[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < self._max_examples:
            kept.append(where)

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())

    def as_dict(self) -> dict:
        """Ready for a manifest. Raises AssertionError if a record was lost, which would be a bug of ours."""
        ensure(self.read == self.written + self.rejected, f"{self.read} read != {self.written} written + {self.rejected} rejected")
        return {
            "read": self.read,
            "written": self.written,
            "rejected": self.rejected,
            "reasons": dict(sorted(self.reasons.items())),
            "examples": self.examples,
            **({"notes": dict(sorted(self.notes.items()))} if self.notes else {}),
        }
