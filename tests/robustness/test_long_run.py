"""A training that goes on and on: its memory and its file handles stay as they were early on.

Three hundred steps of a toy model here, a hundred thousand in `make torture`, with logs, measurements and checkpoints on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ranks import ENVIRONMENT
from whole_way import LONG, Runs

STEPS = 100_000 if LONG else 300
GROWTH = 60 << 20
"""Bytes: a leak of 1 kB in each of a hundred thousand steps is 100 MB."""


def test_memory_and_handles_are_flat(runs: Runs, tmp_path: Path) -> None:
    runs.make("shards")
    out, every = tmp_path / "trained", STEPS // 10
    line = ["pretrain", "--model", str(runs.folder / "extended"), "--shards", str(runs.folder / "shards"), "--out", str(out)]
    line += ["deepspeed=null", f"steps={STEPS}", f"save_every={every}", f"evaluate_every={every}", "micro_batch=1", "heldout_blocks=2"]
    line += ["log_every=5", "sample_tokens=0", "english=null"]
    log = tmp_path / "log"
    with log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llama_gene", *line], env={**os.environ, **ENVIRONMENT}, stdout=told, stderr=told
        )
        seen: list[tuple[int, int]] = []
        begun = out.with_name("trained.checkpoints")
        while process.poll() is None:
            if any(begun.glob("checkpoint-*")):  # all parts of a step have run, a checkpoint among them
                with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
                    found = psutil.Process(process.pid)
                    seen.append((found.memory_info().rss, found.num_fds()))
            time.sleep(0.05 if not LONG else 1)
    assert process.returncode == 0, log.read_text()[-3000:]
    assert len((out / "history.jsonl").read_text().splitlines()) >= STEPS // 5, "every logged step is there"
    assert json.loads((out / "losses.json").read_text())["steps"] == STEPS
    quarter = len(seen) // 4
    assert quarter > 2, seen
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    assert statistics.median(rss for rss, _ in late) - statistics.median(rss for rss, _ in early) < GROWTH
    assert statistics.median(handles for _, handles in late) <= max(handles for _, handles in early)
