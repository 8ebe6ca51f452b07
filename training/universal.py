"""A run under DeepSpeed that goes on with another number of ranks, by DeepSpeed's universal checkpoints.

An optimiser's state lies in a checkpoint as it is cut up over the ranks. The first rank writes it once more, parameter by parameter,
into the same folder; the run then goes on with any number of ranks whose steps have as many rows.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from artefacts.errors import UserError, ensure
from training.checkpoints import read_run
from training.launch import deepspeed_config, zero_of

FOLDER, LATEST = "universal", "latest_universal"
BY_RANKS = ("ranks", "micro_batch", "accumulation", "batch")
"""What may change then; the rows of a step may not."""


def is_universal(checkpoint: Path) -> bool:
    """Whether `convert` has gone through: DeepSpeed writes this file last."""
    return (checkpoint / LATEST).is_file()


def loads_universal(checkpoint: Path, name: str) -> dict[str, Any]:
    """The config of that name as DeepSpeed takes it to load a universal checkpoint; the first rank makes it one, the others wait."""
    if not int(os.environ.get("RANK") or 0):
        convert(checkpoint)
    while not is_universal(checkpoint):
        time.sleep(0.1)
    return {**json.loads(deepspeed_config(name).read_text(encoding="utf-8")), "checkpoint": {"load_universal": True}}


def convert(checkpoint: Path) -> None:
    """Write the universal form of a checkpoint into it, where it is not there yet.

    Like every resumption, it reads the pickles of DeepSpeed's own checkpoint.

    Raises:
        UserError: one with `round_robin_gradients`.
    """
    if is_universal(checkpoint):
        return
    run = read_run(checkpoint).get("run", {})
    states = [path for path in checkpoint.glob("global_step*") if path.is_dir()]
    ensure(len(states) == 1, f"{checkpoint}: {len(states)} states of DeepSpeed")
    if zero_of(run["deepspeed"]).get("round_robin_gradients"):
        # seen: converted, it goes on with wrong weights, without a word
        raise UserError(
            f"{checkpoint}: was written with round_robin_gradients, which DeepSpeed's conversion mixes up; continue with "
            f"{run.get('ranks')} ranks, or begin anew from its weights with model={checkpoint}"
        )
    from deepspeed.checkpoint.ds_to_universal import main as ds_to_universal

    out = checkpoint / FOLDER
    shutil.rmtree(out, ignore_errors=True)  # of a conversion that was cut short
    ds_to_universal(
        argparse.Namespace(
            input_folder=str(states[0]),
            output_folder=str(out),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,  # names of parameters for pipelines and tensor parallelism, of which there are none
        )
    )


class AfterUniversal(TrainerCallback):
    """Sets right what DeepSpeed (0.19.8, ZeRO-3) loads wrong from a universal checkpoint.

    All parameters get one and the same counter of steps, which then goes up once for each group of them, and all groups
    the learning rate and weight decay of the first (`load_hp_checkpoint_state_from_checkpoint_dir_stage3`).
    """

    trainer: Any
    """Set before training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
        adam = self.trainer.adam
        for kept in adam.state.values():
            kept["step"] = torch.as_tensor(kept["step"]).clone()
        for group, decay, rate in zip(adam.param_groups, self.trainer.decays, lr_scheduler.get_last_lr(), strict=True):
            group["weight_decay"], group["lr"] = decay, rate
