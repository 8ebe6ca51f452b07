"""A command that is killed by SIGKILL, and can end nothing itself, leaves nothing of what it began at work."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from whole_way import Runs


def killed_once(line: list[str], folder: Path, at_work: Callable[[psutil.Process], bool], processes: int) -> None:
    """Start a command, kill it once it and at least so many processes below it are `at_work`, and wait for the end of all."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-P", "-m", "llama_gene", *line], stdout=log, stderr=log)
    tree: list[psutil.Process] = []
    try:
        until = time.monotonic() + 180
        while not at_work(psutil.Process(process.pid)):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        tree = psutil.Process(process.pid).children(recursive=True)
        assert len(tree) >= processes, tree
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        until = time.monotonic() + 30
        while alive := [each for each in tree if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
            assert time.monotonic() < until, alive
            time.sleep(0.05)
    finally:
        for each in [*tree, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def test_deepspeed_s_ranks(runs: Runs, tmp_path: Path) -> None:
    runs.make("shards")
    out = tmp_path / "out"
    line = ["pretrain", "--model", str(runs.folder / "extended"), "--shards", str(runs.folder / "shards"), "--out", str(out)]
    line += ["deepspeed=zero1", "ranks=2", "steps=10000", "save_every=2", "micro_batch=2", "heldout_blocks=4"]
    work = out.with_name("out.checkpoints")
    killed_once(line, tmp_path, lambda _: any(work.glob("checkpoint-*")), 3)  # the launcher, two ranks
    there = sorted(work.rglob("*"))
    time.sleep(3)
    assert sorted(work.rglob("*")) == there, "checkpoints went on after the kill"


def test_the_steps_of_a_pipeline(tmp_path: Path) -> None:
    recipe = tmp_path / "one.yaml"
    step = "{run: convert simulate, recipe: {out: '{out}/organism', train_documents: 3000000}}"
    recipe.write_text(f"title: t\nout: {tmp_path / 'run'}\nsteps:\n  one: {step}\n", encoding="utf-8")
    killed_once(
        ["quickstart", "--recipe", str(recipe)], tmp_path, lambda own: len(own.children()) > 1, 2
    )  # the step, and what would end it


def test_the_endpoint_of_serve_and_its_port(runs: Runs, tmp_path: Path) -> None:
    runs.make("model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def answers(_: object = None) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    line = ["serve", "--model", str(runs.folder / "model"), "--no-page", f"endpoint_port={port}", "engine=transformers"]
    killed_once(line, tmp_path, answers, 1)
    until = time.monotonic() + 10
    while answers():
        assert time.monotonic() < until, "the port is still held"
        time.sleep(0.05)
