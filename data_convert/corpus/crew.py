"""Independent jobs on several processes: each takes the next job that nobody has taken, the first error ends all of them."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from artefacts.errors import UserError

log = logging.getLogger(__name__)


def run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, name: str) -> None:
    """Call `work` with every job; what it returns is dropped, jobs leave their results in files.

    One worker works in this process. Several are spawned, so `work` must be a function of a module, and a script must
    call this under `if __name__ == "__main__":`.

    Raises:
        UserError: the first that a job raised; RuntimeError with the traceback of any other error, or for a worker that
            was killed.
    """
    with tqdm(total=len(jobs), desc=name, disable=None) as bar:
        if min(workers, len(jobs)) <= 1:
            for job in jobs:
                work(job)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")
        taken = context.Value("q", 0)
        crew: dict[Any, Any] = {}
        try:
            for _ in range(min(workers, len(jobs))):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_worker, args=(work, jobs, taken, theirs, len(crew)), daemon=True)
                process.start()
                theirs.close()
                crew[ours] = process
            while crew:
                for ready in multiprocessing.connection.wait(list(crew)):
                    _hear(ready, crew, bar)
        finally:
            for process in crew.values():
                process.terminate()
            for process in crew.values():
                process.join()


def _hear(pipe: Any, crew: dict[Any, Any], bar: Any) -> None:
    """One message of a worker: None for a finished job, or what went wrong; the end of the pipe when it is done."""
    try:
        message = pipe.recv()
    except EOFError:
        process = crew.pop(pipe)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a worker ended with exit code {process.exitcode}; if memory ran out, use fewer workers") from None
        return
    if message is None:
        bar.update()
        return
    kind, text = message
    raise UserError(text) if kind == "user" else RuntimeError(f"in a worker:\n{text}")


def _worker(work: Callable[[Any], Any], jobs: Sequence[Any], taken: Any, pipe: Any, number: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core already
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    if number:
        logging.disable(logging.WARNING)  # what the tokenizer has to say, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            with taken.get_lock():
                mine = taken.value
                taken.value += 1
            if mine >= len(jobs):
                return
            work(jobs[mine])
            pipe.send(None)
    except UserError as error:
        pipe.send(("user", str(error)))
    except Exception:
        pipe.send(("bug", traceback.format_exc()))


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and nobody would read what they write."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
