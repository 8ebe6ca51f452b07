"""`llama-gene eval run`: predict with several models, measure their English, score them together, write the report.

Every step is the command of that name with files between them, so each can be called again by hand. A step whose output is
there, made by the same recipe from the same inputs, is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from artefacts.command import Verb
from artefacts.errors import UserError
from artefacts.folder import fingerprint, manifest_path
from artefacts.recipe import Recipe, validate
from eval.recipe import PredictRecipe, RunRecipe
from eval.subjects import check_subject, identity


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
    newest = max((manifest_path(folder).stat().st_mtime_ns for folder in recipe.predictions if manifest_path(folder).is_file()), default=0)
    for number, (name, verb, step) in enumerate(steps, 1):
        head = f"[{number}/{len(steps)}] {name}"
        after = newest if name in ("score", "report") else 0  # the others read nothing that an earlier step made
        if not overwrite and done(step, after):
            print(f"{head}: done already", flush=True)
        else:
            print(head, flush=True)
            verb.work(step, _out(step).exists())
        newest = max(newest, manifest_path(_out(step)).stat().st_mtime_ns)


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
    local = [f"{s.model}+{s.adapter}" if s.adapter else str(s.model) for s in recipe.models.values() if s.endpoint is None]
    if recipe.english is not None and local:
        steps.append(step("retention", "retention", models=list(dict.fromkeys(local)), text=recipe.english, out=out / "retention.json"))
    scored = {"records": recipe.records, "predictions": [*folders.values(), *recipe.predictions], "out": out / "metrics.json"}
    steps.append(step("score", "score", **scored, **recipe.score))
    first = next(iter(folders.values()))
    shown = {"title": recipe.title, "metrics": out / "metrics.json", "records": recipe.records, "predictions": first}
    steps.append(step("report", "report", **shown, out=out / "report.html", **recipe.report))
    return steps


def done(step: Recipe, after: int) -> bool:
    """Whether a step's output is there, made by this recipe, no older than `after` (ns), and, for predictions, of these very inputs."""
    manifest = manifest_path(_out(step))
    if not (_out(step).exists() and manifest.is_file()) or manifest.stat().st_mtime_ns < after:
        return False
    noted = json.loads(manifest.read_text(encoding="utf-8"))
    if noted["recipe"] != step.model_dump(mode="json"):
        return False
    if isinstance(step, PredictRecipe):
        return noted["inputs"] == {**identity(step), "records": fingerprint(step.records)}
    return True


def _out(step: Recipe) -> Path:
    return Path(step.out)  # type: ignore[attr-defined]
