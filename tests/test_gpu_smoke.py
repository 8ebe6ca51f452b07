"""`make gpu SMOKE=1`: every check of benchmarks/gpu.py at toy size, and what it says where time is short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_A_GPU = {"attention flash", "attention flex", "loss fused"}


def bench(out: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "benchmarks/gpu.py", "--smoke", "--out", str(out), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    return done.returncode, json.loads((out / "gpu.json").read_text(encoding="utf-8")), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: call `make gpu`")
def test_every_check_passes_or_says_what_it_lacks(tmp_path: Path) -> None:
    code, found, said = bench(tmp_path)
    lines = {line["check"]: line for line in found["checks"]}
    wrong = {name: line for name, line in lines.items() if line["status"] != ("skipped" if name in WITHOUT_A_GPU else "passed")}
    assert not wrong
    assert code == 0
    assert all("needs a GPU" in lines[name]["why"] for name in WITHOUT_A_GPU)
    assert abs(lines["attention sdpa"]["figures"]["packed"]) < 1e-5
    checkpoint = Path(lines["real run"]["figures"]["checkpoint"])
    assert (checkpoint / "run.json").is_file()
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {name} | {line['status']} |" in table for name, line in lines.items())
    assert table.strip() in said
    # the same call goes on from the checkpoint, with the inputs that it began with
    again = bench(tmp_path, "--only", "inputs", "real run")[1]["checks"]
    assert [line["status"] for line in again] == ["passed", "passed"]
    assert again[1]["figures"]["steps"] > lines["real run"]["figures"]["steps"]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    code, found, said = bench(tmp_path, "--seconds", "0", "--only", "inputs", "zero2")
    assert code == 0
    assert [(line["check"], line["status"]) for line in found["checks"]] == [("inputs", "left out"), ("zero2", "left out")]
    assert "no time: 0 s were left, and it may take 45" in said


def test_a_check_that_fails_fails_the_run(tmp_path: Path) -> None:
    code, found, _ = bench(tmp_path, "--only", "zero2")  # without its inputs
    assert code == 1
    assert found["checks"][0]["status"] == "failed"
    assert "inputs" in found["checks"][0]["why"]
