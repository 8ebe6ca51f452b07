"""The Slurm script, run by a cluster of two machines that are two processes here: `srun` and `scontrol` are stand-ins, all else is real.

`srun` starts the script's command once per machine, as Slurm does; each starts torchrun, and each torchrun a rank.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ranks import ENVIRONMENT
from test_train import SHORT, losses

from artefacts.recipe import dump
from configs import CONFIGS

SCRIPTS = sorted((CONFIGS / "slurm").glob("*.sh"))
COMMANDS = {
    "srun": 'shift; SLURM_NODEID=0 "$@" & SLURM_NODEID=1 "$@" & wait %1 && wait %2',  # behind --kill-on-bad-exit=1
    "scontrol": 'if [ "$1" = show ]; then echo 127.0.0.1; echo 127.0.0.1; else echo "$@" >> "$SCONTROL_LOG"; fi',
    "llama-gene": f'{sys.executable} -m llama_gene "$@"',
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def submit(folder: Path, recipe: Path, *more: str) -> subprocess.Popen[str]:
    """What `sbatch configs/slurm/pretrain.sh RECIPE` runs on the first machine."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name, body in COMMANDS.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        job = probe.getsockname()[1]
    path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_ID": str(job)}
    environment = {**os.environ, **ENVIRONMENT, **slurm, "PATH": path, "SCONTROL_LOG": str(folder / "scontrol.txt")}
    with (folder / "job.log").open("a") as log:
        command = ["bash", str(CONFIGS / "slurm" / "pretrain.sh"), str(recipe), *more]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_machines_under_slurm(nursery, make_recipe, tmp_path):
    """Asked to stop, the job saves and goes back into the queue; started again, it ends as one process would have."""
    settings = {**SHORT, "steps": 12, "log_every": 1}
    alone = make_recipe(tmp_path / "alone", **settings)
    assert nursery.run(alone).codes == [0]
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(make_recipe(tmp_path / "model", **settings)), encoding="utf-8")
    more = ("nodes=2", "micro_batch=2")
    job = submit(tmp_path, file, *more)
    log = tmp_path / "job.log"
    deadline = time.monotonic() + 240
    while "step 2/12" not in log.read_text():
        assert job.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    job.wait(240)
    assert "with a checkpoint" in log.read_text(), log.read_text()[-3000:]
    assert (tmp_path / "scontrol.txt").read_text().startswith("requeue ")
    assert not (tmp_path / "model").exists()
    assert submit(tmp_path, file, *more).wait(240) == 0, log.read_text()[-3000:]
    assert losses(tmp_path / "model") == pytest.approx(losses(tmp_path / "alone"), abs=1e-4)
