"""Work that goes on after a stop: a plan and numbered pieces in `<out>.partial`, until the output is in place.

A piece is on the disk, with its number and a checksum, before the next one is made. What a kill left half-written, or what is
damaged, is cut off together with all that follows; so a run that goes on ends with the bytes of an undisturbed one. The pieces
belong to one plan, so that nothing of other records, another model or other settings slips in, and the folder has one owner.
Where several processes share the work (artefacts/ranks.py), each makes its pieces, and the first keeps them all.
"""

import contextlib
import csv
import io
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from artefacts.errors import UserError
from artefacts.folder import differing, discard, flush, manifest_path, new_file, read_noted, write_json
from artefacts.owner import owned, pieces_of, tidy
from artefacts.ranks import in_turn, rank, told

T = TypeVar("T")
PLAN = "plan.json"


@contextlib.contextmanager
def work_on(out: Path, plan: dict[str, Any], *, overwrite: bool = False) -> "Iterator[Work]":
    """Hold an output and go on with what an earlier run left of it, or begin; the rest goes when the block ends well.

    In a process that is not the first of several the block ends once its pieces are made.

    Args:
        plan: everything that decides the result, plain JSON values.
        overwrite: begin anew where the plan is another one.

    Raises:
        UserError: somebody is at work there; the pieces were made by another plan.
    """
    with owned(out):
        if rank():
            with contextlib.suppress(_ShareMade):
                yield _Share(out)
            return
        work = Work(out, plan, overwrite)
        try:
            yield work
        except BaseException:
            if not work.pieces.exists() or not work.pieces.stat().st_size:  # nothing to go on with
                shutil.rmtree(work.folder)
            raise
        discard(work.folder, out)


class Work:
    """See `work_on`."""

    def __init__(self, out: Path, plan: dict[str, Any], overwrite: bool) -> None:
        self.out, self.pieces = out, pieces_of(out)
        self.folder = self.pieces.parent
        noted, plan = self.folder / PLAN, json.loads(json.dumps(plan))
        remedy = "remove that folder to start over, or pass --overwrite"
        if noted.is_file() and same_plan(self.folder, read_noted(noted), plan, remedy, overwrite):
            tidy(self.folder)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        write_json(noted, plan)

    def each(self, items: Iterable[T], make: Callable[[T], Any]) -> Iterator[Any]:
        """A piece for each item, in their order: those found, then those that `make` returns (plain JSON values), kept first."""
        with self.pieces.open("ab+") as file:
            found, begun = self._found(file), False
            for number, item in enumerate(items):
                piece = next(found, None)
                if piece is None:
                    if not begun:
                        begun = True
                        told(number)
                    piece = json.loads(json.dumps(in_turn(number, partial(make, item))))  # as a later run would find it
                    text = json.dumps([number, piece], ensure_ascii=False).encode()
                    file.write(b"%08x %s\n" % (zlib.crc32(text), text))
                    file.flush()
                    flush(self.pieces)
                yield piece
            if not begun:
                told(None)

    def _found(self, file: IO[bytes]) -> Iterator[Any]:
        file.seek(0)
        number = end = 0
        for line in file:
            text = line[9:].removesuffix(b"\n")
            if line[:9] != b"%08x " % zlib.crc32(text) or not line.endswith(b"\n"):
                print(f"{self.pieces}: half-written or damaged from piece {number} on; goes on from there", file=sys.stderr)
                break
            at, piece = json.loads(text)
            if at != number:
                raise UserError(f"{self.folder}: piece {at} stands in place of {number}; remove that folder to start over")
            yield piece
            number, end = number + 1, end + len(line)
        file.seek(end)
        file.truncate()

    def check_rows(self, written: int, wanted: int) -> None:
        """Refuse, before the output has its name, to have lost or doubled a row."""
        if written != wanted:
            raise UserError(f"{self.out}: {written} rows where there should be {wanted}; remove {self.folder} to start over")


class _Share(Work):
    """That of a process that keeps nothing."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def each(self, items: Iterable[T], make: Callable[[T], Any]) -> Iterator[Any]:
        begin = told(None)
        for number, item in enumerate(items):
            if begin is not None and number >= begin:
                in_turn(number, partial(make, item))
        raise _ShareMade
        yield


class _ShareMade(Exception):
    pass


def same_plan(where: Path, before: dict[str, Any] | None, now: dict[str, Any], remedy: str, overwrite: bool = False) -> bool:
    """Whether work was begun by this plan. Raises UserError where it was not, unless it may be begun anew."""
    differs = differing(before := before or {}, now)
    if differs and not overwrite:
        old, new = before.get(differs[0]), now.get(differs[0])
        raise UserError(f"{where}: was made with {differs[0]}={old}, now it is {new}; continue with the old value, {remedy}")
    return not differs


def whole_lines(path: Path) -> list[bytes]:
    """Lines of a file that grows by them; a last one that was cut off is removed from the file."""
    if not path.is_file():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if whole != raw:
        with new_file(path, overwrite=True) as file:
            file.write_bytes(whole)
    return whole.splitlines(keepends=True)


def rejected_path(out: Path) -> Path:
    """The table of rows that cannot be used, beside that of the others."""
    return out.with_name(f"{out.stem}.rejected.csv")


def check_rejected(out: Path) -> None:
    """Refuse a file in the place of the rejected rows that no run of ours wrote, before any expensive work starts."""
    if rejected_path(out).exists() and not out.with_name(out.name + ".partial").exists():
        _check_ours(out, None)


def write_rejected(out: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str | None:
    """Write the rejected rows, or remove those of an earlier run; returns their checksum, for the manifest.

    Raises:
        UserError: what is there is none of ours.
    """
    path, text = rejected_path(out), io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    content = text.getvalue().encode()
    if path.exists():
        _check_ours(out, content if rows else None)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    with new_file(path, overwrite=True) as file:
        file.write_bytes(content)
    return f"{zlib.crc32(content):08x}"


def _check_ours(out: Path, content: bytes | None) -> None:
    path = rejected_path(out)
    found, noted = path.read_bytes(), read_noted(manifest_path(out))
    # by an earlier run, or by one that was killed before its manifest
    if found != content and (noted is None or noted.get("rejected") != f"{zlib.crc32(found):08x}"):
        raise UserError(f"{path}: is to hold the rows that cannot be used, but is none of ours; move it away, or choose another output")
