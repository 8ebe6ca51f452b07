"""Every command that processes of a launcher can share, by two of them: the bytes of one, and so where one was killed on the way."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from whole_way import COMMANDS, Runs, contents

from commands import SHARED

NAMES = ["table.csv", "drawn", "predictions", "embedded", "luca.csv"]
TRAINS = {"baseline train"}
"""Sums gradients, in another order: tests/eval/test_ranks.py."""


def test_each_is_tried() -> None:
    words = [COMMANDS[name].split() for name in NAMES]
    assert {" ".join(own[: 1 + (own[0] in ("eval", "baseline"))]) for own in words} | TRAINS == set(SHARED)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_have_the_bytes_of_one(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.make(name)
    for path in runs.outputs(name):
        shutil.move(path, tmp_path)
    wanted, out = contents(tmp_path), runs.folder / name
    argv, log = [*runs.words(name), "--out", str(out)], runs.folder / "shared.log"
    if name != "embedded":  # a store goes on with other batches, as one process does: equal but for rounding
        killed = runs.nursery.share(argv, log, die={"rank": 1, "call": "send", "time": 3})  # behind its first batch
        assert killed.codes == [2, -signal.SIGKILL], killed.text
        assert "one of the 2 processes has ended" in killed.text
        assert not out.exists()
    done = runs.nursery.share(argv, log)
    assert done.codes == [0, 0], done.text
    log.unlink()
    after = tmp_path.with_name(f"{tmp_path.name}-after")
    after.mkdir()
    for path in runs.outputs(name):
        shutil.move(path, after)
    assert contents(after) == wanted
    for path in tmp_path.iterdir():  # what later commands were made from
        shutil.move(path, runs.folder)
