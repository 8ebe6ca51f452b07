"""Jobs on several processes: each done once, the first error told in the user's words, nothing left running."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from artefacts.errors import UserError
from data_convert.corpus.crew import run_jobs


def note(job: Path) -> None:
    """Say who did it; fails, dies or hangs where the job's name says so."""
    with job.open("x") as handle:
        handle.write(str(os.getpid()))
    if job.name == "wrong":
        raise UserError("genes.fa: no such file")
    if job.name == "bug":
        raise ZeroDivisionError("a bug")
    if job.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name == "slow":
        time.sleep(600)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_is_done_once(tmp_path, workers):
    jobs = [tmp_path / str(number) for number in range(20)]
    run_jobs(note, jobs, workers, "test")
    owners = {job.read_text() for job in jobs}  # a job done twice would have failed
    assert (owners == {str(os.getpid())}) == (workers == 1)
    run_jobs(note, [], workers, "nothing")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("wrong", UserError, "^genes.fa: no such file$"),
        ("bug", RuntimeError, "ZeroDivisionError: a bug"),
        ("killed", RuntimeError, "code -9"),
    ],
)
def test_an_error_ends_all(tmp_path, name, kind, words):
    started = time.monotonic()
    with pytest.raises(kind, match=words):
        run_jobs(note, [tmp_path / "slow", tmp_path / name], 2, "test")
    assert time.monotonic() - started < 300
    if (tmp_path / "slow").exists() and (owner := (tmp_path / "slow").read_text()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(owner), 0)
