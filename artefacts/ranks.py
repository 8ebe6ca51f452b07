"""Processes of one command: `torchrun --nproc-per-node 2 -m llama_gene baseline embed …`, or `accelerate launch`.

All of them read the same input and meet at the same places; each makes its turns of the work, and the first alone writes what they
made, in the order of one process. One that fails says so in its line and the others end without a word; of one that is killed
the first to notice tells. Without a launcher there is one process, and nothing here does anything.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from artefacts.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
LONGEST = timedelta(days=1)
"""Waited for an answer of a process that lives; the connection of one that has died closes at once."""
_joined: list[int] = []
"""The number of this process and how many there are; empty where there is one."""


def rank() -> int:
    """The number of this process; 0 writes."""
    return _joined[0] if _joined else 0


def count() -> int:
    """Processes that work together."""
    return _joined[1] if _joined else 1


@contextlib.contextmanager
def together(command: str, able: bool) -> Iterator[None]:
    """Work beside the other processes of a launcher, and end with them.

    Args:
        able: the command can be shared.

    Raises:
        UserError: it cannot, or another process has ended; in one of the processes, and SystemExit in the others.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    store, number, processes = next(dist.rendezvous("env://", timeout=LONGEST))
    _joined[:] = number, processes
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK") or 0) % gpus)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", store=store, rank=rank(), world_size=count(), timeout=LONGEST)
    try:
        with _quiet():
            if not able:
                hint = f"; `torchrun -m {command}` is one rank of a training" if command in ("pretrain", "instruct") else ""
                raise UserError(f"`llama-gene {command}` works in one process, but {count()} were started; start it alone{hint}")
            yield
            total(torch.zeros(1))  # whoever gets here first waits for the others
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:  # --help
            raise
        first = _first_to_fail(store)
        if isinstance(error, SystemExit) and first:
            raise UserError(f"ended by the launcher of its {count()} processes; what ended the others stands above or below") from None
        if isinstance(error, UserError | SystemExit | KeyboardInterrupt) and not first:
            raise SystemExit(1) from None
        raise
    finally:
        _joined.clear()
    dist.destroy_process_group()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What all processes would say alike the first one says."""
    if not rank():
        yield
        return
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield


def _first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("llama-gene/failed", 1) == 1)
    except RuntimeError:  # the process that kept it has gone
        return True


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"one of the {count()} processes has ended before the work was done; its own line or the launcher's says why, and "
            "nothing half-written is left"
        ) from error


def told(value: T, by: int = 0) -> T:
    """What one process says (plain JSON values), in all of them. A meeting: nobody goes on before all are here."""
    if count() == 1:
        return value
    import torch
    import torch.distributed as dist

    said = json.dumps(value).encode() if rank() == by else b""
    words = torch.zeros(int(total(torch.tensor([len(said)]))), dtype=torch.uint8)
    if said:
        words[:] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
    with _heard():
        dist.broadcast(words, by)
    return json.loads(words.numpy().tobytes())


def total(value: Tensor) -> Tensor:
    """The sum over all processes, in place. A meeting."""
    if count() > 1:
        import torch.distributed as dist

        with _heard():
            dist.all_reduce(value)
    return value


def agreed(wrong: UserError | None) -> None:
    """Raise in all processes what is wrong in one of them. A meeting."""
    if texts := [text for by in range(count()) if (text := told(None if wrong is None else str(wrong), by)) is not None]:
        raise UserError(texts[0])


def mine(number: int) -> bool:
    """Whether it is this process's turn."""
    return number % count() == rank()


def in_turn(
    number: int, make: Callable[[], T], pack: Callable[[T], bytes] | None = None, unpack: Callable[[bytes], T] | None = None
) -> T | None:
    """What the process whose turn it is makes, in the first process; None in all others.

    Args:
        pack, unpack: to bytes and back, where it is no plain JSON value.
    """
    if mine(number) and not rank():
        return make()
    import torch
    import torch.distributed as dist

    if mine(number):
        made = make()
        words = bytearray(pack(made) if pack else json.dumps(made).encode())
        with _heard():
            dist.send(torch.tensor([len(words)]), 0)
            dist.send(torch.frombuffer(words, dtype=torch.uint8), 0)
    if rank():
        return None
    size = torch.zeros(1, dtype=torch.long)
    with _heard():
        dist.recv(size, number % count())
        found = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(found, number % count())
    return unpack(found.numpy().tobytes()) if unpack else json.loads(found.numpy().tobytes())
