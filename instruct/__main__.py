"""One tuning rank: `deepspeed --num_gpus 8 --module instruct --recipe configs/instruct/tiny.yaml key=value`."""

from artefacts.command import run_rank
from instruct.tune.recipe import InstructRecipe
from training.launch import end, rank

RANK = rank("instruct", InstructRecipe, "instruct.tune.tune:tune", "instruct.tune.tune:preview")

if __name__ == "__main__":
    end(run_rank("instruct", RANK))
