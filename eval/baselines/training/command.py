"""`llama-gene baseline train`: a folder with the head, its figures and its predictions of test.

model.safetensors     the head, upstream's parameter names
head.json             what `baseline predict` needs beside it: the resolved recipe, widths, targets' mean and deviation
label.txt             class names
history.jsonl         training loss and dev score of each epoch
metrics.json          figures on dev and test at the best epoch
test_prediction.csv   as predict_v1 writes it, with ground_truth
rejected.csv          rows that were set aside, with reason and place
predictions/          <system>.jsonl for `eval score`, where the data are instruction records

What is wrong with a test record costs its figures, not the training: the folder then holds all the rest.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_file, new_folder, write_json, write_manifest
from artefacts.ranks import mine, rank
from data_convert.tasks.kinds import KINDS
from eval.baselines.embedding.encoder import pick_device
from eval.baselines.training.data import Data, Example, gather, read_data, score_lines
from eval.baselines.training.features import Features
from eval.baselines.training.fit import Fitted, blocks, fit, measure, predict
from eval.baselines.training.recipe import TrainRecipe, departures
from eval.baselines.training.table import PredictionTable


def train(recipe: TrainRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Train a head; return the figures, and under `notes` what they should be read with.

    Raises:
        UserError: output exists, bad data, an encoder or embeddings that cannot be read, a training that diverged.
    """
    check_absent(recipe.out, overwrite)
    recipe = recipe.resolved()
    data = read_data(recipe)
    device = pick_device(recipe.gpu_id)
    features = Features(recipe)
    # whatever can be refused before the first epoch
    for examples in data.splits.values():
        features.check(examples)
    if features.stores:
        _read_through(features, [example for split in ("dev", "test") for example in data.splits[split]])
    # what this process reads; test is read once, when memory need not hold it
    features.prepare([example for number, example in enumerate(data.splits["train"]) if mine(number)], "embed train")
    dev = [data.splits["dev"][i] for number, block in enumerate(blocks(data.splits["dev"])) if mine(number) for i in block]
    features.prepare(dev, "embed dev")
    # train, and measure on dev
    fitted = fit(recipe, data, features, device)
    figures: dict[str, Any] = {"best_epoch": fitted.best_epoch, "epochs": len(fitted.history), "train": {"n": len(data.splits["train"])}}

    def measured(split: str) -> np.ndarray:
        found_NC = predict(fitted, data.splits[split], features, device, shared=True)
        figures[split] = measure(data, data.splits[split], found_NC, recipe.metric, recipe.seed)
        return found_NC

    measured("dev")
    # a mistake in test costs its figures, not the head
    found_NC, wrong = None, None
    try:
        found_NC = measured("test")
    except UserError as error:
        wrong = error
    figures |= {"notes": [*data.notes, *(["test was not measured"] if wrong else [])], "differs_from_the_original": departures(recipe)}
    if rank():
        return figures
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        save_head(folder, recipe, data, fitted, features.widths(data.splits["train"][0]))
        write_json(folder / "metrics.json", figures)
        with (folder / "history.jsonl").open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in fitted.history)
        if data.rejected:
            with (folder / "rejected.csv").open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerows([["reason", "where"], *data.rejected])
        counts = {"splits": {split: len(examples) for split, examples in data.splits.items()}, "ledgers": data.ledgers, "notes": data.notes}
        if found_NC is not None:
            _write_csv(folder / "test_prediction.csv", recipe, data, found_NC)
            lines = score_lines(data, data.splits["test"], found_NC)
            for gathered in [folder / "predictions", *([recipe.predictions] if recipe.predictions is not None else [])] if lines else []:
                gather(gathered / f"{recipe.system}.jsonl", lines, departures(recipe))
        write_manifest(folder, "head", recipe=recipe.model_dump(mode="json"), inputs={"data": fingerprint(recipe.data)}, counts=counts)
    if wrong is not None:
        raise UserError(f"{wrong}; the head is in {recipe.out}: once that is mended, `baseline predict` tests it")
    print(", ".join(f"{name} {value}" for name, value in figures["test"].items() if name != "interval"))
    for note in figures["notes"]:
        print(f"note: {note}")
    return figures


def _read_through(features: Features, examples: list[Example]) -> None:
    """Read stored embeddings once: one of another sequence, damaged, or with NaN is told before the epochs, not after them."""
    for example in tqdm(examples, desc="read dev and test", unit="record", disable=None):
        for item, store, (matrix,) in zip(example.inputs, features.stores, features.matrices([example]), strict=True):
            if not bool(matrix.isfinite().all()):
                raise UserError(f"{store.folder}: the embedding of '{item.id}' holds numbers that are not finite; embed it again")


def save_head(folder: Path, recipe: TrainRecipe, data: Data, fitted: Fitted, widths: list[int]) -> None:
    """The files that `baseline predict` reads."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in fitted.head.state_dict().items()}, folder / "model.safetensors")
    saved = {"recipe": recipe.model_dump(mode="json"), "widths": widths, "mean": fitted.mean, "deviation": fitted.deviation}
    write_json(folder / "head.json", saved)
    if data.names:
        (folder / "label.txt").write_text("\n".join(["label", *data.names]) + "\n", encoding="utf-8")


def _write_csv(path: Path, recipe: TrainRecipe, data: Data, probabilities_NC: np.ndarray) -> None:
    test = data.splits["test"]
    table = PredictionTable(path, data.kind, data.names, pair=recipe.network.pair, topk=1, threshold=0.5, truth=True)
    rows = []
    for example, row in zip(test, probabilities_NC, strict=True):
        ids = [item.id for item in example.inputs] if example.source is None else [example.id] * len(example.inputs)
        rows.append(table.row(ids, [item.letters for item in example.inputs], row, _truth(example, data)))
    with new_file(path) as file:
        table.write(file, rows)


def _truth(example: Example, data: Data) -> str:
    return str(KINDS[data.kind].label(example.label, data.names))
