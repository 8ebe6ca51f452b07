"""Another process that holds an output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import sys, time
from artefacts.folder import new_folder
from artefacts.owner import owned
with owned(sys.argv[1], shared="shared" in sys.argv):
    if "work" in sys.argv:
        with new_folder(sys.argv[1]) as folder:
            (folder / "half").touch()
            print("held", flush=True)
            sys.stdin.read()
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other(out: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the output."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate(timeout=30)
