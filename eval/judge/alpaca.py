"""Score a file of answers made elsewhere: Alpaca's `instruction`, `input`, `output` with a `model_response` beside them.

The same parser and the same metrics as everywhere here. Beside them stands, as a legacy metric, the rule that LLaMA-Gene
scored itself with: an answer is right when it contains the gold label, unless it says "Non" where gold does not. That
credits `Not Conform` for `Conform` and `non-NPP` for `NPP`; it is shown so that published figures can be found again.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import UserError, at
from artefacts.folder import check_absent, fingerprint
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.parse import parse_number
from eval.judge.answers import metrics_of
from eval.judge.bootstrap import Resamples
from eval.judge.metrics import mean_of
from eval.judge.score import provenance, score_task, write_metrics
from eval.predictions import Line
from sequences.json_lines import json_objects

FIELDS = ("instruction", "input", "output", "model_response")
CHOICES = re.compile(r"one of the following:\s*(.+?)\s*\.?\s*$", re.DOTALL)
"""How the original's instructions end."""
MOST_LABELS = 20
"""Outputs of an instruction without a list are labels when they are so few, and each occurs twice or more."""


LEGACY: dict[str, Callable[[str, str], bool]] = {
    "lenient": lambda gold, answer: lenient(gold, answer),
    "stripped": lambda gold, answer: gold.strip() == answer.strip(),
    "exact": lambda gold, answer: gold == answer,
}
"""Rules of others: whether an answer is right."""


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
    for name in others:
        if list(map(_question, rows_of[name])) != list(map(_question, rows_of[first])):
            raise UserError(f"{name}: not the same questions and outputs, in the same order, as {first}; score them apart")
    # a task per instruction, scored as any other, with the rules of others beside it
    instructions = np.array([row["instruction"] for row in rows_of[first]])
    right_of = {name: {rule: np.zeros(len(rows), dtype=bool) for rule in ("accuracy", "valid", *LEGACY)} for name, rows in rows_of.items()}
    tasks = []
    for instruction, name in _names(list(dict.fromkeys(instructions.tolist()))).items():
        places = np.flatnonzero(instructions == instruction)
        card, lines_of = _task(name, instruction, {system: [rows[i] for i in places] for system, rows in rows_of.items()}, files[0])
        truth = [{"id": line["id"], "label": line["gold"], "inputs": [{"letters": line["input"]}]} for line in lines_of[first]]
        task = score_task(card, truth, {system: [(system, lines)] for system, lines in lines_of.items()}, {}, seed, first)
        resamples = Resamples(len(places), seed=seed)
        for system, lines in lines_of.items():
            right = right_of[system]
            for rule in LEGACY:
                right[rule][places] = [LEGACY[rule](line["output"], line["text"]) for line in lines]
            right["accuracy"][places] = [line["parsed"] == line["gold"] for line in lines]
            right["valid"][places] = [line["status"] == "valid" for line in lines]
            task["systems"][system]["legacy"] = {rule: _share(right[rule][places], resamples) for rule in LEGACY}
            task["systems"][system]["statuses"] = dict(Counter(line["status"] for line in lines))
        outputs = Counter(line["output"] for line in lines_of[first])
        closed = bool(lines_of[first][0]["choices"])
        tasks.append(
            {
                **task,
                "instruction": instruction,
                "split": "file",
                "gold": dict(outputs.most_common(MOST_LABELS)) if closed else {},
                "majority_share": round(outputs.most_common(1)[0][1] / len(places), 6) if closed else None,
            }
        )
    # all rows together
    everything = Resamples(len(instructions), seed=seed)
    document = {
        "provenance": {
            **provenance(seed, list(rows_of), first),
            "inputs": {path.stem: fingerprint(path) for path in files},
            "made_from": {},
            "tasks_without_test_records": [],
        },
        "overall": {"n": len(instructions)}
        | {system: {rule: _share(right_n, everything) for rule, right_n in right.items()} for system, right in right_of.items()},
        "tasks": tasks,
    }
    write_metrics(document, out, overwrite, made)
    return document


def read_answers(path: Path) -> list[Line]:
    """Rows of a JSON array or of JSON lines, all four fields texts.

    Raises:
        UserError: no such file, no JSON, a row without a field, an id twice.
    """
    rows: list[Line] = []
    for number, (line, row) in enumerate(json_objects(path), start=1):
        fields = row if isinstance(row, dict) else {}
        if wrong := [field for field in FIELDS if not isinstance(fields.get(field), str)]:
            raise UserError(f"{at(path, line)}: row {number} has no text '{wrong[0]}'; a row needs {', '.join(FIELDS)}")
        rows.append(fields)
    if not rows:
        raise UserError(f"{path}: holds no answer")
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


def _task(name: str, instruction: str, rows_of: dict[str, list[Line]], path: Path) -> tuple[Line, dict[str, list[Line]]]:
    """A card for the rows of one instruction, and each system's answers in the form of predictions."""
    rows = next(iter(rows_of.values()))
    choices, how = choices_of(instruction, [row["output"] for row in rows])
    kind = KINDS["regression" if how == "numbers" else "text" if not choices else "binary" if len(choices) == 2 else "multiclass"]
    for number, row in enumerate(rows):
        if choices and row["output"].strip() not in choices:
            raise UserError(f"{path}: output '{row['output']}' (row {number + 1} of its task) is none of the labels {', '.join(choices)}")

    def line(row: Line, place: int) -> Line:
        parsed = kind.parse(row["model_response"], choices)
        gold = row["output"] if kind.in_words else kind.parse(row["output"].strip(), choices).value
        # what was written is all there is, so it is the prediction too
        said = {"logprobs": None, "predicted": parsed.value, "parsed": parsed.value, "text": row["model_response"], "status": parsed.status}
        asked = {"id": str(row.get("id", f"{name}/{place}")), "task": name, "kind": kind.name, "gold": gold, "choices": choices}
        return {**asked, **said, "input": row["input"], "output": row["output"]}

    lines_of = {system: [line(row, place) for place, row in enumerate(own)] for system, own in rows_of.items()}
    about = {"title": _title(instruction) or name, "version": 1, "simulated": False, "split_note": f"the rows of {path.name}, {how}"}
    metrics = metrics_of(kind.name, [own["gold"] for own in next(iter(lines_of.values()))])
    scoring = {"kind": kind.name, "metrics": metrics, "primary_metric": kind.primary, "published": [], "traps": [], "n": {}}
    return {"id": name, **about, **scoring, "source": {"name": path.name, "licence": None}}, lines_of


def _question(row: Line) -> list[str]:
    return [row[field] for field in FIELDS[:3]]


def _share(right_n: NDArray[np.bool_], resamples: Resamples) -> dict[str, Any]:
    return {"right": int(right_n.sum()), **resamples.of(mean_of(right_n.astype(float))).interval().as_dict()}


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
