"""Checkpoints of an unfinished training run: complete or absent, and whether they are of the same run.

A checkpoint is written to `.partial`, sealed by a hash of every file, and renamed when all ranks have written theirs; only then are
older ones removed. `run.json` in it says which run it belongs to (recipe, ranks, inputs) and how far the data was read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, damage, flush, flush_folder, seal
from artefacts.recipe import Recipe

if TYPE_CHECKING:
    from transformers import Trainer as Base
else:
    Base = object

RUN = "run.json"
PARTIAL = ".partial"
OPTIMIZER, SCHEDULER = "optimizer", "scheduler.pt"
"""What a checkpoint of FSDP2 holds beside the model: a folder of torch's distributed checkpoints, and a file."""
STOP = "stop"
STOPPED = 143
"""Exit code of a run that saved and left on SIGTERM, as of any process that SIGTERM ends."""
SILENT = {"out", "log_every", "evaluate_every", "heldout_blocks", "keep_checkpoints", "ranks", "report_to", "overwrite"}
SILENT |= {"english", "sample_tokens", "planned", "nodes", "peak_tflops"}
"""Fields that may change between two parts of a run: they do not touch the weights. Ranks are compared as started."""
INPUTS = ("model", "shards", "records")
"""Fields that name folders, which are compared by content."""


def settings(recipe: Recipe) -> dict[str, Any]:
    """What two parts of one run must share: the recipe, the ranks, and the inputs by content, wherever they lie."""
    found = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in SILENT}
    found |= {name: identity(Path(found[name])) for name in INPUTS if found.get(name)}
    for stage in found.get("stages", []):
        stage["shards"] = identity(Path(stage["shards"])) if stage["shards"] else None
    found["ranks"] = world_size()
    return found


def identity(folder: Path) -> str:
    """When a folder was made and a digest of its manifest, tokenizer, and names and sizes of files: corpora are too large to read."""
    digest = hashlib.sha256()
    made = "an unknown date"
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        if file.parent == folder and file.name in (MANIFEST, "tokenizer.json", "config.json"):
            digest.update(file.read_bytes())
        if file == folder / MANIFEST:
            made = json.loads(file.read_text(encoding="utf-8")).get("created", made)
    return f"made {made}, digest {digest.hexdigest()[:12]}"


def world_size() -> int:
    """Ranks of this run, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_run(checkpoint: Path, run: dict[str, Any], free: Sequence[str] = ()) -> None:
    """Refuse a checkpoint of another run.

    Args:
        free: settings that may differ this once.

    Raises:
        UserError: the checkpoint belongs to a run with other settings (see `settings`).
    """
    noted = read_run(checkpoint).get("run", {})
    for name, value in run.items():
        if name in free:
            continue
        if noted.get(name) != value:
            raise UserError(
                f"{checkpoint.parent}: holds checkpoints of a run with {name}={noted.get(name)}, now it is {value}. "
                + (f"Continue with the {name} it began with; " if name in INPUTS else "Continue with the old value; ")
                + _anew(checkpoint)
            )


def _anew(checkpoint: Path) -> str:
    return f"a new run can begin from its weights, model={checkpoint} with another out, or remove that folder to start over"


def read_run(checkpoint: Path) -> dict[str, Any]:
    """The run and the position a checkpoint notes; empty where there is none."""
    path = checkpoint / RUN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def check_position(checkpoint: Path, position: Callable[[int], dict[str, Any]]) -> None:
    """Refuse a checkpoint whose steps were of other rows than those that this run has there.

    Args:
        position: what the rows say of so many steps, as `WholeCheckpoints.position`.

    Raises:
        UserError: steps of another size, or other rows.
    """
    noted = read_run(checkpoint)["position"]
    now = position(noted["step"])
    if noted.get("blocks") != now.get("blocks"):
        was, would = (found["blocks"] // noted["step"] for found in (noted, now))
        raise UserError(
            f"{checkpoint.parent}: the steps of {checkpoint.name} have {was} blocks, now they would have {would}; "
            f"set micro_batch and accumulation so that micro_batch x accumulation x ranks is what it was; {_anew(checkpoint)}"
        )
    if noted != now:
        read = {name: value for name, value in noted.items() if name != "step"}
        raise UserError(
            f"{checkpoint.parent}: {checkpoint.name} has read {read}, but this version of the code would have read "
            f"others; continue with the one it began with; {_anew(checkpoint)}"
        )


def newest_complete(work: Path) -> Path | None:
    """The newest `checkpoint-STEP` whose files are what was written; a damaged one is passed over, and named."""
    for checkpoint in sorted(work.glob("checkpoint-*"), key=_step, reverse=True):
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint
        if int(os.environ.get("RANK") or 0) == 0:
            print(f"{checkpoint}: {wrong}; the one before it is taken", file=sys.stderr, flush=True)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


class WholeCheckpoints(Base):
    """Mixin for a `Trainer`: its checkpoints appear whole, with `run.json`, and the last good one is never at risk."""

    run: dict[str, Any]
    """See `settings`; set before training."""
    spread = False
    """Whether FSDP2 spreads the run over its ranks. Of such a run transformers saves the whole model, and nothing else."""
    _saving = False

    def position(self, step: int) -> dict[str, Any]:
        """What else a checkpoint of a step should note, and a continued run should find equal: how far the data was read."""
        return {"step": step}

    def extra_files(self, folder: Path) -> None:
        """Called on the first rank for every checkpoint, before it is put in place."""

    def _save_spread(self, folder: Path) -> None:
        from transformers.distributed import save_optimizer_distributed

        save_optimizer_distributed(self.model, self._adam, str(folder / OPTIMIZER))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER)  # type: ignore[union-attr]
        self._save_rng_state(str(folder))

    @property
    def _adam(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # in accelerate's wrapper

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.spread or (Path(resume_from_checkpoint) / "adapter_config.json").is_file():
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # of a spread model it was read from there

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.spread:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        from transformers.distributed import load_optimizer_distributed

        load_optimizer_distributed(self.model, self._adam, str(Path(checkpoint) / OPTIMIZER))  # for any number of ranks
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))  # type: ignore[union-attr]

    def _get_output_dir(self, trial: Any) -> str:
        work = super()._get_output_dir(trial)
        return str(Path(work) / PARTIAL) if self._saving else work

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        work = Path(str(self.args.output_dir))
        if self.args.should_save:
            shutil.rmtree(work / PARTIAL, ignore_errors=True)  # of a run that was killed while it saved
        self.accelerator.wait_for_everyone()
        self._saving = True
        super()._save_checkpoint(model, trial)
        self._saving = False
        if self.spread:
            self._save_spread(work / PARTIAL / f"checkpoint-{self.state.global_step}")
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            written = work / PARTIAL / f"checkpoint-{self.state.global_step}"
            self.extra_files(written)
            note = {"run": self.run, "position": self.position(self.state.global_step)}
            (written / RUN).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
            seal(written)
            put_in_place(written, work, int(self.args.save_total_limit or 2))
        self.accelerator.wait_for_everyone()


def put_in_place(written: Path, work: Path, keep: int) -> None:
    """Flush a checkpoint to disk, rename it into `work`, then remove all but the newest `keep`, each renamed first."""
    flush(written)
    target = work / written.name
    if target.exists():  # left by a machine that crashed, and passed over
        _remove(target)
    written.rename(target)
    flush_folder(work)
    for old in sorted(work.glob("checkpoint-*"), key=_step)[:-keep]:
        _remove(old)


def _remove(checkpoint: Path) -> None:
    aside = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)  # never half a checkpoint under its own name
    shutil.rmtree(aside)


class NoLastCheckpoint(TrainerCallback):
    """No checkpoint of the last step: the finished model is written right after it, and the trainer, continued from such
    a checkpoint, would train one step too many."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False


class StopWhenAsked(TrainerCallback):
    """Saves and stops after the current step on SIGTERM or SIGUSR1, or when a file `stop` appears in the checkpoints' folder.

    DeepSpeed's launcher kills what still runs 30 s after SIGTERM. Where a checkpoint takes longer, touch the file.
    """

    def __init__(self, work: Path) -> None:
        self.file = work / STOP
        self.stopped = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def ask(number: int, frame: Any) -> None:
            self._asked = True

        self._before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not together(self._asked or self.file.exists(), args.device) or state.global_step >= state.max_steps:
            return
        control.should_save = control.should_training_stop = self.stopped = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopped:
            return  # the launcher may send SIGTERM again while this process ends
        for number, handler in self._before.items():
            signal.signal(number, handler)


def together(wish: bool, device: Any) -> bool:
    """True on every rank when it is on any: ranks get a signal at different steps."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return wish
    flag = torch.tensor(float(wish), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())
