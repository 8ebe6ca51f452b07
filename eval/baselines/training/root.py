"""Heads of the original by the flags of its predict_v1: where one lies below --model_path, and what it was trained on."""

import argparse
from pathlib import Path
from typing import Any

import torch

from artefacts.command import path_exists
from artefacts.errors import UserError
from configs import CONFIGS
from eval.baselines.embedding.recipe import Windows, checkpoint_below, local_checkpoint
from eval.baselines.training.recipe import PredictRecipe, TrainRecipe

PLACE = ("dataset_name", "dataset_type", "task_type", "model_type", "input_type", "time_str", "step")
HEADS = "http://47.93.21.181/lucaone/DownstreamTasksTrainedModels/"
ARGUMENTS = "training_args.bin"
TASK_KINDS = {"binary_class": "binary", "multi_class": "multiclass", "multi_label": "multilabel", "regression": "regression"}
FIRST_STEP = 5600000
"""Of the encoder of heads that do not say one, as predict_v1 has it."""


def from_root(recipe: PredictRecipe) -> PredictRecipe:
    """The recipe with the folder of the head, its labels, its task and its encoder, where the original's flags choose one below `model`.

    Raises:
        UserError: no such head, or one that nothing here describes.
    """
    given = [name for name in PLACE if getattr(recipe, name) is not None]
    if recipe.dataset_name is None or len(given) < len(PLACE):
        if idle := [name for name in given if name not in ("task_type", "model_type", "input_type")]:
            missing = ", ".join(name for name in PLACE if name not in given)
            raise UserError(f"{', '.join(idle)} choose a head below {recipe.model} only together with {missing}; give them all or none")
        return recipe
    root, *names, step = recipe.model, *(str(getattr(recipe, name)) for name in PLACE)
    folder = root.joinpath("models", *names, step if step == "best" else f"checkpoint-{step}")
    path_exists(folder, "head", f"fetch models/ and logs/ of {HEADS} into {root}, or give the folder of a head alone")
    places = (root.joinpath("logs", *names, "label.txt"), root.joinpath("dataset", *names[:3], "label.txt"))
    labels = recipe.labels or next((path for path in places if path.is_file()), None)
    task = recipe.task or CONFIGS / "baselines" / f"{names[0].lower()}.yaml"
    if not task.is_file():
        raise UserError(f"{names[0]}: none of the ten tasks of configs/baselines; pass task=RECIPE, a recipe that describes its network")
    encoders = recipe.encoders or _encoder(root, folder, needed=not recipe.embeddings or not recipe.matrix_embedding_exists)
    return recipe.model_copy(update={"model": folder, "labels": labels, "task": task, "encoders": encoders})


def _encoder(root: Path, folder: Path, *, needed: bool) -> list[str]:
    """What a head was trained on: below the root, or on the hub; where it is not needed, what is there may have made the embeddings."""
    arguments = training_arguments(folder)
    kind, version = arguments.get("llm_type") or "lucaone", arguments.get("llm_version") or "lucaone"
    step = int(arguments.get("llm_step") or FIRST_STEP)
    version = version if version.startswith("lucaone") else "lucaone"
    if not needed:
        found = local_checkpoint(root, version, step) if kind.startswith("luca") else None
        return [] if found is None else [found]
    if not kind.startswith("luca"):
        raise UserError(f"{folder}: was trained on {kind}; pass encoders=FOLDER, a folder or hub id of that model")
    return [checkpoint_below(root, version, step)]


def training_arguments(folder: Path) -> dict[str, Any]:
    """What training_args.bin says, read without running anything in it; empty where there is none.

    Raises:
        UserError: it holds more than plain values.
    """
    path = folder / ARGUMENTS
    if not path.is_file():
        return {}
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return dict(vars(torch.load(path, map_location="cpu", weights_only=True)))
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({reason}); fetch it again, or move it away and say encoders=FOLDER") from None


def as_trained(trained: TrainRecipe, folder: Path) -> TrainRecipe:
    """The recipe of a shipped head with the windows and rows that its own arguments name."""
    said = training_arguments(folder)
    names = [name for name in (*Windows.model_fields, "matrix_add_special_token") if said.get(name) is not None]
    return trained.model_copy(update={name: said[name] for name in names})


def check_agrees(recipe: PredictRecipe, trained: TrainRecipe) -> None:
    """Raise UserError where a flag, or the training_args.bin beside it, says something else of a head than it is."""
    found = {
        "task_type": next(name for name, kind in TASK_KINDS.items() if kind == trained.loss.kind),
        "model_type": trained.network.net,
        "input_mode": "pair" if trained.network.pair else "single",
        "input_type": "matrix",
        "task_level_type": "seq_level",
    }
    said = training_arguments(recipe.model)
    for name, own in found.items():
        if (flag := getattr(recipe, name)) not in (None, own):
            raise UserError(f"{name}={flag}: but the head {recipe.model} is {own}; leave it out, or give the right head")
        if (noted := str(said.get(name, own)).replace("-", "_")) not in (own, "None"):
            raise UserError(
                f"{recipe.model / ARGUMENTS}: says {name}={noted}, and the head is read as {own}; give the right head or task, or move "
                "that file away"
            )
