"""Ranks are launched by their module's name, and refuse to be ranks without a launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artefacts.errors import UserError
from configs import CONFIGS
from training.launch import deepspeed_config, launch


def test_a_module_of_the_same_name_in_the_working_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks import `tokenizer`; a user's tokenizer.py beside the data is another thing."""
    (tmp_path / "tokenizer.py").write_text("raise SystemExit(99)\n")
    monkeypatch.chdir(tmp_path)
    assert launch("pretrain", 1, ["--help"]) == 0


def test_deepspeed_configs_by_name_or_path(tmp_path: Path) -> None:
    assert deepspeed_config("zero2").name == "zero2.json"
    own = tmp_path / "own.json"
    own.write_text("{}", encoding="utf-8")
    assert deepspeed_config(str(own)) == own
    with pytest.raises(
        UserError, match="deepspeed=zero7: neither a file nor one of zero0, zero1, zero2, zero2_offload, zero3, zero3_offload"
    ):
        deepspeed_config("zero7")


@pytest.mark.parametrize("module", ["pretrain", "instruct"])
def test_a_rank_that_nobody_launched_says_what_to_call(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "OMPI_COMM_WORLD_RANK")}
    command = [sys.executable, "-m", module, "--recipe", str(CONFIGS / module / "tiny.yaml"), "deepspeed=zero1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: `python -m {module}` is one rank of a run with DeepSpeed" in done.stderr
    assert f"use `llama-gene {module}`" in done.stderr
