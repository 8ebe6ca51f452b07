"""Training ranks as processes of their own, forked from one that has imported everything: a run starts in a second.

    nursery = Nursery()
    done = nursery.run(recipe, ranks=2)       # done.codes, done.text
    nursery.run(recipe, die={"event": "step", "step": 7})   # killed by SIGKILL after the seventh step

`die`: where the process kills itself, as a machine that fails would: `step` (the update is made, nothing logged), `saving`
(half a checkpoint is on disk), `placing` (written, not yet renamed), `train_end`; `ask`: it sends itself
SIGTERM instead; `touch`: it makes a file of that name in the checkpoints' folder.

    done = nursery.share(["baseline", "embed", …], log)   # a `llama-gene` command in two processes, as torchrun starts them

There `die` is `call`, a function of torch.distributed, and `time`, before which call of it the process of number `rank` kills itself;
or `unreadable`, the beginning of ids of records that this process cannot read.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.recipe import dump
from training.recipe import TrainingRecipe

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
STEPS, SAVE_EVERY = 20, 6
"""Of the pre-training runs in tests/pretrain."""


@dataclass(frozen=True)
class Done:
    codes: list[int]
    """Exit code of each rank; -9 of one that was killed."""
    text: str
    """What all of them printed."""


class Nursery:
    def __init__(self) -> None:
        environment = {**os.environ, **ENVIRONMENT}
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, recipe: TrainingRecipe, ranks: int = 1, die: dict[str, Any] | None = None, offline: dict[str, str] | None = None) -> Done:
        """Train by a recipe, all ranks on this machine, and wait for them. `offline`: variables of an environment without network."""
        file = recipe.out.with_name(f"{recipe.out.name}.yaml")
        file.write_text(dump(recipe), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = recipe.out.with_name(f"{recipe.out.name}.log")
        room = type(recipe).__module__.partition(".")[0]
        job = {"room": room, "recipe": str(file), "ranks": ranks, "port": port, "die": die, "log": str(log), "offline": offline}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        codes = json.loads(self.process.stdout.readline())
        return Done(codes, log.read_text(encoding="utf-8", errors="replace"))

    def call(
        self, argv: list[str], log: Path, after: float | None = None, largest: int | None = None, memory: int | None = None
    ) -> tuple[int, float]:
        """Give a `llama-gene` command; returns its exit code and how long it took.

        Args:
            after: seconds until it is killed by SIGKILL.
            largest: bytes that a file of it may have, as where the disk is full.
            memory: bytes of addresses that it may take beyond those it begins with.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"argv": argv, "log": str(log), "after": after, "largest": largest, "memory": memory}) + "\n")
        code, seconds = json.loads(self.process.stdout.readline())
        return code, seconds

    def share(self, argv: list[str], log: Path, ranks: int = 2, die: dict[str, Any] | None = None) -> Done:
        """Give a `llama-gene` command to several processes, and wait for them; none is ended from outside when another fails."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        job = {"shared": argv, "ranks": ranks, "port": port, "die": die, "log": str(log), "offline": None}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        codes = json.loads(self.process.stdout.readline())
        return Done(codes, log.read_text(encoding="utf-8", errors="replace"))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def arm(room: str, die: dict[str, Any]) -> None:
    """Make this process end itself at the event: by wrapping what the run calls there, which is called all the same."""
    from training import checkpoints

    if room == "pretrain":
        from pretrain.trainer import GeneTrainer as Trainer
        from pretrain.watch import HeldoutWatch as Watch
    else:
        from instruct.tune.tune import AnswerTrainer as Trainer  # type: ignore[assignment]
        from instruct.tune.watch import DevWatch as Watch  # type: ignore[assignment]

    number = signal.SIGTERM if die.get("ask") else signal.SIGKILL

    def end(step: int, work: Path | None = None) -> None:
        if step == die["step"] and "touch" in die:
            assert work is not None
            (work / die["touch"]).touch()
        elif step == die["step"]:
            os.kill(os.getpid(), number)

    step_ends, train_ends, saves, places = (
        Watch.on_step_end,
        Watch.on_train_end,
        Trainer._save_rng_state,
        checkpoints.put_in_place,
    )

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        step_ends(self, args, state, control, **more)
        if die["event"] == "step":
            end(state.global_step, Path(args.output_dir))

    def on_train_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        train_ends(self, args, state, control, **more)
        if die["event"] == "train_end":
            end(state.global_step)

    def save_rng(self: Any, folder: str) -> None:
        if die["event"] == "saving":
            end(self.state.global_step)
        saves(self, folder)

    def put_in_place(written: Path, work: Path, keep: int) -> None:
        if die["event"] == "placing":
            end(int(written.name.partition("-")[2]))
        places(written, work, keep)

    Watch.on_step_end, Watch.on_train_end = on_step_end, on_train_end  # type: ignore[method-assign]
    Trainer._save_rng_state, checkpoints.put_in_place = save_rng, put_in_place  # type: ignore[method-assign]


def arm_call(die: dict[str, Any]) -> None:
    """Make this process kill itself before a call of torch.distributed."""
    import torch.distributed

    if "unreadable" in die:
        from artefacts.errors import UserError
        from eval.baselines.training.features import Features

        read = Features.matrices

        def matrices(self: Any, examples: Any) -> Any:
            if any(example.id.startswith(die["unreadable"]) for example in examples):
                raise UserError(f"{die['unreadable']} cannot be read")
            return read(self, examples)

        Features.matrices = matrices  # type: ignore[method-assign]
        return
    calls, call = [0], getattr(torch.distributed, die["call"])

    def counted(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == die["time"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **more)

    setattr(torch.distributed, die["call"], counted)


def stay_home() -> None:
    """Let this process ask no name server and reach nothing but itself; what it tries is printed."""

    def guarded(call: Any, host_of: Any) -> Any:
        def guard(*args: Any, **more: Any) -> Any:
            host = host_of(*args)
            if host not in ("127.0.0.1", "localhost", "::1", None, ""):
                print(f"NETWORK: {host}", flush=True)
                raise OSError(f"no network in this test: {host}")
            return call(*args, **more)

        return guard

    address = lambda own, to, *_: to[0] if isinstance(to, tuple) else None  # noqa: E731
    socket.socket.connect = guarded(socket.socket.connect, address)  # type: ignore[method-assign]
    socket.getaddrinfo = guarded(socket.getaddrinfo, lambda host, *_: host)


def rank(job: dict[str, Any], number: int) -> int:
    """One rank, in a process of its own."""
    import llama_gene
    from artefacts.command import run_rank

    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(job["ranks"]), "LOCAL_WORLD_SIZE": str(job["ranks"])}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job["port"])}
    if job["offline"] is not None:
        os.environ |= job["offline"]
        stay_home()
    dies = job["die"] is not None and number == job["die"].get("rank", 0)
    if "shared" in job:
        signal.alarm(100)  # whoever still waits then hangs
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        if dies:
            arm_call(job["die"])
        return llama_gene.main(job["shared"])
    verb = importlib.import_module(f"{job['room']}.__main__").RANK
    if dies:
        arm(job["room"], job["die"])
    return run_rank(job["room"], verb, ["--recipe", job["recipe"]])


def command(job: dict[str, Any]) -> tuple[int, float]:
    """A command in a process of its own, killed where it takes too long."""
    begun = time.monotonic()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    teller = None
    if job["largest"] is not None:  # what it says is no file of its own: a disk that is full must not swallow the reason
        teller = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert teller.stdin is not None
        os.close(log)
        log = teller.stdin.fileno()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            import llama_gene

            if job["largest"] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
            if job["memory"] is not None:
                taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (taken + job["memory"], taken + job["memory"]))
            code = llama_gene.main(job["argv"])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if job["after"] is not None:
        time.sleep(job["after"])
        os.kill(child, signal.SIGKILL)  # nothing to a child that has ended, and is not waited for yet
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - begun
    if teller is None:
        os.close(log)
    else:
        teller.communicate()
    return os.waitstatus_to_exitcode(status), seconds


def main() -> None:
    import deepspeed
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401  # imports torch's compiler: else half of the time of every run
    import peft  # noqa: F401
    import torch.distributed

    import data_convert.corpus.pack  # noqa: F401
    import eval.baselines.embedding.extract
    import eval.baselines.training.command
    import eval.baselines.training.predict  # noqa: F401
    import instruct.tune.tune  # noqa: F401
    import pretrain.train  # noqa: F401

    gc.freeze()  # the collector of a run need not walk, and so copy, what all runs share
    for line in sys.stdin:
        job = json.loads(line)
        if "argv" in job:
            print(json.dumps(command(job)), flush=True)
            continue
        Path(job["log"]).write_text("")
        children = []
        # torchrun keeps what its processes tell each other, and outlives them
        kept = torch.distributed.TCPStore("127.0.0.1", job["port"], is_master=True, wait_for_workers=False) if "shared" in job else None
        for number in range(job["ranks"]):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = rank(job, number)
                except SystemExit as left:
                    code = int(left.code or 0)
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            children.append(child)
        codes: dict[int, int] = {}
        while len(codes) < len(children):
            child, status = os.wait()
            codes[child] = os.waitstatus_to_exitcode(status)
            if codes[child] and "shared" not in job:  # as launchers do: the others would wait for it for ever
                for other in set(children) - codes.keys():
                    os.kill(other, signal.SIGTERM if codes[child] == 143 else signal.SIGKILL)
        del kept
        print(json.dumps([codes[child] for child in children]), flush=True)


if __name__ == "__main__":
    main()
