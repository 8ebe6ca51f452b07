"""`llama-gene baseline train`: a folder with the head, its figures and its predictions of test.

model.safetensors     the head, upstream's parameter names
head.json             what `baseline predict` needs beside it: the resolved recipe, widths, targets' mean and deviation
label.txt             class names
history.jsonl         training loss and dev score of each epoch
metrics.json          figures on dev and test at the best epoch
test_prediction.csv   as predict_v1 writes it, with ground_truth
predictions/          <system>.jsonl for `eval score`, where the data are instruction records
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from artefacts.folder import check_absent, fingerprint, new_file, new_folder, write_manifest
from eval.baselines.embedding.encoder import pick_device
from eval.baselines.split import Task, classified, predicted
from eval.baselines.training.data import Data, Example, read_data
from eval.baselines.training.features import Features
from eval.baselines.training.fit import Fitted, fit, predict
from eval.baselines.training.measure import measure, two_columns
from eval.baselines.training.recipe import TrainRecipe
from eval.baselines.training.table import PredictionTable
from eval.predictions import read_lines


def train(recipe: TrainRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Train a head; return the figures of test.

    Raises:
        UserError: output exists, bad data, an encoder or embeddings that cannot be read.
    """
    check_absent(recipe.out, overwrite)
    recipe = recipe.resolved()
    data = read_data(recipe)
    device = pick_device(recipe.gpu_id)
    features = Features(recipe)
    for split, examples in data.splits.items():
        features.prepare(examples, f"embed {split}")
    fitted = fit(recipe, data, features, device)
    figures: dict[str, Any] = {"best_epoch": fitted.best_epoch, "epochs": len(fitted.history), "train": {"n": len(data.splits["train"])}}
    probabilities = {split: predict(fitted, data.splits[split], features, device) for split in ("dev", "test")}
    for split, found in probabilities.items():
        figures[split] = measure(data, data.splits[split], found, recipe.metric, recipe.seed)
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        save_head(folder, recipe, data, fitted, features.widths(data.splits["train"][0]))
        _write_json(folder / "metrics.json", {**figures, "notes": data.notes})
        with (folder / "history.jsonl").open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in fitted.history)
        _write_csv(folder / "test_prediction.csv", recipe, data, probabilities["test"])
        lines = score_lines(data, probabilities["test"])
        if lines:
            (folder / "predictions").mkdir()
            gather(folder / "predictions" / f"{recipe.system}.jsonl", lines)
        counts = {"splits": {split: len(examples) for split, examples in data.splits.items()}, "ledgers": data.ledgers, "notes": data.notes}
        write_manifest(folder, "head", recipe=recipe.model_dump(mode="json"), inputs={"data": fingerprint(recipe.data)}, counts=counts)
    if lines and recipe.predictions is not None:
        gather(recipe.predictions / f"{recipe.system}.jsonl", lines)
    return figures


def save_head(folder: Path, recipe: TrainRecipe, data: Data, fitted: Fitted, widths: list[int]) -> None:
    """The files that `baseline predict` reads."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in fitted.head.state_dict().items()}, folder / "model.safetensors")
    saved = {"recipe": recipe.model_dump(mode="json"), "widths": widths, "mean": fitted.mean, "deviation": fitted.deviation}
    _write_json(folder / "head.json", saved)
    if data.names:
        (folder / "label.txt").write_text("\n".join(["label", *data.names]) + "\n", encoding="utf-8")


def score_lines(data: Data, probabilities_NC: np.ndarray) -> list[dict[str, Any]]:
    """Lines for `eval score`, of data that are instruction records."""
    test = data.splits["test"]
    records = [example.source for example in test]
    if any(record is None for record in records):
        return []
    task = Task(records[0]["task"], data.kind, data.names, [], [], records)
    if data.kind == "regression":
        return list(predicted(task, [float(value) for value in probabilities_NC[:, 0]]))
    if data.kind == "multilabel":
        chosen = [[name for name, p in zip(data.names, row, strict=True) if p >= 0.5] for row in probabilities_NC]
        return list(predicted(task, chosen, [dict(zip(data.names, row.tolist(), strict=True)) for row in probabilities_NC]))
    classes_NC = two_columns(probabilities_NC) if data.kind == "binary" else probabilities_NC
    return list(classified(task, np.log(np.maximum(classes_NC, 1e-9))))


def gather(path: Path, lines: list[dict[str, Any]]) -> None:
    """Put a task's lines into a file, in place of those that it held for the task."""
    task = lines[0]["task"]
    kept = [line for line in read_lines(path) if line["task"] != task] if path.is_file() else []
    with new_file(path, overwrite=True) as file, file.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in [*kept, *lines])


def _write_csv(path: Path, recipe: TrainRecipe, data: Data, probabilities_NC: np.ndarray) -> None:
    test = data.splits["test"]
    with PredictionTable(path, data.kind, data.names, pair=recipe.network.pair, topk=1, threshold=0.5, truth=True) as table:
        for example, row in zip(test, probabilities_NC, strict=True):
            ids = [item.id for item in example.inputs] if example.source is None else [example.id] * len(example.inputs)
            table.add(ids, [item.letters for item in example.inputs], row, _truth(example, data))


def _truth(example: Example, data: Data) -> str:
    if data.kind == "regression":
        return repr(example.label)
    codes = example.label if isinstance(example.label, list) else [example.label]
    names = [data.names[code] for code in codes]
    return str(names) if data.kind == "multilabel" else names[0]


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
