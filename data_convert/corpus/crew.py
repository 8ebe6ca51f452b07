"""Independent jobs on several processes: each takes the next job that nobody has taken, the first error ends all of them."""

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from artefacts.errors import UserError


def run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, name: str) -> None:
    """Call `work` with every job; what it returns is dropped, jobs leave their results in files.

    One worker works in this process. Several are spawned, so `work` must be a function of a module, and a script must
    call this under `if __name__ == "__main__":`.

    Raises:
        UserError: the first that a job raised; RuntimeError with the traceback of any other error, or for a worker that
            was killed.
    """
    workers = min(workers, len(jobs))
    with tqdm(total=len(jobs), desc=name, disable=None) as bar:
        if workers <= 1:
            for job in jobs:
                work(job)
                bar.update()
            return
        context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
        pool = ProcessPoolExecutor(workers, context, _begin, (context.Value("q", 0),))
        crew: list[Any] = []
        try:
            results = [pool.submit(work, job) for job in jobs]
            crew = [process for process in multiprocessing.active_children() if process not in others]
            pool.shutdown(wait=False)  # makes the pool look at its workers once more: it may miss the death of its newest
            for result in as_completed(results):
                result.result()
                bar.update()
        except BrokenProcessPool:
            _end(crew)
            # the pool itself ends the others by SIGTERM
            codes = sorted((process.exitcode or 0 for process in crew), key=lambda code: code in (0, -signal.SIGTERM))
            raise RuntimeError(f"a worker ended with exit code {codes[0]}; if memory ran out, use fewer workers") from None
        except UserError as error:
            raise error from None
        except Exception as error:
            raise RuntimeError(f"in a worker:\n{error.__cause__ or repr(error)}") from None
        finally:
            _end([process for process in multiprocessing.active_children() if process not in others])


def _end(crew: list[Any]) -> None:
    for process in crew:
        process.terminate()
    for process in crew:
        process.join()


def _begin(started: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core already
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    with started.get_lock():
        if started.value:
            logging.disable(logging.WARNING)  # what the tokenizer has to say, once
        started.value += 1
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and nobody would read what they write."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
