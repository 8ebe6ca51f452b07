"""A power cut loses nothing that has its name: the kernel's own record of what was flushed, and when."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ranks import ENVIRONMENT
from whole_way import Runs

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt install strace)")

CALL = re.compile(r"(\w+)\((.*)\)\s+= 0$")
PATH = re.compile(r'<([^>]+)>|"([^"]+)"')


@pytest.mark.parametrize("name", ["dna", "base", "records", "head", "metrics.json", "predictions"])
def test_every_byte_is_on_the_disk_before_the_name_and_the_name_before_the_end(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.make(name)
    out, log = tmp_path / name, tmp_path / "log"
    command = [sys.executable, "-P", "-m", "llama_gene", *runs.words(name), "--out", str(out)]
    watch = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o", str(log)]
    done = subprocess.run([*watch, *command], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    calls = [found.groups() for line in log.read_text().splitlines() if (found := CALL.search(line))]
    paths = [(call, [Path(a or b) for a, b in PATH.findall(words)]) for call, words in calls]
    named = [place for place, (call, where) in enumerate(paths) if call.startswith("rename") and where[-1] == out]
    assert len(named) == 1
    temporary = paths[named[0]][1][-2]
    flushed = {where[0] for call, where in paths[: named[0]] if "sync" in call}
    made = [out, *out.rglob("*")] if out.is_dir() else [out]
    assert {temporary / path.relative_to(out) for path in made} <= flushed
    assert out.parent in {where[0] for call, where in paths[named[0] + 1 :] if "sync" in call}
