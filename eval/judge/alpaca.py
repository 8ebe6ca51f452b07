"""Score a file of answers made elsewhere: Alpaca's `instruction`, `input`, `output` with a `model_response` beside them.

The same parser and the same metrics as everywhere here. Beside them stands, as a legacy metric, the rule that LLaMA-Gene
scored itself with: an answer is right when it contains the gold label, unless it says "Non" where gold does not. That
credits `Not Conform` for `Conform` and `non-NPP` for `NPP`; it is shown so that published figures can be found again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import UserError, at
from artefacts.folder import check_absent, fingerprint
from data_convert.kinds import KINDS
from data_convert.parse import parse_number
from eval.judge.answers import metrics_of
from eval.judge.bootstrap import Resamples
from eval.judge.details import details
from eval.judge.measure import differences, measure_systems
from eval.judge.metrics import mean_of
from eval.judge.score import provenance, write_metrics
from eval.predictions import Line, read_lines

FIELDS = ("instruction", "input", "output", "model_response")
CHOICES = re.compile(r"one of the following:\s*(.+?)\s*\.?\s*$", re.DOTALL)
"""How the original's instructions end."""
MOST_LABELS = 20
"""Outputs of an instruction without a list are labels when they are so few, and each occurs twice or more."""
LEGACY = ("lenient", "stripped", "exact")


def score_answers(
    files: Sequence[Path], out: Path, seed: int, overwrite: bool = False, made: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write and return a document like that of `eval score`, a task per instruction, a system per file.

    Args:
        made: the recipe, for the manifest.

    Raises:
        UserError: a row without the four fields; a gold output that its own instruction does not list; an id that stands there
            twice; files that do not answer the same rows.
    """
    check_absent(out, overwrite)
    rows_of = {path.stem: read_answers(path) for path in files}
    if len(rows_of) < len(files):
        raise UserError("two files of answers have the same name, which is what their systems are called; rename one")
    first, *others = rows_of
    asked = [_question(row) for row in rows_of[first]]
    for name in others:
        if [_question(row) for row in rows_of[name]] != asked:
            raise UserError(f"{name}: not the same questions and outputs, in the same order, as {first}; score them apart")
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows_of[first]):
        places.setdefault(row["instruction"], []).append(place)
    names = _names(list(places))
    tasks = [
        _score_task(names[instruction], instruction, {system: [rows[i] for i in mine] for system, rows in rows_of.items()}, files[0], seed)
        for instruction, mine in places.items()
    ]
    document = {
        "provenance": {
            **provenance(seed, list(rows_of), first),
            "inputs": {path.stem: fingerprint(path) for path in files},
            "made_from": {},
            "tasks_without_test_records": [],
        },
        "overall": _overall(tasks, seed),
        "tasks": tasks,
    }
    for task in tasks:
        for system in task["systems"].values():
            del system["right"]
    write_metrics(document, out, overwrite, made)
    return document


def read_answers(path: Path) -> list[Line]:
    """Rows of a JSON array or of JSON lines, all four fields texts.

    Raises:
        UserError: no such file, no JSON, a row without a field, an id twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give answers as JSON with {', '.join(FIELDS)}")
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{at(path, error.lineno)}: neither a JSON array nor JSON lines ({error.msg}); mend the file") from None
    else:
        rows = list(read_lines(path))
    if not rows:
        raise UserError(f"{path}: holds no answer")
    for number, row in enumerate(rows, start=1):
        wrong = [field for field in FIELDS if not isinstance(row, dict) or not isinstance(row.get(field), str)]
        if wrong:
            raise UserError(f"{path}: row {number} has no text '{wrong[0]}'; a row needs {', '.join(FIELDS)}")
    twice, times = Counter(str(row.get("id", number)) for number, row in enumerate(rows)).most_common(1)[0]
    if times > 1:
        raise UserError(f"{path}: id '{twice}' stands in the file twice; ids must be unique")
    return rows


def lenient(gold: str, answer: str) -> bool:
    """The original's rule, word for word: contains gold, and says "Non" only where gold does; case counts."""
    return gold in answer and ("Non" in gold or "Non" not in answer)


def choices_of(instruction: str, outputs: Sequence[str]) -> tuple[list[str], str]:
    """The labels of a task and where they come from; none for numbers and texts."""
    listed = CHOICES.search(instruction)
    if listed:
        return [name.strip() for name in listed[1].split(",") if name.strip()], "listed in the instruction"
    if all(parse_number(output).value is not None for output in outputs):
        return [], "numbers"
    counts = Counter(output.strip() for output in outputs)
    if 2 <= len(counts) <= MOST_LABELS and min(counts.values()) > 1:
        return sorted(counts), "outputs that occur in the file"
    return [], "free text"


def _score_task(name: str, instruction: str, rows_of: dict[str, list[Line]], path: Path, seed: int) -> Line:
    rows = next(iter(rows_of.values()))
    outputs = [row["output"] for row in rows]
    choices, how = choices_of(instruction, outputs)
    kind = "regression" if how == "numbers" else "text" if not choices else "binary" if len(choices) == 2 else "multiclass"
    for number, row in enumerate(rows):
        if choices and row["output"].strip() not in choices:
            raise UserError(f"{path}: output '{row['output']}' (row {number + 1} of its task) is none of the labels {', '.join(choices)}")
    lines = {system: [_line(name, kind, choices, row, place) for place, row in enumerate(own)] for system, own in rows_of.items()}
    resamples = Resamples(len(rows), seed=seed)
    wanted = metrics_of(kind, [line["gold"] for line in next(iter(lines.values()))])
    systems, behind = measure_systems(wanted, {system: [(system, own)] for system, own in lines.items()}, resamples, seed)
    lengths = [len(row["input"]) for row in rows]
    for system, own in rows_of.items():
        systems[system]["details"] = details(lines[system], lengths, seed)
        given = [(row["output"], row["model_response"]) for row in own]
        legacy = {
            "lenient": [lenient(gold, answer) for gold, answer in given],
            "stripped": [gold.strip() == answer.strip() for gold, answer in given],
            "exact": [gold == answer for gold, answer in given],
        }
        systems[system]["legacy"] = {rule: _share(right, resamples) for rule, right in legacy.items()}
        systems[system]["statuses"] = dict(Counter(line["status"] for line in lines[system]))
        systems[system]["right"] = {
            **legacy,
            "accuracy": [line["parsed"] == line["gold"] for line in lines[system]],
            "valid": [line["status"] == "valid" for line in lines[system]],
        }
    return {
        "task": name,
        "title": _title(instruction) or name,
        "instruction": instruction,
        "version": 1,
        "simulated": False,
        "kind": kind,
        "split": "file",
        "split_note": f"the rows of {path.name}, {how}",
        "n": len(rows),
        "n_train": 0,
        "n_clusters": None,
        "gold": dict(Counter(outputs).most_common(MOST_LABELS)) if choices else {},
        "majority_share": round(Counter(outputs).most_common(1)[0][1] / len(rows), 6) if choices else None,
        "metrics": wanted,
        "primary_metric": KINDS[kind].primary,
        "systems": systems,
        "differences": differences(KINDS[kind].primary, behind, next(iter(rows_of))),
        "published": [],
        "traps": [],
        "source": {"name": path.name, "licence": None},
    }


def _line(task: str, kind: str, choices: list[str], row: Line, place: int) -> Line:
    """An answer in the form of a prediction; what was written is all there is, so it is the prediction too."""
    text = row["model_response"]
    parsed = KINDS[kind].parse(text, choices)
    gold = row["output"] if KINDS[kind].in_words else KINDS[kind].parse(row["output"].strip(), choices).value
    same = {"logprobs": None, "predicted": parsed.value, "parsed": parsed.value, "text": text, "status": parsed.status}
    return {"id": str(row.get("id", f"{task}/{place}")), "task": task, "kind": kind, "gold": gold, "choices": choices, **same}


def _overall(tasks: list[Line], seed: int) -> dict[str, Any]:
    """All rows together, a system each: by the strict parser, and by the legacy rules."""
    n = sum(task["n"] for task in tasks)
    resamples = Resamples(n, seed=seed)
    found: dict[str, Any] = {"n": n}
    for system in tasks[0]["systems"]:
        figures = {}
        for rule in ("accuracy", "valid", *LEGACY):
            right = np.concatenate([task["systems"][system]["right"][rule] for task in tasks])
            figures[rule] = _share(right, resamples)
        found[system] = figures
    return found


def _share(right: Sequence[bool] | NDArray, resamples: Resamples) -> dict[str, Any]:
    right_n = np.asarray(right, dtype=float)
    return {"right": int(right_n.sum()), **resamples.of(mean_of(right_n)).interval().as_dict()}


def _question(row: Line) -> tuple[str, ...]:
    return row["instruction"], row["input"], row["output"]


def _names(instructions: list[str]) -> dict[str, str]:
    """Instruction -> a short name, unique: `Determine the X of following dna sequence, The result …` is `x`."""
    found: dict[str, str] = {}
    for instruction in instructions:
        subject = re.sub(r"^determine (the )?|\s+of (the )?following\b.*", "", _title(instruction), flags=re.IGNORECASE | re.DOTALL)
        words = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:60].strip("-") or "task"
        name, again = words, 2
        while name in found.values():
            name, again = f"{words}-{again}", again + 1
        found[instruction] = name
    return found


def _title(instruction: str) -> str:
    """The question without its list of answers."""
    return " ".join(instruction.split(", The result")[0].split())


def summary(document: dict[str, Any]) -> str:
    """A few lines for the terminal: all rows, then each task."""
    lines = []
    n = document["overall"]["n"]
    for system in document["provenance"]["systems"]:
        figures = document["overall"][system]
        legacy = ", ".join(f"{rule} {figures[rule]['right']:,}" for rule in LEGACY)
        unread = n - figures["valid"]["right"]
        lines.append(f"{system}: {figures['accuracy']['right']:,} of {n:,} right (strict), {unread:,} unread; legacy: {legacy}")
        for task in document["tasks"]:
            scores = task["systems"][system]
            found = [metric for metric in ("accuracy", task["primary_metric"]) if metric in scores["metrics"]]
            shown = ", ".join(f"{metric} {scores['metrics'][metric]['value']:.3f}" for metric in found)
            legacy = ", ".join(f"{rule} {scores['legacy'][rule]['right']}" for rule in LEGACY)
            lines.append(f"  {task['task']}: n {task['n']}, {shown}; legacy: {legacy}")
    return "\n".join(lines)
