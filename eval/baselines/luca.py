"""LucaOne's heads on frozen embeddings of one model, on every task of a records folder: `baseline train` with one recipe for all.

One sequence: LucaBase; two of one kind: LucaPPI; of two kinds: LucaPPI2. Value-attention pooling, no Transformer before it.
Departures from upstream, all in favour of the head: no all-zero rows around a sequence, regression targets standardised over train,
a higher default learning rate because runs here are shorter than upstream's 50 epochs. Not supported: text answers, sets.
"""

from pathlib import Path

from artefacts.errors import ensure
from eval.baselines.embedding.encoder import Encoder
from eval.baselines.heads.options import LossOptions, Network
from eval.baselines.run import LucaOptions
from eval.baselines.split import Record, Task
from eval.baselines.training.data import drawn, from_task, score_lines
from eval.baselines.training.features import Features
from eval.baselines.training.fit import fit, predict
from eval.baselines.training.recipe import Schedule, TrainRecipe


def why_not(task: Task) -> str | None:
    """Why these heads do not apply to a task, or None."""
    if task.answers.why_no_head is not None:
        return task.answers.why_no_head
    return None if len(task.test[0]["inputs"]) <= 2 else "it reads one sequence or two"


def luca_base(task: Task, encoder: Encoder, options: LucaOptions, *, seed: int) -> list[Record]:
    """Train on at most `max_train` records and predict the test records. The same seed gives the same predictions on a CPU."""
    ensure(why_not(task) is None, f"{task.id} has no such head")
    recipe = head_recipe(task, options, seed)
    data = drawn(from_task(task), recipe)
    features = Features(recipe, encoders=[encoder])
    for split in ("train", "dev"):
        features.prepare(data.splits[split], f"embed {split}")
    fitted = fit(recipe, data, features, encoder.device)
    return score_lines(data, data.splits["test"], predict(fitted, data.splits["test"], features, encoder.device))


def head_recipe(task: Task, options: LucaOptions, seed: int) -> TrainRecipe:
    """The recipe of `baseline train` for this task."""
    kinds = ["protein" if given["modality"] == "protein" else "gene" for given in task.test[0]["inputs"]]
    pair = {"net": "lucappi" if kinds[0] == kinds[-1] else "lucappi2", "fc": [128]} if len(kinds) == 2 else {}
    schedule = Schedule(**{name: getattr(options, name) for name in Schedule.model_fields})
    return TrainRecipe(
        data=Path(),  # the records are read already, and the caller writes the predictions
        out=Path(),
        network=Network.model_validate({"dropout": options.dropout, **pair}),
        loss=LossOptions.model_validate({"kind": task.kind}),
        metric=task.answers.primary,  # type: ignore[arg-type]  # one that the recipe knows
        schedule=schedule,
        standardise=task.answers.number,
        max_train=options.max_train,
        max_dev=options.max_dev,
        seed=seed,
    )
