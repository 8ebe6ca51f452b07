"""The figures of one task on the report's page, drawn from what `eval score` wrote of each system."""

import math
from textwrap import shorten
from typing import Any

from markupsafe import Markup

from data_convert.tasks.kinds import KINDS
from eval.judge.ranks import Ranks
from eval.show.content import OTHER, colour, in_order, is_control, name_of, primary
from pages.charts import Axis, Series, chart

MOST_SYSTEMS = 5
"""In one figure; further ones are in the tables."""
LABEL = 22
"""Letters of a published model's name beside a plot; the table has all of them."""
LEAST_IN_BIN = 5
"""Records of a drawn bin of confidence; fewer say nothing. The calibration error counts them all."""

Task = dict[str, Any]


def task_figures(task: Task, reference: str) -> dict[str, Any]:
    """Name of the figure -> SVG, and the reference's confusion matrix; what a task does not have is left out."""
    found = {
        "intervals": _intervals(task, reference),
        "roc": _roc(task, reference),
        "reliability": _reliability(task, reference),
        "length": _length(task, reference),
    }
    figures: dict[str, Any] = {name: Markup(svg) for name, svg in found.items() if svg}
    who = reference if reference in task["systems"] else next((name for name in task["systems"] if not is_control(name)), None)
    confusion = None if who is None else task["systems"][who].get("details", {}).get("confusion")
    if confusion:
        figures["confusion"] = {"system": who, **confusion}
    return figures


def ranks_chart(ranks: Ranks) -> Markup | None:
    """Critical differences as intervals, a row for each system, the best first; None where there are too few tasks."""
    if ranks.difference is None:
        return None
    half = ranks.difference / 2
    rows = [
        Series(name, [(mean, float(place))], place and OTHER, bars=[(mean - half, mean + half)], sizes=[5])
        for place, (name, mean) in enumerate(ranks.average.items())
    ]
    x = Axis.over("average rank", [end for mean in ranks.average.values() for end in (mean - half, mean + half)])
    alt = f"Average ranks over {ranks.tasks} tasks, with critical differences"
    return Markup(chart(rows, x, Axis("", names=[name_of(name) for name in ranks.average]), alt=alt, size=(350, 60 + 24 * len(rows))))


def _intervals(task: Task, reference: str) -> str | None:
    rows: list[Series] = []
    for system in in_order(task, reference):
        for greedy in (False, True):
            found = primary(task, system, greedy=greedy)
            if found is not None and found["value"] is not None:
                label = name_of(system) + (", written" if greedy else "")
                interval = None if found["low"] is None else (found["low"], found["high"])
                point = (found["value"], float(len(rows)))
                rows.append(Series(label, [point], colour(system, reference), bars=[interval], sizes=[5], hollow=greedy))
    for entry in task["published"]:
        if entry["metric"] == task["primary_metric"]:
            label = shorten(entry["model"], LABEL, placeholder="…") + (" †" if entry["note"] else "")
            rows.append(Series(label, [(entry["value"], float(len(rows)))], OTHER, sizes=[5], hollow=True))
    if not rows:
        return None
    values = [value for row in rows for value in (row.points[0][0], *((row.bars[0] or ()) if row.bars else ()))]
    x, y = Axis.over(task["primary_metric"], values, zero=True), Axis("", names=[row.label for row in rows])
    alt = f"{task['primary_metric']} of all systems on {task['title']}"
    return chart(rows, x, y, alt=alt, size=(350, 60 + 24 * len(rows)))


def _details(task: Task, reference: str, name: str) -> list[tuple[str, Any]]:
    own = [(system, task["systems"][system].get("details", {}).get(name)) for system in in_order(task, reference)]
    return [(system, found) for system, found in own if found][:MOST_SYSTEMS]


def _roc(task: Task, reference: str) -> str | None:
    """Of two classes a curve per system; of more, the first system's curve per class."""
    found = _details(task, reference, "roc")
    if not found:
        return None
    if KINDS[task["kind"]].two_labels:
        series = []
        for system, (curve,) in found:
            if system == "majority":
                continue  # the diagonal
            area = task["systems"][system]["metrics"]["auroc"]["value"]
            series.append(Series(f"{name_of(system)}: area {area:.3f}", curve["points"], colour(system, reference)))
        alt = f"ROC curves of {task['title']}, positive: {found[0][1][0]['label']}"
    else:
        system, curves = found[0]
        series = [Series(f"{curve['label']} against the rest", curve["points"], place, "k") for place, curve in enumerate(curves)]
        alt = f"ROC curves of {name_of(system)} on {task['title']}, a class each"
    return chart(series, Axis("false positive rate"), Axis("true positive rate"), alt=alt, diagonal=True)


def _reliability(task: Task, reference: str) -> str | None:
    series = []
    for system, every in _details(task, reference, "reliability"):
        bins = [row for row in every if row["n"] >= LEAST_IN_BIN]
        if system == "majority" or not bins:
            continue  # the majority is a point
        most = max(row["n"] for row in bins)
        sizes = [1.5 + 3.5 * math.sqrt(row["n"] / most) for row in bins]
        error = task["systems"][system]["metrics"]["ece"]["value"]
        points = [(row["confidence"], row["accuracy"]) for row in bins]
        series.append(Series(f"{name_of(system)}: ECE {error:.3f}", points, colour(system, reference), sizes=sizes))
    if not series:
        return None
    alt = f"Reliability of {task['title']}: accuracy over confidence"
    return chart(series, Axis("confidence"), Axis("accuracy"), alt=alt, diagonal=True)


def _length(task: Task, reference: str) -> str | None:
    found = _details(task, reference, "length")
    if not found:
        return None
    rows = found[0][1]["rows"]
    columns = [f"{row['shortest']:,}–{row['longest']:,}" if row["shortest"] < row["longest"] else f"{row['longest']:,}" for row in rows]
    series = []
    for system, by_length in found:
        shown = [(place, row) for place, row in enumerate(by_length["rows"]) if row["value"] is not None]
        points = [(float(place), row["value"]) for place, row in shown]
        bars = [None if row["low"] is None else (row["low"], row["high"]) for _, row in shown]
        series.append(Series(name_of(system), points, colour(system, reference), bars=bars, sizes=[3.0] * len(points)))
    metric = found[0][1]["metric"]
    values = [value for one in series for value in [*(up for _, up in one.points), *(end for bar in one.bars if bar for end in bar)]]
    y = Axis(metric, min([0.0, *values]), max([1.0, *values]))
    return chart(series, Axis("letters of the input", names=columns), y, alt=f"{metric} of {task['title']} by length of the input")
