"""One tuning rank: `deepspeed --num_gpus 8 --module instruct --recipe configs/instruct/tiny.yaml key=value`."""

from __future__ import annotations

from artefacts.command import Verb, run_rank
from instruct.tune.recipe import InstructRecipe
from training.launch import check_launched, end


def work(recipe: InstructRecipe, overwrite: bool) -> None:
    """Train in this process; heavy imports wait until the recipe has been checked."""
    if recipe.deepspeed is not None:
        check_launched("instruct")
    from instruct.tune.tune import tune

    tune(recipe, overwrite=overwrite)


RANK = Verb(
    InstructRecipe,
    work,
    "LoRA instruction tuning, one rank.",
    "deepspeed --num_gpus 1 --module instruct --recipe configs/instruct/tiny.yaml",
)

if __name__ == "__main__":
    end(run_rank("instruct", RANK))
