"""Launching and sharing a machine: what pre-training and instruction tuning both need."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from artefacts.errors import UserError
from artefacts.owner import release
from configs import CONFIGS

GRACE = 60.0
"""Seconds that a child and its processes may take for their clean-up before they are killed."""
WATCH = "import os, sys\nif not os.read(0, 1):\n    os.killpg(int(sys.argv[1]), 9)"
"""Waits for the end of its parent, and kills the group of a child that nobody can end any more."""


def run_child(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command and return its exit code; when this process is to end, end the child and wait for its clean-up."""
    with child(command, environment) as process:
        return process.wait()


@contextlib.contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None, grace: float = GRACE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the block; when the block ends, in whatever way, end the child and wait for its clean-up.

    `subprocess.run` kills its child a quarter of a second after Ctrl-C, half-written outputs and all. The child gets a
    process group of its own and SIGTERM, once: of Ctrl-C it would print a second line, and a traceback while it imports.
    What is still there after `grace` seconds is killed.
    Where this process is killed, and can end nothing, a small one beside it sees its pipe close and kills that group: the
    child with all that it launched, on any system with pipes (PR_SET_PDEATHSIG would reach the child alone).
    """
    process = watcher = None
    try:
        with _signals_held_back():
            process = subprocess.Popen(command, env=environment, cwd=folder, process_group=0)
            watcher = _watch(process)
        yield process
    except BaseException:
        if process is not None:
            _end(process, grace)
        raise
    else:
        if process.poll() != 0:  # it works on, or has failed and left ranks behind
            _end(process, grace)
    finally:
        if watcher is not None:
            watcher.communicate(b"x")  # all is in order


def _watch(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", WATCH, str(process.pid)]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Signals that end this process arrive behind the block: inside Popen they would leave a child that nobody ends."""
    waiting: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    own = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    own = {number: handler for number, handler in own.items() if callable(handler)}
    for number in own:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
    for late in waiting:
        signal.raise_signal(late)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    try:
        while time.monotonic() < deadline:  # the DeepSpeed launcher ends before its ranks do
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def launch(module: str, ranks: int, arguments: Sequence[str]) -> int:
    """Run `deepspeed --module MODULE ARGUMENTS` on this machine and return its exit code."""
    import torch

    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # a tokenizer.py in the working folder is nobody's module
    if not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks)]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(_free_port()), "--no_local_rank", "--module", module, *arguments]
    return run_child(command, environment)


def _free_port() -> int:
    # the launcher's fixed default (29500) makes two runs on one machine collide
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deepspeed_config(name: str) -> Path:
    """A config of configs/deepspeed by name, or a path. Raises UserError naming the known ones."""
    shipped = CONFIGS / "deepspeed" / f"{name}.json"
    if shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(path.stem for path in (CONFIGS / "deepspeed").glob("*.json")))
    raise UserError(f"deepspeed={name}: neither a file nor one of {known}")


def keep_cpu_simple() -> None:
    """On CPU, keep DeepSpeed from compiling anything: gloo does the work of its shared-memory all-reduce.

    It would call g++ before the first step, even for one rank, and stop where there is no compiler.
    """
    import deepspeed.ops
    import torch

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def cores() -> int:
    """Cores that this process may use; on macOS and Windows, which do not say, all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """On CPU, share the cores among this machine's ranks; a thread count set by OMP_NUM_THREADS is left alone."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
        torch.set_num_threads(max(1, cores() // ranks))


def end(code: int) -> NoReturn:
    """End a rank once its work is done, without the libraries' destructors.

    Threads that are still there when these run end a good run with `terminate called without an active exception`: seen with
    ZeRO-3 and gloo, after `leave`, on busy cores.
    """
    atexit._run_exitfuncs()  # trackers finish here
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def check_launched(module: str) -> None:
    """Refuse to be a rank that no launcher started: DeepSpeed would go and look for MPI, and say that it is not installed.

    Raises:
        UserError: neither RANK nor MPI's variable is set.
    """
    if "RANK" not in os.environ and "OMPI_COMM_WORLD_RANK" not in os.environ:
        raise UserError(
            f"`python -m {module}` is one rank of a run with DeepSpeed, and no launcher started it; "
            f"use `llama-gene {module}`, `deepspeed --module {module}` or `torchrun -m {module}`, or set deepspeed=null"
        )


def leave() -> None:
    """Close the process group; without this gloo now and then aborts after a good run."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def launch_recipe(module: str, recipe: Any, overwrite: bool, ranks: int) -> None:
    """Hand a validated recipe to the DeepSpeed launcher through a file, so that every rank reads the same one."""
    from artefacts.recipe import dump

    release(recipe.out)  # the first rank takes it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{module}.yaml"
        path.write_text(dump(recipe), encoding="utf-8")
        code = launch(module, ranks, ["--recipe", str(path), *(["--overwrite"] if overwrite else [])])
    if code:
        raise SystemExit(code)
