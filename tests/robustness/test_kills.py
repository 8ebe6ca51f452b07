"""Every long command, killed anywhere again and again and given once more, ends with the bytes of an undisturbed run, times left out.

Three kills each; `make torture` sets LLAMA_GENE_KILLS=20.
"""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest
from whole_way import COMMANDS, KILLS, Runs, contents


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_anywhere_it_ends_with_the_same_bytes(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.make(name)
    for path in runs.outputs(name):
        shutil.move(path, tmp_path)
    wanted, draw, kills = contents(tmp_path), random.Random(name), 0

    def done(code: int) -> bool:
        return code == 0 or "already exists" in runs.told(name)

    def same() -> None:
        """Compare what is there with what is wanted, and remove it."""
        after = tmp_path.with_name("after")
        after.mkdir()
        for path in runs.outputs(name):
            shutil.move(path, after)
        found = contents(after)
        shutil.rmtree(after)
        assert sorted(found) == sorted(wanted), "all of it, and nothing else"
        for each in found:
            assert found[each] == wanted[each], each

    # the longer it lasts, the rarer a kill comes before the end of what is left: not every one is a kill
    for _ in range(2 * KILLS):
        code, _ = runs.call(name, after=draw.uniform(0.02, runs.seconds[name]))
        if done(code):
            same()
        else:
            assert code == -signal.SIGKILL, runs.told(name)
            kills += 1
        if kills == KILLS:
            break
    code, _ = runs.call(name)
    assert done(code), runs.told(name)
    same()
    for path in tmp_path.iterdir():  # what later commands were made from
        shutil.move(path, runs.folder)
