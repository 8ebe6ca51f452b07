"""Children end with their parent, and are waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artefacts.children import child, cores, run_child


def test_the_exit_code_and_the_environment_are_the_child_s() -> None:
    code = "import os, sys; sys.exit(int(os.environ['CODE']))"
    assert run_child([sys.executable, "-c", code], {**os.environ, "CODE": "7"}) == 7
    assert run_child([sys.executable, "-c", "pass"]) == 0


# a launcher that ends at once when it is told to, and a rank of it that first cleans up
LAUNCHER = "(trap 'sleep 0.5; rm {file}; exit' TERM; touch {file}; echo working; while :; do sleep 0.05; done) & sleep 60"
PARENT = """
import sys
from artefacts.command import guarded
from artefacts.children import run_child
sys.exit(guarded(lambda: run_child(["sh", "-c", sys.argv[1]])))
"""


EARLY = """
import os, signal, subprocess, sys
from artefacts.command import guarded
from artefacts.children import run_child
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)  # while the child runs and nobody holds it yet
        for _ in range(1000): pass
subprocess.Popen = Popen
sys.exit(guarded(lambda: run_child(["sh", "-c", "sleep 0.3; touch " + sys.argv[1]])))
"""


def test_a_signal_while_the_child_starts_ends_it_too(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", EARLY, str(tmp_path / "late")]).returncode == 143
    time.sleep(0.6)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_launcher_s_ranks_are_waited_for(tmp_path: Path, number: signal.Signals, code: int) -> None:
    file = tmp_path / "half"
    command = [sys.executable, "-c", PARENT, LAUNCHER.format(file=file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        assert file.exists()
        process.send_signal(number)
        assert process.wait(timeout=30) == code
        assert not file.exists()


@pytest.mark.parametrize("deaf", ["", "(trap '' TERM; sleep 60) & "])
def test_what_does_not_end_in_the_grace_is_killed(deaf: str) -> None:
    """A child that ignores the signal, alone or with a process of its own that does: the grace counts from the signal."""
    begun = time.monotonic()
    with child(["sh", "-c", f"trap '' TERM; {deaf}echo; sleep 60; sleep 60"], grace=0.5) as process:
        time.sleep(0.3)
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 5
    done = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout.split("\n")
    left = [line.split()[1] for line in done if line.strip() and int(line.split()[0]) == process.pid]
    assert all(state.startswith("Z") for state in left), "killed, and at most not yet waited for by init"


def test_cores_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows have no sched_getaffinity."""
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()


def test_sigkill_leaves_none_of_the_tree(tmp_path: Path) -> None:
    """The child, what it launched, and what a command below it launched in a group of its own."""
    file = tmp_path / "at_work"
    ticks = f"while :; do date +%s%N > {file}; sleep 0.02; done"
    below = f"import sys; from artefacts.children import run_child; run_child(['sh', '-c', {ticks!r}])"
    launcher = f"(trap '' TERM HUP INT; '{sys.executable}' -c \"{below}\" & wait) & sleep 60"
    with subprocess.Popen([sys.executable, "-c", PARENT, launcher]) as process:
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        process.kill()
    time.sleep(0.5)
    last = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == last


def test_a_child_that_ends_in_order_leaves_what_it_began(tmp_path: Path) -> None:
    late = tmp_path / "late"
    assert run_child(["sh", "-c", f"(sleep 0.3; touch {late}) & true"]) == 0
    time.sleep(0.8)
    assert late.exists()


def test_a_launcher_that_is_killed_leaves_no_ranks(tmp_path: Path) -> None:
    late = tmp_path / "late"
    assert run_child(["sh", "-c", f"(sleep 0.5; touch {late}) & kill -9 $$"]) == -9
    time.sleep(0.8)
    assert not late.exists()
