"""The wall clock jumps by a year to and fro while a command works: same bytes, times left out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ranks import ENVIRONMENT
from whole_way import LONG, Runs, contents

FOUND = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *filter(Path.is_file, [Path(os.environ.get("LLAMA_GENE_FAKETIME", "-"))])]
pytestmark = pytest.mark.skipif(not FOUND, reason="needs libfaketime (apt install faketime)")


@pytest.mark.parametrize("name", ["records", "pretrained", "predictions"] if LONG else ["records"])
def test_a_clock_that_jumps_changes_no_byte(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.make(name)
    said, over = tmp_path / "said", threading.Event()
    said.write_text("+0d\n")
    clock = {"LD_PRELOAD": str(FOUND[0]), "FAKETIME_TIMESTAMP_FILE": str(said), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
    clock |= {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def jump() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            new = said.with_name("new")
            new.write_text(("-400d\n", "+400d\n", "+0d\n")[number % 3])
            new.replace(said)

    for path in runs.outputs(name):
        shutil.move(path, tmp_path)
    wanted = contents(tmp_path / name)
    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        line = [sys.executable, "-P", "-m", "llama_gene", *runs.words(name), "--out", str(runs.folder / name)]
        done = subprocess.run(line, env={**os.environ, **ENVIRONMENT, **clock}, capture_output=True, text=True, check=False)
    finally:
        over.set()
        jumping.join()
    assert done.returncode == 0, done.stderr[-3000:]
    found = contents(runs.folder / name)
    assert found == wanted
    shutil.rmtree(runs.folder / name)
    shutil.move(tmp_path / name, runs.folder)  # what later commands were made from
