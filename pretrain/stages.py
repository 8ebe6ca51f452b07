"""Stages of a run: how long each is, its learning rate, its rotary base, and the table of all of them.

A stage is known from the number of steps done, as the blocks are, so nothing of it is kept in a checkpoint.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from pretrain.recipe import PretrainRecipe


def planned(recipe: PretrainRecipe, tokens_per_step: Sequence[int]) -> PretrainRecipe:
    """The recipe with the steps of every stage. `tokens_per_step`: of each stage, with padding."""
    stages = [
        stage.model_copy(update={"steps": stage.steps or math.ceil((stage.tokens or 0) / size), "tokens": None})
        for stage, size in zip(recipe.stages, tokens_per_step, strict=True)
    ]
    return recipe.model_copy(update={"stages": stages})


def by_stages(scheduler: LambdaLR, recipe: PretrainRecipe) -> LambdaLR:
    """transformers' schedule, multiplied by the learning rate of the stage over that of the recipe."""
    if not recipe.stages:
        return scheduler
    whole = scheduler.lr_lambdas[0]  # one for all groups

    def factor(step: int) -> float:
        rate = recipe.stages[recipe.stage_at(step)].learning_rate
        return whole(step) * (rate / recipe.learning_rate if rate else 1.0)

    return LambdaLR(scheduler.optimizer, factor)


def rates(recipe: PretrainRecipe, steps: int) -> LambdaLR:
    """The schedule of a run that is not there."""
    nothing = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    warmup, more = math.ceil(steps * recipe.warmup), recipe.schedule_options(steps)
    return by_stages(get_scheduler(recipe.schedule, nothing, warmup, steps, more), recipe)


def theta_at(recipe: PretrainRecipe, stage: int) -> float | None:
    """The rotary base that a stage has: its own, or that of the last one before it that has one."""
    return next((one.rope_theta for one in reversed(recipe.stages[: stage + 1]) if one.rope_theta), None)


def extend_context(config: Any, theta: float, context: int) -> None:
    """Put another rotary base, and a context of at least so many tokens, into a configuration."""
    config.rope_parameters = {**config.rope_parameters, "rope_theta": theta}
    config.max_position_embeddings = max(config.max_position_embeddings, context)


def turn(model: Any, theta: float, context: int) -> None:
    """Give a LLaMA another rotary base. Its angles are no weights: they are made anew from the configuration."""
    extend_context(model.config, theta, context)
    before = model.model.rotary_emb
    model.model.rotary_emb = type(before)(config=model.config).to(before.inv_freq.device)


def table(
    recipe: PretrainRecipe,
    block_tokens: Sequence[int],
    tokens_per_step: Sequence[int],
    blocks: Sequence[Mapping[str, int]],
    passes: Sequence[Mapping[str, float]],
) -> str:
    """The plan, a line for each stage.

    Args:
        blocks: of each stage, by modality. passes: how often all of a modality's blocks were read by its end.
    """
    ends = [sum(stage.steps or 0 for stage in recipe.stages[: number + 1]) for number in range(len(recipe.stages))]
    factor = rates(recipe, ends[-1])
    rows = [["stage", "steps", "tokens", "blocks", "passes so far", "learning rate", "loss", "block", "RoPE base"]]
    for number, (stage, end) in enumerate(zip(recipe.stages, ends, strict=True)):
        steps = stage.steps or 0
        rate = [recipe.learning_rate * factor.lr_lambdas[0](step) for step in (end - steps, end - 1)]
        theta = theta_at(recipe, number)
        whole = sum(blocks[number].values())
        rows.append(
            [
                str(number + 1),
                f"{end - steps + 1:,}-{end:,}",
                f"{steps * tokens_per_step[number]:,}",
                ", ".join(f"{name} {100 * count / whole:.1f} %" for name, count in blocks[number].items() if count),
                ", ".join(f"{name} {count:.2f}" for name, count in passes[number].items() if blocks[number].get(name)),
                f"{rate[0]:.2e} to {rate[1]:.2e}",
                "bases" if recipe.by_bases(end - 1) else "cross-entropy",
                f"{block_tokens[number]:,}",
                f"{theta:,.0f}" if theta else "the model's",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
