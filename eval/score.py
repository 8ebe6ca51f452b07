"""Score predictions against records: `metrics.json`, with intervals. Needs no model, so a scoring fix costs seconds.

Two figures per metric: of `predicted` (label log-likelihoods for a model, the plain prediction for a baseline) and of
the greedy text as the strict parser read it. Their gap says how well the model keeps to the form asked for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artefacts.errors import UserError, at
from artefacts.folder import check_absent, fingerprint, git_commit, new_file, package_versions
from data_convert.records import with_choices
from eval.answers import LOWER_IS_BETTER, METRICS, Answers, statistic
from eval.bootstrap import LEVEL, RESAMPLES, bootstrap, paired_bootstrap

MODEL = "llama-gene"
"""The system that the others are compared with, where it is present."""

Line = dict[str, Any]
FIELDS = ("id", "task", "split", "kind", "gold", "choices", "logprobs", "predicted", "text", "parsed", "status")


def score(records: Path, predictions: Path | Sequence[Path], out: Path, seed: int, overwrite: bool = False) -> dict[str, Any]:
    """Write and return the document of `metrics.json`. The same inputs and seed give the same bytes.

    Args:
        predictions: one or more folders of `<system>.jsonl`; no system may be in two of them.

    Raises:
        UserError: a folder lacks its files; a system's lines for a task are not exactly the task's test records; a line
            disagrees with its record about gold or choices, or holds a prediction that is no choice.
    """
    check_absent(out, overwrite)
    cards = read_cards(records)
    truth = by_task(with_choices(records, read_lines(records / "test.jsonl")))
    unknown = sorted(truth.keys() - {card["id"] for card in cards})
    if unknown:
        raise UserError(f"{records / 'test.jsonl'}: task '{unknown[0]}' has no card in cards.json; convert the tasks again")
    folders = [predictions] if isinstance(predictions, Path) else list(predictions)
    files = _prediction_files(folders)
    systems = {name: by_task(_prediction_lines(path)) for name, path in files.items()}
    n_train = count_train(records)
    tasks = [_score_task(card, truth[card["id"]], systems, files, n_train[card["id"]], seed) for card in cards if card["id"] in truth]
    document = {
        "provenance": {
            "commit": git_commit(),
            "packages": package_versions(),
            "seed": seed,
            "intervals": f"{LEVEL:.0%} percentile bootstrap, {RESAMPLES} resamples of test records",
            "inputs": {"records": fingerprint(records), "predictions": fingerprint(*folders)},
            "systems": sorted(systems),
            "tasks_without_test_records": [card["id"] for card in cards if card["id"] not in truth],
        },
        "tasks": tasks,
    }
    with new_file(out, overwrite=overwrite) as file:
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return document


def read_cards(records: Path) -> list[Line]:
    """The resolved cards of a records folder."""
    path = records / "cards.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder that the conversion of tasks wrote")
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> Iterator[Line]:
    """JSON lines, one at a time. Raises UserError with the line where one cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder that the conversion of tasks wrote")
    with path.open(encoding="utf-8") as handle:
        for number, text in enumerate(handle, start=1):
            try:
                yield json.loads(text)
            except json.JSONDecodeError as error:
                raise UserError(f"{at(path, number)}: not a JSON line ({error}); write the file again") from None


def by_task(lines: Iterator[Line]) -> dict[str, list[Line]]:
    """Group lines by task, order kept."""
    tasks: dict[str, list[Line]] = {}
    for line in lines:
        tasks.setdefault(line["task"], []).append(line)
    return tasks


def count_train(records: Path) -> Counter[str]:
    """Train records per task; a records folder made for testing only has none."""
    path = records / "train.jsonl"
    return Counter(record["task"] for record in read_lines(path)) if path.is_file() else Counter()


def _prediction_files(folders: list[Path]) -> dict[str, Path]:
    """System -> file."""
    files: dict[str, Path] = {}
    for folder in folders:
        found = sorted(folder.glob("*.jsonl"))
        if not found:
            raise UserError(f"{folder}: no predictions (*.jsonl) here; predict with the model or the baselines first")
        for path in found:
            if path.stem in files:
                raise UserError(f"{path}: system '{path.stem}' is also in {files[path.stem].parent}; give each system once")
            files[path.stem] = path
    return dict(sorted(files.items()))


def _prediction_lines(path: Path) -> Iterator[Line]:
    for number, line in enumerate(read_lines(path), start=1):
        missing = [field for field in FIELDS if field not in line]
        if missing:
            raise UserError(f"{at(path, number)}: a prediction without '{missing[0]}'; write the file again")
        yield line


def _score_task(card: Line, truth: list[Line], systems: dict[str, dict], files: dict[str, Path], n_train: int, seed: int) -> Line:
    wanted = [metric for metric in card["metrics"] if metric in METRICS[card["kind"]]]
    if wanted != card["metrics"]:
        odd = next(metric for metric in card["metrics"] if metric not in wanted)
        raise UserError(f"task {card['id']}: '{odd}' is no metric of {card['kind']} tasks; known: {', '.join(METRICS[card['kind']])}")
    lines = {name: _aligned(truth, tasks[card["id"]], files[name]) for name, tasks in systems.items() if card["id"] in tasks}
    return {
        "task": card["id"],
        "title": card["title"],
        "version": card["version"],
        "simulated": card["simulated"],
        "kind": card["kind"],
        "split": "test",
        "split_note": card["split_note"],
        "n": len(truth),
        "n_train": n_train,
        "metrics": wanted,
        "primary_metric": card["primary_metric"],
        "systems": {name: _score_system(wanted, card["kind"], its, seed) for name, its in lines.items()},
        "differences": _differences(card, lines, seed),
        "published": card["published"],
        "traps": card["traps"],
        "source": card["source"],
    }


def _aligned(truth: list[Line], lines: list[Line], path: Path) -> list[Line]:
    """The system's lines in the records' order, after checking that they are the records' own."""
    task, choices = truth[0]["task"], truth[0]["choices"]
    known = {line["id"]: line for line in lines}
    if len(known) != len(lines):
        twice = next(name for name, times in Counter(line["id"] for line in lines).items() if times > 1)
        raise UserError(f"{path}: task {task}: record '{twice}' is predicted twice; write the file again")
    ids = [record["id"] for record in truth]
    missing = [name for name in ids if name not in known]
    if missing:
        raise UserError(
            f"{path}: task {task}: {len(missing)} of {len(ids)} test records have no prediction, the first is '{missing[0]}'; "
            "predict the whole test split, a part of it is no score"
        )
    if len(known) > len(ids):
        foreign = sorted(known.keys() - set(ids))
        raise UserError(
            f"{path}: task {task}: {len(foreign)} predictions are for no test record, the first is '{foreign[0]}'; "
            "use the records they were made from"
        )
    for record in truth:
        line = known[record["id"]]
        if line["gold"] != record["label"] or line["choices"] != choices:
            raise UserError(
                f"{path}: '{record['id']}' has gold {line['gold']!r}, the record {record['label']!r} (or other choices); "
                "predict again from these records"
            )
        if record["kind"] in ("binary", "multiclass"):
            for field in ("predicted", "parsed"):
                if line[field] is not None and line[field] not in choices:
                    raise UserError(f"{path}: '{record['id']}': {field} {line[field]!r} is none of the choices; null stands for no answer")
    return [known[name] for name in ids]


def answers(lines: Sequence[Line], field: str) -> Answers:
    """The answers in `field` ('predicted' or 'parsed'); probabilities belong to 'predicted' only."""
    logprobs = [line["logprobs"] for line in lines]
    complete = field == "predicted" and lines[0]["kind"] != "regression" and all(logprobs)
    return Answers(
        kind=lines[0]["kind"],
        choices=lines[0]["choices"],
        gold=[line["gold"] for line in lines],
        predicted=[line[field] for line in lines],
        logprobs=np.array(logprobs, dtype=float) if complete else None,
    )


def _score_system(wanted: list[str], kind: str, lines: list[Line], seed: int) -> Line:
    primary = answers(lines, "predicted")
    system: Line = {
        "metrics": _intervals(wanted, primary, seed),
        "not_computed": [metric for metric in wanted if primary.without_logprobs(metric)],
        "unanswered_rate": round(sum(answer is None for answer in primary.predicted) / len(lines), 6),
    }
    statuses = Counter(line["status"] for line in lines)
    if None not in statuses:
        system["greedy"] = {
            "metrics": _intervals(wanted, answers(lines, "parsed"), seed),
            "invalid_rate": round(statuses["invalid"] / len(lines), 6),
            "refused_rate": round(statuses["refused"] / len(lines), 6),
        }
    return system


def _intervals(wanted: list[str], given: Answers, seed: int) -> dict[str, dict[str, float | None]]:
    return {
        metric: bootstrap(statistic(metric, given), len(given.gold), seed=seed).as_dict()
        for metric in wanted
        if not given.without_logprobs(metric)
    }


def _differences(card: Line, lines: dict[str, list[Line]], seed: int) -> dict[str, Line]:
    """The model's primary metric minus each other system's on the same resamples; positive means the model is better."""
    metric = card["primary_metric"]
    found: dict[str, Line] = {}
    if MODEL not in lines:
        return found
    model = answers(lines[MODEL], "predicted")
    for name in sorted(lines.keys() - {MODEL}):
        other = answers(lines[name], "predicted")
        if model.without_logprobs(metric) or other.without_logprobs(metric):
            continue  # named under not_computed
        pair = (statistic(metric, other), statistic(metric, model))
        first, second = pair if metric in LOWER_IS_BETTER else pair[::-1]
        found[name] = {"metric": metric, **paired_bootstrap(first, second, len(model.gold), seed=seed).as_dict()}
    return found
