"""The figures of metrics.json as rows: for the terminal, for Markdown and for the page."""

from __future__ import annotations

from typing import Any

from eval.judge.score import MODEL
from eval.predictions import CONTROLS

BASELINES = {"majority": "majority", "kmer": "k-mer linear", "nearest": "nearest", "luca_base": "LucaBase head", "luca": "LucaOne head"}
"""Known baselines in the order of the columns, and what they are called."""


def name_of(system: str) -> str:
    """What a system is called in tables."""
    return BASELINES.get(system, system)


def reference_of(metrics: dict[str, Any]) -> str:
    """The system that the others are compared with."""
    return metrics["provenance"].get("reference", MODEL)


def is_control(system: str) -> bool:
    """Whether a system is a negative control, `<system>@<control>`."""
    return "@" in system


def columns(metrics: dict[str, Any]) -> list[str]:
    """Systems beside the reference, in the order of the table; controls have a table of their own."""
    found = {name for task in metrics["tasks"] for name in task["systems"] if not is_control(name)} - {reference_of(metrics)}
    return [name for name in BASELINES if name in found] + sorted(found - BASELINES.keys())


def control_table(metrics: dict[str, Any]) -> dict[str, Any]:
    """The names of the controls met, and a row per task and system that has any: its primary metric as asked, under each control,
    and the difference of the two on the same resamples (known for the reference system)."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for task in metrics["tasks"]:
        for name in filter(is_control, task["systems"]):
            system, _, control = name.partition("@")
            row = rows.setdefault((task["task"], system), {"task": task, "system": system, "own": primary(task, system), "controls": {}})
            difference = task["differences"].get(name) if system == reference_of(metrics) else None
            if (found := primary(task, name)) is not None:
                row["controls"][control] = {"figure": found, "difference": difference}
    return {"names": [name for name in CONTROLS if any(name in row["controls"] for row in rows.values())], "rows": list(rows.values())}


def best_published(task: dict[str, Any]) -> dict[str, Any] | None:
    """The highest published figure of the primary metric; the first of equals."""
    found = [entry for entry in task["published"] if entry["metric"] == task["primary_metric"]]
    return max(found, key=lambda entry: entry["value"], default=None)


def figure(interval: dict[str, Any] | None, *, with_interval: bool = True) -> str:
    """`0.812 [0.790, 0.834]`, of several runs `0.812 ± 0.010 [0.790, 0.834]`; a dash where a system has no such figure."""
    if interval is None or interval["value"] is None:
        return "–"
    text = f"{interval['value']:.3f}"
    if interval.get("sd") is not None:
        text += f" ± {interval['sd']:.3f}"
    if with_interval and interval["low"] is not None:
        text += f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return text


def primary(task: dict[str, Any], system: str, *, greedy: bool = False) -> dict[str, Any] | None:
    """The primary metric of a system on a task, of its predictions or of its written answers."""
    scores = task["systems"].get(system)
    if scores is not None and greedy:
        scores = scores.get("greedy")
    return None if scores is None else scores["metrics"].get(task["primary_metric"])


def share(rate: float | None) -> str:
    """A rate as a percentage; a dash for None."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def invalid_rate(task: dict[str, Any], system: str = MODEL) -> float | None:
    """Share of written answers that the parser could not read, refusals included."""
    greedy = task["systems"].get(system, {}).get("greedy")
    return None if greedy is None else greedy["invalid_rate"] + greedy["refused_rate"]


def published(entry: dict[str, Any] | None) -> str:
    """`0.786 †`: the mark says that split or setting differ as its note has it."""
    return "–" if entry is None else f"{entry['value']:.3f}{' †' if entry['note'] else ''}"


def task_rows(metrics: dict[str, Any], *, with_intervals: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and one row per task of `metrics.json`."""
    model, others = reference_of(metrics), columns(metrics)
    header = ["task", "n", "metric", f"{model} [95 %]", "written", "invalid", *map(name_of, others), "published"]
    rows = []
    for task in metrics["tasks"]:
        name = task["task"] + (" (simulated)" if task["simulated"] and not task["task"].startswith("sim/") else "")
        written = figure(primary(task, model, greedy=True), with_interval=with_intervals)
        row = [name, f"{task['n']:,}", task["primary_metric"], figure(primary(task, model)), written, share(invalid_rate(task, model))]
        row += [figure(primary(task, system), with_interval=with_intervals) for system in others]
        rows.append([*row, published(best_published(task))])
    return header, rows


def terminal_table(metrics: dict[str, Any]) -> str:
    """An aligned table for the terminal; `written` is the metric of the greedy text, `sim/` tasks are simulated."""
    header, rows = task_rows(metrics)
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    left = (0, 2)

    def line(row: list[str]) -> str:
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("─" * width for width in widths), *map(line, rows)])


def markdown(header: list[str], rows: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    """A Markdown table; columns in `left` are text."""
    marks = [":--" if i in left else "--:" for i in range(len(header))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in [header, marks, *rows]
    )
