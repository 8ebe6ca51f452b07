"""Errors a user can cause, and the ledger of records that were set aside."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self


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


SET_ASIDE = "set_aside.tsv"
"""The list in a folder of what was set aside on the way to it."""
SET_ASIDE_HEAD = "place\treason\n"
LISTED = 1000
"""Places kept for each reason; a manifest shows the first five."""
SHOWN = 5


class Ledger:
    """Counts records: read = written + rejected, each rejection with its reason.

    One bad record in a million is set aside and reported, never lost silently and never fatal. A file that yields nothing
    at all is an error, and so is one of which more than `max_broken` is broken. Records that are left out on purpose, such
    as those of another task, are no part of that share.
    """

    def __init__(self, max_broken: float = 1.0) -> None:
        self.max_broken = max_broken
        self.read = 0
        self.written = 0
        self.left_out = 0
        """Of the rejected ones, those that are left out on purpose."""
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        """Reason -> places (file:line or id), the first LISTED of them."""
        self.notes: Counter[str] = Counter()
        """What else is worth counting of records that were read, such as their licences; no part of the balance."""

    def reject(self, reason: str, where: str, *, on_purpose: bool = False) -> None:
        """Count one rejected record under `reason`; `where` is its file:line or id."""
        self.reasons[reason] += 1
        self.left_out += on_purpose
        kept = self.examples.setdefault(reason, [])
        if len(kept) < LISTED:
            kept.append(where)

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())

    @property
    def broken(self) -> int:
        return self.rejected - self.left_out

    def mark(self) -> Self:
        """How things stand before a file is read, for `close`."""
        before = type(self)()
        before.read, before.written, before.left_out, before.reasons = self.read, self.written, self.left_out, self.reasons.copy()
        return before

    def close(self, path: str | Path, before: Self, what: str = "record", of: str = "", hint: str = "Is this the right file?") -> None:
        """Judge a file that was read to its end; `before` is what `mark` gave, `what` and `of` name its records in a message.

        Raises:
            UserError: nothing of the file can be used, or more than `max_broken` of it is broken.
        """
        read = self.read - before.read - (self.left_out - before.left_out)
        broken = self.broken - before.broken
        if self.written > before.written and broken <= self.max_broken * read:
            return
        since = (self.reasons - before.reasons).most_common(3)
        found = "; ".join(f"{reason}: {count:,}" for reason, count in since) or "none was found"
        places = self.examples[since[0][0]][before.reasons[since[0][0]] :] if since else []
        found += f" (first at {places[0]})" if places else ""
        if self.written == before.written:
            raise UserError(f"{path}: not one usable {what}{of}: {found}. {hint}")
        raise UserError(
            f"{path}: {broken:,} of {read:,} {what}s{of} cannot be used, more than max_broken={self.max_broken:g}: {found}. {hint}"
        )

    def as_dict(self) -> dict:
        """Ready for a manifest. Raises AssertionError if a record was lost, which would be a bug of ours."""
        ensure(self.read == self.written + self.rejected, f"{self.read} read != {self.written} written + {self.rejected} rejected")
        return {
            "read": self.read,
            "written": self.written,
            "rejected": self.rejected,
            "reasons": dict(sorted(self.reasons.items())),
            "examples": {reason: places[:SHOWN] for reason, places in self.examples.items()},
            **({"left_out": self.left_out} if self.left_out else {}),
            **({"notes": dict(sorted(self.notes.items()))} if self.notes else {}),
        }

    @classmethod
    def merged(cls, counts: Iterable[dict], max_broken: float = 1.0) -> Self:
        """One ledger of what several `as_dict` counted."""
        total = cls(max_broken)
        for found in counts:
            total.read += found["read"]
            total.written += found["written"]
            total.left_out += found.get("left_out", 0)
            total.reasons.update(found["reasons"])
            total.notes.update(found.get("notes", {}))
            for reason, places in found["examples"].items():
                total.examples.setdefault(reason, []).extend(places)
        return total

    def listed(self) -> Iterator[tuple[str, str]]:
        """(place, reason) of each record that was set aside; a last line where a reason has more than LISTED."""
        for reason, places in self.examples.items():
            yield from ((place, reason) for place in places)
            if (more := self.reasons[reason] - len(places)) > 0:
                yield f"and {more:,} more", reason


def counted(counts: dict) -> str:
    """A ledger's `as_dict` in one line, for the terminal."""
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts["reasons"].items())
    notes = "; ".join(f"{note}: {count:,}" for note, count in counts.get("notes", {}).items())
    aside = f", set aside {counts['rejected']:,}" + (f" ({reasons})" if reasons else "")
    return f"read {counts['read']:,}, written {counts['written']:,}{aside}" + (f"; {notes}" if notes else "")


def say_read(what: str, counts: dict, beside: Path | None = None) -> None:
    """One line on the terminal: what was read, written and set aside, and where the list of the latter is."""
    print(f"{what}: {counted(counts)}" + (f"; list: {beside}" if beside is not None and counts["rejected"] else ""), file=sys.stderr)


def write_set_aside(path: Path, *ledgers: Ledger) -> None:
    """The places of all records that were set aside, with their reasons, as TSV; where there are none, no list, an old one goes."""
    rows = [f"{place}\t{reason}\n" for ledger in ledgers for place, reason in ledger.listed()]
    if rows:
        path.write_text("".join([SET_ASIDE_HEAD, *rows]), encoding="utf-8")
    elif path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(SET_ASIDE_HEAD):
        path.unlink()
