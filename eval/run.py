"""`llama-gene eval run`: predict with several models, measure their English, score them together, write the report.

Every step is the command of that name with files between them, so each can be called again by hand. Steps that are done are kept
(see artefacts/steps.py).
"""

from functools import partial
from typing import Any

from artefacts.command import Verb
from artefacts.errors import UserError
from artefacts.folder import fingerprint
from artefacts.recipe import Recipe, validate
from artefacts.steps import Step, run_steps
from eval.ask.subjects import check_subject, identity
from eval.recipe import PredictRecipe, RunRecipe


def run(recipe: RunRecipe, verbs: dict[str, Verb[Any]], *, overwrite: bool = False) -> None:
    """Run the steps that are not done.

    Args:
        verbs: the commands `predict`, `retention`, `score` and `report`.
        overwrite: run every step again.

    Raises:
        UserError: a mistake in any step's recipe or a missing input, before the first step begins.
    """
    if not recipe.models:
        raise UserError("models: name at least one, such as models.llama-gene.model=runs/model")
    steps = planned(recipe, verbs)
    for subject in recipe.models.values():
        check_subject(subject)
    for folder in recipe.predictions:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of predictions; make it with `llama-gene eval predict` or `eval baselines`")
    inputs = {name: partial(_inputs, its) for name, _, its in steps if isinstance(its, PredictRecipe)}
    run_steps([Step(name, its, partial(verb.work, its), inputs=inputs.get(name)) for name, verb, its in steps], overwrite)


def _inputs(recipe: PredictRecipe) -> dict[str, str]:
    return {**identity(recipe), "records": fingerprint(recipe.records)}


def planned(recipe: RunRecipe, verbs: dict[str, Verb[Any]]) -> list[tuple[str, Verb[Any], Recipe]]:
    """(name, command, its recipe) in order. Raises UserError for fields that a command does not know."""
    out = recipe.out

    def step(name: str, verb: str, **fields: Any) -> tuple[str, Verb[Any], Recipe]:
        return name, verbs[verb], validate(verbs[verb].kind, fields, {}, f"eval run, step {name}")

    asking = recipe.predict.model_dump()
    folders = {name: out / "predictions" / name for name in recipe.models}
    steps = [
        step(f"predict {name}", "predict", **subject.model_dump(), **asking, records=recipe.records, system=name, out=folders[name])
        for name, subject in recipe.models.items()
    ]
    dev = {name: out / "dev" / name for name, subject in recipe.models.items() if recipe.calibrate and subject.endpoint is None}
    alone = {**asking, "split": "dev", "controls": [], "greedy": False, "records": recipe.records}
    steps += [
        step(f"predict dev {name}", "predict", **recipe.models[name].model_dump(), **alone, system=name, out=folder)
        for name, folder in dev.items()
    ]
    local = [f"{s.model}+{s.adapter}" if s.adapter else str(s.model) for s in recipe.models.values() if s.endpoint is None]
    if recipe.english is not None and local:
        steps.append(step("retention", "retention", models=list(dict.fromkeys(local)), text=recipe.english, out=out / "retention.json"))
    scored = {
        "records": recipe.records,
        "predictions": [*folders.values(), *recipe.predictions],
        "out": out / "metrics.json",
        "dev": [*dev.values()],
    }
    steps.append(step("score", "score", **scored, **recipe.score))
    first = next(iter(folders.values()))
    shown = {"title": recipe.title, "metrics": out / "metrics.json", "records": recipe.records, "predictions": first}
    steps.append(step("report", "report", **shown, out=out / "report.html", **recipe.report))
    return steps
