"""Checkpoints of an unfinished training run: which one to continue from, and whether it is still the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from artefacts.errors import UserError
from artefacts.folder import new_file
from artefacts.recipe import Recipe

RUN = "run.json"
SILENT = ("out", "log_every", "evaluate_every", "heldout_blocks", "dev_records", "keep_checkpoints", "ranks")
"""Fields that may change between two parts of a run: they do not touch the weights. Ranks are compared as started."""


def settings(recipe: Recipe, inputs: Iterable[str]) -> dict[str, Any]:
    """What two parts of one run must share: the recipe, the ranks, and the inputs (field names), with when they were made."""
    found = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in SILENT}
    for name in inputs:
        folder = Path(found[name]).resolve()
        manifest = folder / "manifest.json"
        made = json.loads(manifest.read_text(encoding="utf-8"))["created"] if manifest.is_file() else "an unknown date"
        found[name] = f"{folder} of {made}"
    found["ranks"] = int(os.environ.get("WORLD_SIZE", "1"))
    return found


def continue_from(work: Path, run: dict[str, Any]) -> Path | None:
    """The newest complete checkpoint in `work`; None at a first start, which notes `run` (see `settings`) there.

    Every rank calls this before training; all find and note the same.

    Raises:
        UserError: the checkpoints belong to a run with other settings.
    """
    checkpoint = newest_complete(work)
    if checkpoint is None:
        with new_file(work / RUN, overwrite=True) as file:
            file.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        return None
    noted = json.loads((work / RUN).read_text(encoding="utf-8")) if (work / RUN).is_file() else {}
    for name, value in run.items():
        if noted.get(name) != value:
            raise UserError(
                f"{work}: holds checkpoints of a run with {name}={noted.get(name)}, now it is {value}; "
                "continue with the old value, or remove that folder to start over"
            )
    return checkpoint


def newest_complete(work: Path) -> Path | None:
    """The newest `checkpoint-STEP` that was written to its end; one that a kill cut short is passed over.

    The trainer writes `trainer_state.json` last.
    """
    for checkpoint in sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            continue
        return checkpoint
    return None


class NoLastCheckpoint(TrainerCallback):
    """No checkpoint of the last step: the finished model is written right after it, and the trainer, continued from such
    a checkpoint, would train one step too many."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False
