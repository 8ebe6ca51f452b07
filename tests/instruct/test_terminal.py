"""Chat in a real terminal, a pseudo one: pastes, editing and history, and Ctrl-C, which stops an answer and nothing else."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instruct.talk.session import Sampling, Session

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
PASTE, END = "\x1b[200~", "\x1b[201~"
LONG = 420
"""Tokens of an answer that is long enough to be interrupted."""


class Terminal:
    """`llama-gene chat` at the other end of a pseudo terminal."""

    def __init__(self, model: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "llama_gene", "chat", "--model", str(model), *arguments]
        environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "200"}
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command, environment)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, pattern: str, seconds: float = 60) -> str:
        """What is written up to a pattern, without its escape sequences; it is then gone from `seen`."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, ESCAPES.sub("", self.seen), re.DOTALL)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {ESCAPES.sub('', self.seen)[-2000:]!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._fd, 1 << 16).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    assert re.search(pattern, ESCAPES.sub("", self.seen), re.DOTALL), ESCAPES.sub("", self.seen)[-2000:]
        clean = ESCAPES.sub("", self.seen)
        self.seen = clean[match.end() :]
        return clean[: match.end()]

    def ended(self) -> int:
        """The exit code, negative for a signal."""
        for _ in range(600):
            if select.select([self._fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._fd, 1 << 16).decode("utf-8", "replace")
                except OSError:
                    break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(scope="module")
def model(extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an end of turn that it never writes, and a template that shows what a prompt was."""
    folder = tmp_path_factory.mktemp("terminal") / "model"
    shutil.copytree(extended_folder, folder)
    return folder


@pytest.fixture
def terminal(model: Path) -> Iterator[Terminal]:
    opened = Terminal(model, f"max_new_tokens={LONG}")
    opened.until("/quit ends.*you>")
    yield opened
    opened.type("\x03/quit\r")
    assert opened.ended() == 0, opened.seen[-2000:]
    assert "Traceback" not in opened.seen


def test_a_paste_of_several_lines_is_one_prompt_that_can_be_edited(terminal: Terminal) -> None:
    """`/lod` is no command, so the error repeats what one prompt was; nothing is answered before Enter."""
    terminal.type(f"{PASTE}/lod\none\ntwo{END}")
    time.sleep(0.5)
    terminal.type("\x1b[D\x1b[DT")  # two letters back, one more
    terminal.type("\r")
    terminal.until(r"error: /lod\none\ntTwo: no such command.*you>")
    terminal.type("\x1b[A\r")  # the arrow brings it back
    terminal.until(r"error: /lod\none\ntTwo: no such command.*you>")
    terminal.type("/lod\x1b\rsecond\r")  # Alt+Enter
    terminal.until(r"error: /lod\nsecond: no such command.*you>")
    terminal.type("/help\r")
    terminal.until("/new starts over.*you>")


def test_ctrl_c_stops_the_answer_and_nothing_else(terminal: Terminal) -> None:
    """Again and again, before the model has begun and in the midst of its words; at the prompt it clears what was written."""
    stopped = 0
    for number, wait in enumerate((0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.3)):
        terminal.type("Name it\r")
        time.sleep(wait)
        terminal.type("\x03")
        terminal.type(f"/lod{number}\r")
        stopped += "[stopped; the conversation goes on]" in terminal.until(f"error: /lod{number}: no such command")
        terminal.type("/new\r")
    assert stopped >= 2
    terminal.type("/help\r")
    terminal.until("/new starts over.*you>")  # the prompt is there: from here Ctrl-C is a key, no signal
    terminal.type("not sent\x03/lod\r")
    terminal.until("error: /lod: no such command")


def test_ctrl_c_while_a_prompt_starts_ends_nothing(terminal: Terminal) -> None:
    """For a moment the terminal is not in raw mode yet, and the key is a signal: one in 130 ended in a traceback."""
    for number in range(60):
        terminal.type("/lod\r")
        time.sleep(0.0005 * (number % 10))
        terminal.type("\x03")
    time.sleep(1)
    terminal.type("\r/last\r")
    terminal.until("error: /last: no such command")


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_while_the_thread_starts_leaves_none(extended_folder: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """Where it came two times in ten: behind the start of the thread, and before the block that joins it."""
    session = Session(extended_folder)
    start, threads = threading.Thread.start, set(threading.enumerate())

    def interrupted(thread: threading.Thread) -> None:
        if not before:
            start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.answer([{"role": "user", "content": "Name it"}], Sampling(max_new_tokens=LONG))
    assert not set(threading.enumerate()) - threads
