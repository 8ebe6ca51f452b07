"""Two runs on the same records, task by task: paired differences, and tests that know how many tasks there are (`eval compare`)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_file, write_manifest
from artefacts.recipe import Recipe
from data_convert.tasks.cards import read_cards
from data_convert.tasks.kinds import LOWER_IS_BETTER
from eval.judge.ranks import LEVEL, ranks_of
from eval.judge.score import provenance, score_tasks
from eval.predictions import Run, check_parts, find_runs
from eval.show.content import comparison
from eval.show.leaderboard import board_page


class CompareRecipe(Recipe):
    """Compare two runs on the tasks that both have predicted."""

    runs: list[Path] = Field(min_length=2, max_length=2)
    """Two folders of predictions, each of one system beside its controls; plain arguments are these."""
    records: Path
    """Instruction records (`convert tasks`) that both were predicted from."""
    parts: list[Path] = []
    """Other folders of records that predictions may come from; each of their test records has to stand in `records` as it is."""
    out: Path
    """JSON file to write: the figures of both, their differences with intervals, p and p after Holm's correction; beside it a page,
    `<name>.html`, with their average ranks."""
    seed: int = 0
    """Draws the bootstrap resamples, the same for both."""


def compare(recipe: CompareRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Write and return the comparison.

    Raises:
        UserError: what `eval score` refuses; a folder of several systems; no task that both have.
    """
    page = recipe.out.with_suffix(".html")
    if page == recipe.out:
        raise UserError(f"{recipe.out}: JSON goes here, and a page of that name beside it; call it {recipe.out.with_suffix('.json')}")
    for out in (recipe.out, page):
        check_absent(out, overwrite)
    check_parts(recipe.records, recipe.parts)
    first, second = (folder.resolve() for folder in recipe.runs)
    names = (
        [first.name, second.name] if first.name != second.name else [f"{folder.parent.name}/{folder.name}" for folder in (first, second)]
    )
    if names[0] == names[1]:
        raise UserError(f"{first} and {second} have the same name; call one of them otherwise, tables tell them apart by it")
    runs = {name: _only_system(folder, recipe) for name, folder in zip(names, recipe.runs, strict=True)}
    cards = [card.model_dump(mode="json") for card in read_cards(recipe.records)]
    tasks = []
    for found in score_tasks(recipe.records, cards, runs, recipe.seed, names[0]):
        if found["systems"].keys() == set(names):
            metric = found["primary_metric"]
            values = {name: found["systems"][name]["metrics"][metric] for name in names}
            tasks.append({"task": found["task"], "n": found["n"], "metric": metric, **values, "difference": found["differences"][names[1]]})
    if not tasks:
        raise UserError(f"{recipe.runs[0]} and {recipe.runs[1]}: no task that both have predicted; predict from the same records")
    corrected = holm([task["difference"]["p"] for task in tasks])
    for task, p in zip(tasks, corrected, strict=True):
        task["p_holm"] = p
        task["better"] = None if p is None or p >= LEVEL else names[0] if task["difference"]["value"] > 0 else names[1]
    known = [task for task in tasks if task["difference"]["value"] is not None]
    ranks = ranks_of([{name: task[name]["value"] * (1 if task["metric"] in LOWER_IS_BETTER else -1) for name in names} for task in known])
    document = {
        "provenance": {**provenance(recipe.seed, names, names[0]), "level": LEVEL},
        "runs": names,
        "ranks": asdict(ranks),
        "tasks": tasks,
    }
    with new_file(recipe.out, overwrite=overwrite) as file, new_file(page, overwrite=overwrite) as beside:
        simulated = sum(card["simulated"] for card in cards if card["id"] in {task["task"] for task in tasks})
        lead = "Two runs on the same records, task by task."
        beside.write_text(board_page(" and ".join(names), lead, comparison(document), ranks, simulated), encoding="utf-8")
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        inputs = {"records": fingerprint(recipe.records), "predictions": fingerprint(*recipe.runs)}
        for out in (recipe.out, page):
            write_manifest(out, "comparison", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"tasks": len(tasks)})
    return document


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p after Holm's correction for as many tests as there are (Holm 1979); None where a difference is not defined."""
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    found, largest = list[float | None](values), 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        found[place] = round(largest, 6)
    return found


def _only_system(folder: Path, recipe: CompareRecipe) -> list[Run]:
    systems = {name: own for name, own in find_runs([folder], recipe.records, recipe.parts).items() if "@" not in name}
    if len(systems) != 1:
        raise UserError(
            f"{folder}: predictions of {len(systems)} systems ({', '.join(systems)}); put those of one into a folder of their own"
        )
    return next(iter(systems.values()))
