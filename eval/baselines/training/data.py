"""The records that a head is trained, chosen and tested on: read, drawn, and looked through for what a score should be read with."""

from __future__ import annotations

import numpy as np

from artefacts.errors import UserError
from data_convert.tasks.kinds import KINDS
from eval.baselines.training.examples import Data
from eval.baselines.training.official import from_csv
from eval.baselines.training.recipe import TrainRecipe
from eval.baselines.training.records import from_records


def read_data(recipe: TrainRecipe) -> Data:
    """The task that a recipe names, drawn down to max_train, max_dev, max_test.

    Raises:
        UserError: files missing, a bad row (file:line), a single class, no test or train records, class weights of other classes.
    """
    folder = recipe.data
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with train, dev and test CSV files or instruction records")
    data = from_records(recipe) if (folder / "train.jsonl").is_file() else from_csv(recipe)
    if not data.splits.get("train") or not data.splits.get("test"):
        raise UserError(f"{folder}: {'train' if not data.splits.get('train') else 'test'} has no records; both are needed")
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(data.names):
        raise UserError(
            f"{folder}: {len(data.names)} classes (0 is '{data.names[0]}'), but {len(weights)} values in loss.class_weights; "
            "give one for each class in the order of their codes, or loss.class_weights=null"
        )
    return drawn(data, recipe)


def drawn(data: Data, recipe: TrainRecipe) -> Data:
    """With a dev split, at most max_train, max_dev and max_test records, and notes.

    Raises:
        UserError: a single class in train.
    """
    rng = np.random.default_rng(recipe.seed)
    if not data.splits.get("dev"):
        order = rng.permutation(len(data.splits["train"]))
        cut = max(1, round(recipe.dev_share * len(order)))
        whole = data.splits["train"]
        data.splits["dev"], data.splits["train"] = [whole[i] for i in sorted(order[:cut])], [whole[i] for i in sorted(order[cut:])]
        data.notes.append(f"dev: {cut} records cut from train")
    for split, limit in (("train", recipe.max_train), ("dev", recipe.max_dev), ("test", recipe.max_test)):
        records = data.splits[split]
        if limit is not None and len(records) > limit:
            data.splits[split] = [records[i] for i in sorted(rng.choice(len(records), limit, replace=False))]
    train = data.splits["train"]
    if KINDS[data.kind].one_label and len({example.label for example in train}) < 2:
        raise UserError(f"{recipe.data}: its train records hold a single class, so there is nothing to learn")
    repeated = {tuple(i.letters for i in e.inputs) for e in train} & {tuple(i.letters for i in e.inputs) for e in data.splits["test"]}
    if repeated:
        data.notes.append(f"{len(repeated)} inputs stand in train and in test")
    if [e.inputs for e in data.splits["dev"]] == [e.inputs for e in data.splits["test"]]:
        data.notes.append("dev and test are the same records: the test score chose the epoch")
    return data
