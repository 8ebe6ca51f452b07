"""Independent jobs on several processes: each takes the next job that nobody has taken, the first error ends all of them."""

import contextlib
import importlib.util
import io
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal

from tqdm import tqdm

from artefacts.errors import UserError

Engine = Literal["local", "ray", "datatrove"]
"""Who runs jobs: processes of this machine; Ray, on the cluster that RAY_ADDRESS names, else on one of this machine; tasks of
datatrove. Results are the same."""
RETRIES = 3
"""Times that a job whose worker was lost is given again, where the engine does so."""


class WorkerLost(RuntimeError):
    """A process was killed, and its job with it."""


def run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, name: str, engine: Engine = "local") -> None:
    """Call `work` with every job; what it returns is dropped, jobs leave their results in files.

    One worker works in this process, and several are spawned, so `work` must be a function of a module, and a script must
    call this under `if __name__ == "__main__":`. Under Ray and datatrove a job whose worker is lost is given again.

    Raises:
        UserError: the first that a job raised, or the engine is not installed; RuntimeError with the traceback of any
            other error, or for a worker that was killed.
    """
    run = {"local": _on_processes, "ray": _on_ray, "datatrove": _on_datatrove}[engine]
    with tqdm(total=len(jobs), desc=name, disable=None) as bar:
        if jobs:
            run(work, jobs, min(workers, len(jobs)), bar)


def _on_processes(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, bar: Any) -> None:
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
        raise WorkerLost(f"a worker ended with exit code {codes[0]}; if memory ran out, use fewer workers") from None
    except UserError as error:
        raise error from None
    except Exception as error:
        raise RuntimeError(f"in a worker:\n{error.__cause__ or repr(error)}") from None
    finally:
        _end([process for process in multiprocessing.active_children() if process not in others])


def _on_datatrove(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, bar: Any) -> None:
    """As tasks of datatrove's local executor, which marks those that are done; when a worker is lost the others follow.

    The pool of that executor waits for ever for the task of a killed worker. So processes of ours run its tasks one by one, and all
    that are not marked are given again, three times.

    Raises:
        UserError: datatrove is not installed; what a job raised.
    """
    if importlib.util.find_spec("datatrove") is None:
        raise UserError("engine=datatrove: it is not installed; pip install 'llama-gene[datatrove]', or use engine=local")
    with tempfile.TemporaryDirectory() as logs:
        tasks = [(work, job, rank, len(jobs), logs) for rank, job in enumerate(jobs)]
        for tries_left in reversed(range(1 + RETRIES)):
            try:
                return _on_processes(_task_of_datatrove, tasks, workers, bar)
            except WorkerLost:
                if not tries_left:
                    raise
                bar.reset()


def _task_of_datatrove(task: tuple[Callable[[Any], Any], Any, int, int, str]) -> None:
    work, job, rank, tasks, logs = task
    with contextlib.redirect_stderr(io.StringIO()):  # the same is in its log file
        from datatrove.executor import LocalPipelineExecutor

        def step(data: Any, rank: int, world_size: int) -> None:
            work(job)

        LocalPipelineExecutor([step], tasks, workers=1, logging_dir=logs)._run_for_rank(rank)


def _on_ray(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int, bar: Any) -> None:
    """On the cluster that RAY_ADDRESS names, whose machines all see the files by the same paths; without it on one of this machine.

    A worker that is killed, or whose machine is lost, is replaced, and its job is given again, three times. Jobs write whole folders or
    none, or begin their files anew, so nothing of the first try is left to see. The cluster stays for the next jobs of this process.

    Raises:
        UserError: Ray is not installed; what a job raised.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 stops its workers on a machine that has other work
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import ray
    except ImportError:
        raise UserError("engine=ray: Ray is not installed; pip install 'llama-gene[ray]', or use engine=local") from None
    here: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
    if here and ray.is_initialized() and ray.cluster_resources()["CPU"] < workers:
        ray.shutdown()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(work)
        waiting = [task.remote(job) for job in jobs]
        while waiting:
            ended, waiting = ray.wait(waiting)
            ray.get(ended)
            bar.update(len(ended))
    except BaseException as error:
        ray.shutdown()  # what still runs must not write on
        if isinstance(error, UserError):  # Ray's own error is one of the job's kind too
            raise UserError(str(getattr(error, "cause", error))) from None
        raise


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
