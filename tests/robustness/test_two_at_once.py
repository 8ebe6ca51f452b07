"""Two real commands with one output: the second says who is at work there and ends, the first loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ranks import ENVIRONMENT
from whole_way import Runs, contents

LONG = ["shards", "pretrained", "adapter", "table.csv", "drawn", "predictions", "embedded", "head", "scores"]


@pytest.mark.parametrize("name", LONG)
def test_the_second_ends_and_the_first_is_whole(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.make(name)
    for path in runs.outputs(name):
        shutil.move(path, tmp_path)
    out = runs.folder / name

    def begin() -> subprocess.Popen[str]:
        line = [sys.executable, "-P", "-m", "llama_gene", *runs.words(name), "--out", str(out)]
        environment = {**os.environ, **ENVIRONMENT}  # as many threads as the undisturbed run had: the last digits hang on that
        return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    first = begin()
    until = time.monotonic() + 120
    while not (runs.folder / f".{name}.lock").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    second = begin()
    said = second.communicate(timeout=120)[1]
    assert second.returncode == 2, said
    assert "at work" in said or "already exists" in said
    wrong = first.communicate(timeout=240)[1]
    assert first.returncode == 0, wrong
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    after.mkdir()
    for path in runs.outputs(name):
        shutil.move(path, after)
    assert contents(after) == contents(tmp_path)
    shutil.rmtree(after)
    for path in tmp_path.iterdir():  # what later commands were made from
        shutil.move(path, runs.folder)
