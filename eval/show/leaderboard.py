"""Several documents of metrics as one table: every task beside every system, with average ranks (`eval leaderboard`).

A system that several documents have on one task was trained several times: the mean of its values, their standard deviation,
and the widest interval of them, which says no less than each of them.
"""

import csv
import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import Field

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from data_convert.tasks.kinds import LOWER_IS_BETTER
from eval.judge.ranks import LEVEL, Ranks, ranks_of
from eval.show.content import best_published, figure, is_control, name_of, read_stage
from eval.show.figures import ranks_chart
from pages.page import render_page
from pages.tables import Cell, Table

TEMPLATE = Path(__file__).with_name("leaderboard.html.jinja")
Standing = dict[str, Any]
"""One figure: task, system, metric, value, low, high and what they rest on."""


class LeaderboardRecipe(Recipe):
    """Put finished evaluations into one table."""

    metrics: list[Path] = Field(min_length=1)
    """Files of `eval score`, or folders that hold a metrics.json; plain arguments are these. One task in several: several runs."""
    out: Path
    """Folder for leaderboard.html, leaderboard.md, leaderboard.csv and leaderboard.json."""
    title: str = "Leaderboard"


def leaderboard(recipe: LeaderboardRecipe, *, overwrite: bool = False) -> str:
    """Write the folder; returns the table for a terminal.

    Raises:
        UserError: output exists; a file is no document of metrics; two documents disagree about a task's metric or test records.
    """
    check_absent(recipe.out, overwrite)
    files = [path / "metrics.json" if path.is_dir() else path for path in recipe.metrics]
    documents = {path: read_stage(path, "tasks", "provenance") for path in files}
    standings = standings_of(documents)
    tasks = {task["task"]: task for document in documents.values() for task in document["tasks"]}
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        (folder / "leaderboard.md").write_text(f"# {recipe.title}\n\n{compared(standings, tasks).markdown()}\n", encoding="utf-8")
        (folder / "leaderboard.json").write_text(json.dumps(standings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with (folder / "leaderboard.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, standings[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(standings)
        n = sum(task["n"] for task in tasks.values())
        about = f"{len(tasks)} tasks, {n:,} test records. The best measured figure of each task is marked."
        simulated = sum(task["simulated"] for task in tasks.values())
        page = board_page(recipe.title, about, compared(standings, tasks, mark=""), ranks(standings), simulated)
        (folder / "leaderboard.html").write_text(page, encoding="utf-8")
        counts = {"documents": len(documents), "figures": len(standings)}
        write_manifest(folder, "leaderboard", recipe=recipe.model_dump(mode="json"), inputs={"metrics": fingerprint(*files)}, counts=counts)
    return compared(standings, tasks, mark="").terminal()


def board_page(title: str, lead: str, table: Table, ranks: Ranks, simulated: int) -> str:
    """One self-contained page: the table, and the plot of critical differences where there are tasks enough.

    Args:
        simulated: how many of the tasks are.
    """
    plot = ranks_chart(ranks)
    context = {"title": title, "lead": lead, "it": table, "ranks": ranks, "plot": plot, "level": LEVEL, "simulated": simulated}
    return render_page(TEMPLATE, context)


def standings_of(documents: dict[Path, dict[str, Any]]) -> list[Standing]:
    """A row for every task, system and run together, by task, the best first; published figures among them, marked as such."""
    found: list[Standing] = []
    for path, document in documents.items():
        for task in document["tasks"]:
            about = {name: task[name] for name in ("task", "simulated", "split", "split_note", "n", "n_train")}
            about["metric"] = task["primary_metric"]
            own = {"seed": str(document["provenance"]["seed"]), "commit": document["provenance"]["commit"], "file": str(path)}
            measured = {
                name: system["metrics"].get(task["primary_metric"]) for name, system in task["systems"].items() if not is_control(name)
            }
            found += [
                {**about, "system": name, "published": False, **one, "sd": one.get("sd"), "runs": 1, **own, "note": ""}
                for name, one in measured.items()
                if one is not None and one["value"] is not None
            ]
            published = [entry for entry in task["published"] if entry["metric"] == task["primary_metric"]]
            nothing = {"low": None, "high": None, "sd": None, "runs": 1, "seed": "", "commit": "", "file": ""}
            found += [
                {**about, "system": one["model"], "published": True, "value": one["value"], **nothing, "note": one["note"] or one["source"]}
                for one in published
            ]
    one_system = itemgetter("task", "published", "system")
    together = [merged(list(rows)) for _, rows in groupby(sorted(found, key=one_system), key=one_system)]
    for _, rows in groupby(together, key=itemgetter("task")):
        check_alike(list(rows))
    return sorted(together, key=lambda row: (row["task"], row["published"], _cost(row)))


def _cost(row: Standing) -> float:
    """The value so that less is better."""
    return float(row["value"] if row["metric"] in LOWER_IS_BETTER else -row["value"])


def merged(rows: Sequence[Standing]) -> Standing:
    """Several runs of one system on one task as one row."""
    check_alike(rows)
    if len(rows) == 1 or rows[0]["published"]:
        return rows[0]
    values = [row["value"] for row in rows]
    lows, highs = ([row[name] for row in rows if row[name] is not None] for name in ("low", "high"))
    spread = {
        "value": round(fmean(values), 6),
        "sd": round(stdev(values), 6),
        "low": min(lows, default=None),
        "high": max(highs, default=None),
    }
    sources = {name: " ".join(dict.fromkeys(str(row[name]) for row in rows)) for name in ("seed", "commit", "file")}
    return {**rows[0], **spread, "runs": len(rows), **sources}


def check_alike(rows: Sequence[Standing]) -> None:
    """Refuse figures of one task that rest on other test records or are another metric. Raises UserError."""
    for row in rows:
        for name in ("metric", "n", "split_note"):
            if row[name] != rows[0][name]:
                raise UserError(
                    f"{row['file'] or rows[0]['file']}: '{row['task']}' has {name}={row[name]!r}, {rows[0]['file']} has {rows[0][name]!r}: "
                    "not the same test; leave one of them out"
                )


def ranks(standings: Sequence[Standing]) -> Ranks:
    """Of the measured systems."""
    of_task: dict[str, dict[str, float]] = {}
    for row in standings:
        if not row["published"]:
            of_task.setdefault(row["task"], {})[row["system"]] = _cost(row)
    return ranks_of([*of_task.values()])


def compared(standings: Sequence[Standing], tasks: dict[str, dict[str, Any]], mark: str = "**") -> Table:
    """A row for every task, a column for every system; `mark` around the best measured figure, the best published one last."""
    found = ranks(standings)
    systems = [*found.average] or sorted({row["system"] for row in standings if not row["published"]})
    rows: list[list[Cell]] = []
    for task, group in groupby(standings, key=itemgetter("task")):
        own = {row["system"]: row for row in group if not row["published"]}
        first = next(iter(own.values()))
        best, published = first["value"], best_published(tasks[task])
        cells = [figure(own.get(system)) for system in systems]
        cells = [
            Cell(f"{mark}{cell.text}{mark}", cell.small, good=True) if system in own and own[system]["value"] == best else cell
            for system, cell in zip(systems, cells, strict=True)
        ]
        last = Cell("–") if published is None else Cell(f"{published['value']:.3f}{' †' if published['note'] else ''}", published["model"])
        rows.append([*map(Cell, (task + (" (simulated)" if first["simulated"] else ""), f"{first['n']:,}", first["metric"])), *cells, last])
    caption = "[95 %] of the test records; ± over runs of several seeds, then with their widest interval. † another split or setting."
    if len(systems) > 1 and found.tasks:
        means = [Cell(f"{mean:.2f}") for mean in found.average.values()]
        rows.append([Cell("average rank"), Cell(f"{found.tasks} tasks"), Cell(""), *means, Cell("")])
        caption += f" {found}"
    return Table(["task", "n", "metric", *map(name_of, systems), "published"], rows, left=(0, 2), caption=caption)
