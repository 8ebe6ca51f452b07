"""Every benchmark starts, called as its first lines say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_is_shown(script: Path) -> None:
    (called,) = set(re.findall(rf"python (benchmarks/{script.stem}.py|-m benchmarks.{script.stem})\b", script.read_text(encoding="utf-8")))
    done = subprocess.run([sys.executable, *called.split(), "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("usage:")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_benchmark_passes_for_a_room(script: Path) -> None:
    """`python benchmarks/x.py` finds benchmarks/eval.py before the room `eval` unless told otherwise."""
    text = script.read_text(encoding="utf-8")
    if re.search(r"^\s*(from|import) (eval|instruct|pretrain)\b", text, re.MULTILINE):
        assert "sys.path" in text.split("\nfrom eval")[0]
