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


def run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, name: str, engine: str = "local") -> None:
    """Call `work` with every job; what it returns is dropped, jobs leave their results in files.

    Under `ray` (see `_on_ray`) a job whose worker is lost is given again. Else one worker works in this process, and several are
    spawned, so `work` must be a function of a module, and a script must call this under `if __name__ == "__main__":`.

    Raises:
        UserError: the first that a job raised; RuntimeError with the traceback of any other error, or for a worker that
            was killed.
    """
    workers = min(workers, len(jobs))
    with tqdm(total=len(jobs), desc=name, disable=None) as bar:
        if engine == "ray":
            if jobs:
                _on_ray(work, jobs, workers, bar)
            return
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


def _on_ray(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, bar: Any) -> None:
    """On the cluster that RAY_ADDRESS names, whose machines all see the files by the same paths; without it on one of this machine.

    A worker that is killed, or whose machine is lost, is replaced, and its job is given again, three times. Jobs write whole folders or
    none, so nothing of the first try is left to see.

    Raises:
        UserError: Ray is not installed; what a job raised.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import ray
    except ImportError:
        raise UserError("engine=ray: Ray is not installed; pip install 'llama-gene[ray]', or use engine=local") from None
    here: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(work)
        waiting = [task.remote(job) for job in jobs]
        while waiting:
            ended, waiting = ray.wait(waiting)
            ray.get(ended)
            bar.update(len(ended))
    except UserError as error:  # Ray's own error is one of the job's kind too
        raise UserError(str(getattr(error, "cause", error))) from None
    finally:
        ray.shutdown()


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
