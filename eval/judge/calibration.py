"""Temperatures: what the log-likelihoods of a task's labels are divided by, so that probabilities are shares of right answers.

One number for a run on a task, fitted to the likelihood of dev records alone, never of those that are scored (temperature scaling;
Guo et al. 2017, On Calibration of Modern Neural Networks). The order of a record's labels stays, so accuracy and MCC do too.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from artefacts.command import path_exists
from artefacts.errors import UserError
from artefacts.folder import fingerprint, noted_part, read_json
from data_convert.tasks.kinds import KINDS
from eval.judge.answers import Answers
from eval.judge.metrics import Floats, Ints
from eval.predictions import Line, Run, aligned, by_task, prediction_lines

RANGE = (0.01, 100.0)
"""Of temperatures; records that are all right, or all wrong, have theirs near an end of it."""
Temperatures = dict[tuple[str, str], dict[str, Line]]
"""System and run -> task -> `temperature`, dev records `n`, their `nll` before and after, and the fingerprints of what answered."""


def nll(gold_n: Ints, logprobs_nC: Floats, temperature: float) -> float:
    """Mean negative log-likelihood of the right labels, in nats a record."""
    scaled_nC = logprobs_nC / temperature
    return float((logsumexp(scaled_nC, axis=1) - scaled_nC[np.arange(len(gold_n)), gold_n]).mean())


def fit(gold_n: Ints, logprobs_nC: Floats) -> float:
    """The temperature of the least `nll`, which is convex in its inverse."""
    bounds = [float(np.log(end)) for end in RANGE]
    return float(np.exp(minimize_scalar(lambda log: nll(gold_n, logprobs_nC, np.exp(log)), bounds=bounds, method="bounded").x))


def fit_all(truth: dict[str, list[Line]], runs: dict[str, list[Run]], dev: dict[str, list[Run]]) -> Temperatures:
    """Temperatures of the classifications that dev runs have predicted.

    Args:
        truth: task -> dev records.
        runs: system -> runs on test records; each dev run belongs to the one that the same model made.

    Raises:
        UserError: predictions of another split, of another model than any of `runs`, or without likelihoods; a task of dev records
            that is not predicted, or none of classes.
    """
    found: Temperatures = {}
    for system, own in dev.items():
        for run in own if "@" not in system else []:
            mine = [other for other in runs.get(system, []) if _answered_by(other) == _answered_by(run)]
            if len(mine) != 1 or (system, mine[0].name) in found:
                raise UserError(
                    f"{run.path}: dev predictions belong to the test predictions of the same model, and of '{system}' {len(mine)} are; "
                    "give one folder of `eval predict split=dev` for each run"
                )
            found[system, mine[0].name] = _of_run(run, truth)
    return found


def _of_run(run: Run, truth: dict[str, list[Line]]) -> dict[str, Line]:
    lines, found = by_task(prediction_lines(run.path)), dict[str, Line]()
    if strange := next((line for its in lines.values() for line in its if line["split"] != "dev"), None):
        raise UserError(
            f"{run.path}: '{strange['id']}' is a record of {strange['split']}, and a temperature is fitted on dev records alone; predict "
            "them with `eval predict split=dev`"
        )
    for task, records in truth.items():
        if not KINDS[records[0]["kind"]].one_label:
            continue
        if task not in lines:
            raise UserError(f"{run.path}: no dev predictions of {task}; predict them with `eval predict split=dev`")
        given = Answers.of(aligned(records, lines[task], run.path), "predicted")
        if given.logprobs is None:
            raise UserError(f"{run.path}: no likelihoods of {task}, so no temperature; predict from the model folder")
        best = fit(given.gold_codes, given.logprobs)
        before, after = (round(nll(given.gold_codes, given.logprobs, at), 6) for at in (1.0, best))
        found[task] = {"temperature": round(best, 6), "n": len(records), "nll": [before, after], **_answered_by(run)}
    if not found:
        raise UserError(f"{run.path}: no classification among the dev records, and others have no temperature; leave dev out")
    return found


def _answered_by(run: Run) -> dict[str, str]:
    """Fingerprints of model and adapter; nothing where no manifest says."""
    inputs = noted_part(run.path.parent, "inputs")
    return {name: inputs[name] for name in ("model", "adapter") if name in inputs}


def temperature_of(metrics: Path, task: str, model: Path) -> float:
    """The temperature of a model on a task, by a metrics.json of `eval score dev=...`.

    Raises:
        UserError: no such file, or none of this model and task in it.
    """
    path_exists(metrics, "metrics", "make them with `eval score dev=…`")
    document: Any = read_json(metrics, "score again")
    runs = [
        run
        for found in (document.get("tasks", []) if isinstance(document, dict) else [])
        for system in found["systems"].values()
        for run in system.get("calibrated", {}).get("runs", [])
        if found["task"] == task and run.get("model") == fingerprint(model) and "adapter" not in run
    ]
    if len({run["temperature"] for run in runs}) != 1:
        raise UserError(
            f"{metrics}: {len(runs)} temperatures of {task} by {model}, and one is needed; score with dev= and predictions of this model"
        )
    return float(runs[0]["temperature"])
