"""Score predictions against records: `metrics.json`, with intervals. Needs no model, so a scoring fix costs seconds.

Two figures per metric: of `predicted` (label log-likelihoods for a model, the plain prediction for a baseline) and of
the greedy text as the strict parser read it. Their gap says how well the model keeps to the form asked for. Labels also by
log-likelihood per answer token, where the lines say how many tokens each has.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import (
    MANIFEST,
    check_absent,
    fingerprint,
    git_commit,
    new_file,
    noted_part,
    package_versions,
    read_json,
    write_manifest,
)
from data_convert.splits.groups import read_groups
from data_convert.tasks.cards import read_cards
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.records import each_record
from eval.judge.answers import metrics_of
from eval.judge.bootstrap import LEVEL, RESAMPLES, Resamples
from eval.judge.calibration import Temperatures, fit_all
from eval.judge.details import details
from eval.judge.measure import Runs, differences, measure_systems
from eval.judge.texts import bleu_signature
from eval.predictions import DIFFERS, Line, Run, aligned, by_task, check_parts, find_runs, prediction_lines

MODEL = "llama-gene"
"""The system that the others are compared with, unless another is named."""


def score(
    records: Path,
    predictions: Path | Sequence[Path],
    out: Path,
    seed: int,
    overwrite: bool = False,
    reference: str = MODEL,
    parts: Sequence[Path] = (),
    made: dict[str, Any] | None = None,
    dev: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write and return the document of `metrics.json`. The same inputs and seed give the same bytes.

    Args:
        predictions: one or more folders of `<system>.jsonl`; a system that is in several of them was trained several times.
        reference: the system that the others are compared with, where it is present.
        parts: other folders of records, all of whose test records are in `records`, that predictions may come from.
        made: the recipe, for the manifest.
        dev: folders of predictions of dev records by the same models, for temperatures (calibration.py).

    Raises:
        UserError: a folder lacks its files; predictions were made from other records; a system's lines for a task are not
            exactly the task's test records; a line disagrees with its record about gold or choices, or holds a prediction that
            is no choice; records that disagree with their card about the labels, or that stand in the file twice.
    """
    check_absent(out, overwrite)
    cards = [card.model_dump(mode="json") for card in read_cards(records)]
    # predictions: who made them, from which records
    folders = [predictions] if isinstance(predictions, Path) else list(predictions)
    check_parts(records, parts)
    runs = find_runs(folders, records, parts)
    temperatures = fit_all(_truth(records, cards, "dev"), runs, find_runs(dev, records, parts)) if dev else {}
    tasks = score_tasks(records, cards, runs, seed, reference, temperatures)
    tested = {task["task"] for task in tasks}
    document: dict[str, Any] = {
        "provenance": {
            **provenance(seed, sorted(runs), reference),
            "inputs": {
                "records": fingerprint(records),
                "predictions": fingerprint(*folders),
                **({"dev": fingerprint(*dev)} if dev else {}),
            },
            "made_from": _made_from(folders),
            "tasks_without_test_records": [card["id"] for card in cards if card["id"] not in tested],
        },
        "tasks": tasks,
    }
    if any("bleu" in KINDS[card["kind"]].metrics for card in cards):
        document["provenance"]["bleu"] = bleu_signature()
    write_metrics(document, out, overwrite, made)
    return document


def score_tasks(
    records: Path, cards: list[Line], runs: dict[str, list[Run]], seed: int, reference: str, temperatures: Temperatures | None = None
) -> list[Line]:
    """What metrics.json says of each task that has test records, in the order of the cards.

    Args:
        runs: of each system, from these records.
    """
    truth, group_of = _truth(records, cards), read_groups(records)
    lines = {run.path: by_task(prediction_lines(run.path)) for own in runs.values() for run in own}
    tasks = []
    for card in tqdm([card for card in cards if card["id"] in truth], desc="score", unit="task", disable=None):
        rows = truth[card["id"]]
        fitted = {run: own[card["id"]] for run, own in (temperatures or {}).items() if card["id"] in own}
        tasks.append(score_task(card, rows, _runs_of(rows, runs, lines), group_of, seed, reference, fitted))
    return tasks


def provenance(seed: int, systems: list[str], reference: str) -> dict[str, Any]:
    """What every document of metrics says about how it was made."""
    return {
        "commit": git_commit(),
        "packages": package_versions(),
        "seed": seed,
        "intervals": f"{LEVEL:.0%} percentile bootstrap, {RESAMPLES} resamples of test records",
        "systems": systems,
        "reference": reference,
    }


def write_metrics(document: dict[str, Any], out: Path, overwrite: bool, made: dict[str, Any] | None) -> None:
    """metrics.json with its manifest, whole or not at all. `made`: the recipe."""
    with new_file(out, overwrite=overwrite) as file:
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        inputs = document["provenance"]["inputs"]
        write_manifest(out, "metrics", recipe=made, inputs=inputs, counts={"tasks": len(document["tasks"])})


def _truth(records: Path, cards: list[Line], split: str = "test") -> dict[str, list[Line]]:
    """Task -> its records of the split, in agreement with its card."""
    path = records / f"{split}.jsonl"
    truth = by_task(each_record(path))
    known = {card["id"]: card for card in cards}
    if unknown := sorted(truth.keys() - known.keys()):
        raise UserError(f"{path}: task '{unknown[0]}' has no card in cards.json; convert the tasks again")
    for name, rows in truth.items():
        labels = [label["name"] for label in known[name]["labels"].values()]
        for record in rows:
            if record["kind"] != known[name]["kind"] or (labels and record["choices"] != labels):
                raise UserError(
                    f"{path}: '{record['id']}' has the kind {record['kind']} and the labels {record['choices']}, its card "
                    f"{known[name]['kind']} and {labels}; convert the tasks again"
                )
    return truth


def _runs_of(truth: list[Line], runs: dict[str, list[Run]], lines: dict[Path, dict[str, list[Line]]]) -> dict[str, Runs]:
    """The systems that have this task, each with the lines of its runs."""
    task = truth[0]["task"]
    found: dict[str, Runs] = {}
    for system, own in runs.items():
        mine = [run for run in own if task in lines[run.path]]
        if mine:
            found[system] = [(run.name, aligned(truth, lines[run.path][task], run.path)) for run in mine]
    return found


def score_task(
    card: Line,
    truth: list[Line],
    runs_of: dict[str, Runs],
    group_of: dict[str, str],
    seed: int,
    reference: str,
    temperatures: Mapping[tuple[str, str], Line] | None = None,
) -> Line:
    """What metrics.json says of one task.

    Args:
        truth: its records, in the order of the lines in `runs_of`.
        group_of: id of a record -> its cluster, where they are known.
    """
    groups = [group_of[record["id"]] for record in truth] if all(record["id"] in group_of for record in truth) else None
    resamples = Resamples(len(truth), seed=seed, groups=groups)
    wanted = list(dict.fromkeys([*card["metrics"], *metrics_of(card["kind"], [record["label"] for record in truth])]))
    systems, behind = measure_systems(wanted, runs_of, resamples, seed, temperatures or {})
    lengths = [sum(len(item["letters"]) for item in record.get("inputs", [])) for record in truth]
    for name, runs in runs_of.items():
        systems[name]["details"] = details(runs[0][1], lengths, seed)
    return {
        "task": card["id"],
        "title": card["title"],
        "version": card["version"],
        "simulated": card["simulated"],
        "kind": card["kind"],
        "split": "test",
        "split_note": card["split_note"],
        "n": len(truth),
        "n_train": card["n"].get("train", 0),
        "n_clusters": None if groups is None else len(set(groups)),
        "metrics": wanted,
        "primary_metric": card["primary_metric"],
        "systems": systems,
        "differences": differences(card["primary_metric"], behind, reference),
        "published": card["published"],
        "traps": card["traps"],
        "source": card["source"],
    }


def _made_from(folders: list[Path]) -> dict[str, Line]:
    """Folder of predictions -> what its manifest says of how they were made."""
    found = {}
    for folder in folders:
        path = folder / MANIFEST
        if path.is_file():
            manifest, settings = read_json(path, "predict again", dict), noted_part(folder, "recipe")
            chosen = {key: str(settings[key]) for key in ("model", "encoder", "seed", "control") if settings.get(key) is not None}
            # without the date, so that the same predictions give the same bytes
            found[folder.name] = {**chosen, "commit": manifest.get("commit"), "inputs": manifest.get("inputs")}
        for path in sorted(folder.glob(f"*{DIFFERS}")):
            tasks = read_json(path, "train the head again", dict)
            made = found.setdefault(folder.name, {"commit": "–", "inputs": {}})
            differs = {f"{field}: {what}" for fields in tasks.values() for field, what in fields.items()}
            made.setdefault("differs", {})[path.name.removesuffix(DIFFERS)] = sorted(differs)
    return found
