"""What `--dry-run` shows of a pre-training run."""

from __future__ import annotations

from pathlib import Path

from pretrain.recipe import PretrainRecipe
from pretrain.train import check
from pretrain.watch import marked_sample
from training.estimate import planned_sizes, report


def preview(recipe: PretrainRecipe) -> None:
    """`--dry-run`: the estimate; where model and shards are there, every check of the run and one decoded training sample too."""
    sizes = planned_sizes(recipe)
    if not ((recipe.model / "tokenizer.json").is_file() and Path(recipe.shards, "manifest.json").is_file()):
        print(report(recipe, sizes, recipe.planned.block_tokens, recipe.planned.tokens, None))
        print("model or shards are not there yet: planned figures; nothing was checked against them")
        return
    ranks = recipe.ranks * recipe.nodes
    tokenizer, order, shards = check(recipe, ranks)
    block_tokens = len(shards[0]["input_ids"])
    print(report(recipe, sizes, block_tokens, order.size * block_tokens, None))
    print(f"an epoch: {', '.join(f'{count:,} blocks of {name}' for name, count in order.quota.items())}")
    print("one training block, [tokens without loss] in brackets:")
    print(marked_sample(recipe, tokenizer, shards[order[0]]))
