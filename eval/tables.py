"""The table of tasks as plain text and as Markdown."""

from __future__ import annotations

from typing import Any

from eval.score import MODEL

BASELINES = {"majority": "majority", "kmer": "k-mer", "luca_base": "LucaBase"}
"""Known baselines in the order of the columns, and what they are called."""


def figure(interval: dict[str, Any] | None, *, with_interval: bool = True) -> str:
    """`0.812 [0.790, 0.834]`; a dash where a system has no such figure."""
    if interval is None or interval["value"] is None:
        return "–"
    text = f"{interval['value']:.3f}"
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


def task_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and one row per task of `metrics.json`."""
    extra = sorted({name for task in metrics["tasks"] for name in task["systems"]} - {MODEL, *BASELINES})
    header = ["task", "n", "metric", f"{MODEL} [95 %]", "written", "invalid", *BASELINES.values(), *extra]
    rows = []
    for task in metrics["tasks"]:
        name = task["task"] + (" (simulated)" if task["simulated"] and not task["task"].startswith("sim/") else "")
        written = figure(primary(task, MODEL, greedy=True), with_interval=False)
        row = [name, f"{task['n']:,}", task["primary_metric"], figure(primary(task, MODEL)), written, share(invalid_rate(task))]
        rows.append(row + [figure(primary(task, system), with_interval=False) for system in (*BASELINES, *extra)])
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


def markdown_table(metrics: dict[str, Any]) -> str:
    """The same table in Markdown."""
    header, rows = task_rows(metrics)
    marks = [":--" if i in (0, 2) else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, marks, *rows])
