"""One command at a time works at an output: a lock of the operating system says who.

The lock is a file `.NAME.lock` beside the output. It is held as long as the process lives, and removed when the work ends;
what SIGKILL leaves of it is not locked, and the next run takes it. Who holds it may name and remove what killed runs left.
"""

import contextlib
import glob
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from artefacts.errors import UserError

try:
    import fcntl
except ImportError:  # Windows; outputs are complete or absent there too, but two commands are not kept apart
    fcntl = None  # type: ignore[assignment]

State = tuple[int, int] | None


@dataclass
class _Lock:
    path: Path
    handle: int
    shared: bool
    made: list[Path]
    """Folders above that were made for it."""
    state: State
    """Of the output when it was taken, or when this process last put one there."""


_HELD: dict[Path, _Lock] = {}
"""By output, what this process holds: a command and the functions below it take the same one."""


@contextlib.contextmanager
def owned(out: str | Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold an output for the block. Of a launched run the first rank holds it; the others are its own.

    Args:
        shared: beside others that ask so, as jobs of an array do; whoever asks alone is then refused.
        wait: until it is free, for work of a moment.

    Raises:
        UserError: somebody is at work there (says who), or nothing can be written there.
    """
    check_name(out)
    place = place_of(out)
    if place in _HELD or int(os.environ.get("RANK") or 0) > 0:
        yield
        return
    _HELD[place] = lock = _take(place, out, shared, wait)
    try:
        if not shared:
            _tidy(place)
            lock.state = state_of(place)
        yield
    finally:
        release(place)


def check_name(out: str | Path) -> None:
    """Refuse an output that no file system, or not every library, can name, and one that is a device, a pipe or a socket."""
    try:
        os.fspath(out).encode()
        wrong = "it leads to nothing" if os.path.islink(out) and not os.path.exists(out) else ""
        wrong = "it is no file and no folder" if os.path.exists(out) and not (os.path.isfile(out) or os.path.isdir(out)) else wrong
        wrong = "write the home folder out" if os.fspath(out).startswith("~") else wrong
        wrong = wrong if os.path.basename(place_of(out)) else "it has no name"
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        raise UserError(f"{str(out)!r}: cannot be an output ({wrong}); choose another")


def release(out: str | Path) -> None:
    """Give an output back before its block ends: to the ranks that are launched to write it."""
    lock = _HELD.pop(place_of(out), None)
    if lock is None:
        return
    with contextlib.suppress(OSError):  # of a shared one the last removes the file
        if fcntl is not None and lock.shared:
            fcntl.flock(lock.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.path.unlink()
    os.close(lock.handle)
    for folder in lock.made:
        with contextlib.suppress(OSError):  # not empty: the work was done
            folder.rmdir()


def place_of(out: str | Path) -> Path:
    """The one name of an output, whatever links lead to it."""
    return Path(os.path.realpath(out))


def state_of(path: Path) -> State:
    """What changes when another folder or file takes this name, or something in it does; None where there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def check_unchanged(out: Path, before: State) -> None:
    """Refuse to replace what was not there, or was another one, when the work began.

    Args:
        before: for an output that this process does not hold.
    """
    held = _HELD.get(place_of(out))
    if state_of(out) != (held.state if held else before):
        raise UserError(f"{out}: appeared or was changed while this command worked, and is kept; choose another output")


def noted(out: Path) -> None:
    """The output is the one that this process has put there."""
    if held := _HELD.get(place_of(out)):
        held.state = state_of(out)


def pieces_of(out: Path) -> Path:
    """Where the work on an output waits that can go on after a stop (see artefacts/resume.py)."""
    return out.with_name(f"{out.name}.partial") / "pieces"


def tidy(folder: Path, name: str = "*") -> None:
    """Name and remove what killed runs left in a folder that is held."""
    for left in sorted(folder.glob(f".{name}.partial-*")):
        _remove(left)
        print(f"{left}: left by a run that was killed; removed", file=sys.stderr)


def _tidy(out: Path) -> None:
    name = glob.escape(out.name)
    for old in sorted(out.parent.glob(f".{name}.replaced-*")):
        if os.path.lexists(out):
            _remove(old)
        else:  # killed between the two renames
            old.rename(out)
            print(f"{out}: set aside by a run that was killed; it is back", file=sys.stderr)
    pieces = pieces_of(out)
    if os.path.lexists(out) and pieces.is_file() and pieces.stat().st_mtime_ns <= out.stat().st_mtime_ns:
        _remove(pieces.parent)  # killed after the output had its name; those of a newer run are newer
    # the output, and what commands write beside theirs
    for beside in (out.name, f"{out.name}.manifest.json", f"{out.stem}.rejected.csv", f"{out.name}.plan.json", f"{out.stem}.md"):
        tidy(out.parent, glob.escape(beside))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _take(place: Path, out: str | Path, shared: bool, wait: bool) -> _Lock:
    path = place.with_name(f".{place.name}.lock")
    made = [folder for folder in path.parents if not folder.exists()]
    flags = 0 if fcntl is None else (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (OSError, RecursionError) as error:  # makes a thousand folders by calling itself
            why = getattr(error, "strerror", None) or "too many folders deep"
            raise UserError(f"{out}: cannot be written ({why}); choose another output") from None
        try:
            if fcntl is not None:
                fcntl.flock(handle, flags)
            if path.stat().st_ino == os.fstat(handle).st_ino:  # or its owner has removed it since, and another may hold a new one
                break
        except BlockingIOError:
            who = os.read(handle, 1000).decode("utf-8", "replace").strip() or "another process"
            os.close(handle)
            raise UserError(f"{out}: {who} is at work there; wait until it has ended, or choose another output") from None
        except FileNotFoundError:
            pass
        except OSError as error:
            print(f"warning: {path.parent}: has no locks ({error.strerror}), so nothing keeps two commands apart there", file=sys.stderr)
            break
        os.close(handle)
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    with contextlib.suppress(OSError):  # of a full disk: the lock holds, without the name of its owner
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} (since {since})\n".encode(), 0)
    return _Lock(path, handle, shared, made, None)
