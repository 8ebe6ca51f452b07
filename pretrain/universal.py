"""A run on another number of ranks, by DeepSpeed's universal checkpoints.

    python -m pretrain.universal runs/my/pretrained.checkpoints/checkpoint-600

An optimiser's state lies in a checkpoint as it is cut up over the ranks. This writes it once more, parameter by parameter, into
the same folder; the run then goes on with any number of ranks whose steps have as many blocks.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from artefacts.command import guarded
from artefacts.errors import UserError
from training.checkpoints import read_run
from training.launch import zero_of

FOLDER, LATEST = "universal", "latest_universal"
BY_RANKS = ("ranks", "micro_batch", "accumulation", "batch")
"""What may change then; the blocks of a step may not."""


def is_universal(checkpoint: Path) -> bool:
    """Whether `convert` has gone through: DeepSpeed writes this file last."""
    return (checkpoint / LATEST).is_file()


def convert(checkpoint: Path) -> Path:
    """Write the universal form of a checkpoint into it; returns that folder.

    Like every resumption, it reads the pickles of DeepSpeed's own checkpoint: convert none that you did not make.

    Raises:
        UserError: no checkpoint of this program under DeepSpeed, or one with `round_robin_gradients`.
    """
    run = read_run(checkpoint).get("run", {})
    states = [path for path in checkpoint.glob("global_step*") if path.is_dir()]
    if len(states) != 1 or not run.get("deepspeed"):
        raise UserError(f"{checkpoint}: no checkpoint of `llama-gene pretrain` under DeepSpeed; name one, OUT.checkpoints/checkpoint-N")
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
    return out


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m pretrain.universal", description="Make a checkpoint free of its number of ranks.", allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, help="OUT.checkpoints/checkpoint-N")
    checkpoint = parser.parse_args(arguments).checkpoint
    said = "the same command goes on from here, with any number of ranks whose steps have as many blocks"
    return guarded(lambda: print(f"{convert(checkpoint).parent}: {said}"))


if __name__ == "__main__":
    sys.exit(main())
