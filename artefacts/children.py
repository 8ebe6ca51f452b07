"""Child processes that end with their parent, and the cores that all of them may use."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 60.0
"""Seconds that a child and its processes may take for their clean-up before they are killed."""
WATCH = "import os, sys\nif not os.read(0, 1):\n    os.killpg(int(sys.argv[1]), 9)"
"""Waits for the end of its parent, and kills the group of a child that nobody can end any more."""


def run_child(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command and return its exit code; when this process is to end, end the child and wait for its clean-up."""
    with child(command, environment) as process:
        return process.wait()


@contextlib.contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None, grace: float = GRACE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the block; when the block ends, in whatever way, end the child and wait for its clean-up.

    `subprocess.run` kills its child a quarter of a second after Ctrl-C, half-written outputs and all. The child gets a
    process group of its own and SIGTERM, once: of Ctrl-C it would print a second line, and a traceback while it imports.
    What is still there after `grace` seconds is killed.
    Where this process is killed, and can end nothing, a small one beside it sees its pipe close and kills that group: the
    child with all that it launched, on any system with pipes (PR_SET_PDEATHSIG would reach the child alone).
    """
    process = watcher = None
    try:
        with _signals_held_back():
            process = subprocess.Popen(command, env=environment, cwd=folder, process_group=0)
            watcher = _watch(process)
        yield process
    except BaseException:
        if process is not None:
            _end(process, grace)
        raise
    else:
        if process.poll() != 0:  # it works on, or has failed and left ranks behind
            _end(process, grace)
    finally:
        if watcher is not None:
            watcher.communicate(b"x")  # all is in order


def _watch(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", WATCH, str(process.pid)]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)


@contextlib.contextmanager
def handled(by: Any, numbers: Sequence[int] = ENDS) -> Iterator[None]:
    """Signals are handled otherwise in the block. Python runs handlers, and sets them, in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Signals that end this process arrive behind the block: inside Popen they would leave a child that nobody ends."""
    waiting: list[int] = []
    with handled(lambda number, frame: waiting.append(number), [number for number in ENDS if callable(signal.getsignal(number))]):
        yield
    for late in waiting:
        signal.raise_signal(late)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    try:
        while time.monotonic() < deadline:  # the DeepSpeed launcher ends before its ranks do
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def cores() -> int:
    """Cores that this process may use; on macOS and Windows, which do not say, all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
