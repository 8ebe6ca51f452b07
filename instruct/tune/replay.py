"""Replay: documents of pre-training between the records of tuning, so that the model keeps what it could do before.

Tuning on answers alone cost SmolLM2-135M 15 % of its English in 80 steps (docs/results.md).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError
from data_convert.corpus.shards import load_shards
from instruct.tune.encode import Encoded
from instruct.tune.recipe import InstructRecipe
from training.batch import documents_in
from training.order import Order


def kind_of(modality: str) -> str:
    """How documents are named beside the tasks of records."""
    return f"replay of {modality}"


def add_documents(
    folder: Path, encoded: Encoded, order: Order, weights: list[Any] | None, recipe: InstructRecipe, rows_per_step: int
) -> tuple[Order, list[Any]]:
    """Put documents of the shards in `folder` behind the records, as many as the run can need.

    A document longer than `max_tokens` is cut. Of an epoch's tokens, and of its loss, each modality has the part that
    `recipe.replay` says; the records have the rest.

    Returns:
        The order of records and documents, and the weight of each: a number, or one for each token of the document.

    Raises:
        UserError: shards of another tokenizer, or without such a modality.
    """
    shards = load_shards(folder, "train", recipe.model).with_format("numpy")
    modalities = np.asarray(shards.data.column("modality").to_pylist())
    records, mass = _epoch(order, [len(ids) for ids in encoded.ids], encoded.answer_tokens, weights)
    rest = 1 - sum(recipe.replay.values())
    whole = recipe.steps * rows_per_step * recipe.max_tokens if recipe.steps else max(1, recipe.epochs) * records / rest
    weights = [1.0] * len(encoded) if weights is None else list(weights)
    rows, quota = dict(order.rows), dict(order.quota)
    for modality, part in sorted(recipe.replay.items()):
        blocks = np.flatnonzero(modalities == modality)
        if not len(blocks):
            raise UserError(f"replay: {folder} holds no {modality}; it holds {', '.join(sorted(set(modalities.tolist())))}")
        first, tokens, loss = len(encoded), 0, 0.0
        for number in np.random.default_rng(recipe.seed).permutation(blocks).tolist():
            for ids, weight in _documents(shards[number], recipe.max_tokens):
                encoded.tasks.append(kind_of(modality))
                encoded.ids.append(ids)
                encoded.starts.append(1)
                weights.append(weight)
                tokens, loss = tokens + len(ids), loss + float(weight[1:].sum())
            if tokens >= part * whole:
                break
        found = len(encoded) - first
        rows[kind_of(modality)] = np.arange(first, len(encoded))
        quota[kind_of(modality)] = count = max(1, round(part / rest * records * found / tokens))
        scale = part / rest * mass * found / (count * loss)
        weights[first:] = [scale * weight for weight in weights[first:]]
    return Order(rows, quota, order.seed), weights


def _epoch(order: Order, lengths: list[int], answers: list[int], weights: list[Any] | None) -> tuple[float, float]:
    """Tokens of an epoch's records, and the sum of their labels' weights."""
    loss = np.array(answers) * (1.0 if weights is None else np.array(weights))
    means = [(order.quota[task], np.mean(np.array(lengths)[rows]), loss[rows].mean()) for task, rows in order.rows.items()]
    return sum(count * length for count, length, _ in means), sum(count * each for count, _, each in means)


def _documents(block: Mapping[str, Any], most: int) -> list[tuple[Any, Any]]:
    """Ids and weights of a block's documents, in parts of at most `most` tokens; a single token teaches nothing."""
    *documents, _ = documents_in(block)
    parts = [
        (one.ids[place : place + most], one.weight[place : place + most]) for one in documents for place in range(0, len(one.ids), most)
    ]
    return [(ids.astype(np.int32), weights) for ids, weights in parts if len(ids) > 1]
