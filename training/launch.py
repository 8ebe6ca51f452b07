"""Launching the ranks of a run on this machine, and ending them."""

import atexit
import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from artefacts.children import cores, run_child
from artefacts.command import Verb, called
from artefacts.errors import UserError
from artefacts.owner import release
from configs import CONFIGS


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


def zero_of(name: str | None) -> dict[str, Any]:
    """The ZeRO section of a config of `deepspeed_config`; empty without DeepSpeed."""
    return {} if name is None else dict(json.loads(deepspeed_config(name).read_text(encoding="utf-8"))["zero_optimization"])


def keep_cpu_simple() -> None:
    """On CPU, keep DeepSpeed from compiling anything: gloo does the work of its shared-memory all-reduce.

    It would call g++ before the first step, even for one rank, and stop where there is no compiler.
    """
    import deepspeed.ops
    import torch

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


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
            f"`python -m {module}` is one rank of a run with DeepSpeed or FSDP2, and no launcher started it; "
            f"use `llama-gene {module}`, `deepspeed --module {module}` or `torchrun -m {module}`, or set deepspeed=null fsdp=false"
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


def rank(module: str, recipe: type[Any], work: str, preview: str) -> Verb[Any]:
    """What `python -m MODULE` does: train in this process. Heavy imports wait until the recipe has been checked.

    Args:
        work, preview: `module:function`.
    """

    def train(found: Any, overwrite: bool) -> None:
        if found.launched:
            check_launched(module)
        called(work)(found, overwrite=overwrite)

    example = f"deepspeed --num_gpus 1 --module {module} --recipe configs/{module}/tiny.yaml"
    return Verb(recipe, train, "", example, f"One rank of `llama-gene {module}`.", dry_run=preview)
