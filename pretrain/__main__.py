"""One training rank: `deepspeed --num_gpus 8 --module pretrain --recipe configs/pretrain/tiny.yaml key=value`."""

from __future__ import annotations

from artefacts.command import Verb, run_rank
from pretrain.recipe import PretrainRecipe
from training.launch import check_launched, end


def work(recipe: PretrainRecipe, overwrite: bool) -> None:
    """Train in this process; heavy imports wait until the recipe has been checked."""
    if recipe.deepspeed is not None:
        check_launched("pretrain")
    from pretrain.train import train

    train(recipe, overwrite=overwrite)


def preview(recipe: PretrainRecipe) -> None:
    """The estimate, for `--dry-run`."""
    from pretrain.preview import preview

    preview(recipe)


RANK = Verb(
    PretrainRecipe,
    work,
    "Continued pre-training, one rank.",
    "deepspeed --num_gpus 1 --module pretrain --recipe configs/pretrain/tiny.yaml",
    dry_run=preview,
)

if __name__ == "__main__":
    end(run_rank("pretrain", RANK))
