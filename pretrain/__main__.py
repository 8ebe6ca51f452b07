"""One training rank: `deepspeed --num_gpus 8 --module pretrain --recipe configs/pretrain/tiny.yaml key=value`."""

from artefacts.command import run_rank
from pretrain.recipe import PretrainRecipe
from training.launch import end, rank

RANK = rank("pretrain", PretrainRecipe, "pretrain.train:train", "pretrain.train:preview")

if __name__ == "__main__":
    end(run_rank("pretrain", RANK))
