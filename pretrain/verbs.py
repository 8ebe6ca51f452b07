"""The command `llama-gene pretrain`. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb


def _pretrain() -> Verb[Any]:
    from pretrain.recipe import PretrainRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists
        from artefacts.folder import read_manifest
        from artefacts.launch import deepspeed_config, launch_recipe

        path_exists(recipe.model / "config.json", "model", "make one with `llama-gene tokenizer extend`")
        read_manifest(recipe.shards, "shards")
        if recipe.deepspeed is not None:
            deepspeed_config(recipe.deepspeed)
            launch_recipe("pretrain", recipe, overwrite, recipe.ranks)
            return
        from pretrain.train import train

        train(recipe, overwrite=overwrite)

    def preview(recipe: Any) -> None:
        from pretrain.preview import preview

        preview(recipe)

    return Verb(
        PretrainRecipe,
        work,
        "Continued pre-training on token shards, under the DeepSpeed launcher.",
        "llama-gene pretrain --model runs/extended --shards runs/shards --out runs/pretrained learning_rate=5e-4\n"
        "deepspeed --num_gpus 8 --module pretrain --recipe configs/pretrain/llama3-8b.yaml",
        dry_run=preview,
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "pretrain": ("continued pre-training under DeepSpeed", _pretrain),
}
"""Command -> (one line for the overview, how to make it)."""
