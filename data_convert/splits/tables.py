"""What an audit found, as tables of Markdown that read well in a terminal."""

from __future__ import annotations

from typing import Any

from data_convert.splits.leakage import ANY, CLASSES
from pages.page import share
from pages.tables import Table

HEADS = {"exact": "exact", "reverse_complement": "rev. compl.", "containment": "contained", "cluster": "cluster"}
LEAST_SHARE = 0.01
"""Rows without exact, reverse-complement or contained twins are shown from this share of cluster twins on."""
TEST = "test against train"


def tables(document: dict[str, Any]) -> str:
    """Leakage of both splits, sizes, residual identity, and what must be said."""
    parts = []
    for key, title in (("official", "Official split"), ("leak_controlled", "Leak-controlled split")):
        for name, rows in document["leakage"][key].items():
            shown = [row for row in rows if _worth_showing(row) or (row["train_task"] == ANY and name == TEST)]
            parts.append(f"## {title}: {name}, records with a twin (share of the records; of those whose labels compare: label equal)")
            if shown:
                header = ["test task", "input", "train task", "n", *HEADS.values()]
                parts.append(Table(header, [_row(row) for row in shown], range(3)).aligned())
            hidden = [row for row in rows if row not in shown]
            parts.append(f"{len(hidden)} more rows with fewer twins in audit.json." if hidden else "" if shown else "none")
    parts += ["## Contained in register (same strand, within 12 letters of the commonest offset), official split", _register(document)]
    parts += ["## Sizes, official → leak-controlled", _sizes(document)]
    parts += ["## Residual identity: best of each test sequence to any in train", _residual(document)]
    notes = [f"- {task}: {note}" for task, found in document["split"]["notes"].items() for note in found]
    if notes:
        parts += ["## To be said of the leak-controlled split", "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _worth_showing(row: dict[str, Any]) -> bool:
    return any(row[name]["records"] for name in CLASSES[:-1]) or row["cluster"]["records"] >= LEAST_SHARE * row["n"]


def _row(row: dict[str, Any]) -> list[str]:
    cells = []
    for name in CLASSES:
        found = row[name]
        text = f"{found['records']:,} ({share(found['records'], row['n'])}"
        text += f"; {share(found['equal'], found['compared'])})" if found["compared"] else ")"
        cells.append(text if found["records"] else "0")
    return [row["test_task"], row["input"], row["train_task"], f"{row['n']:,}", *cells]


def _register(document: dict[str, Any]) -> str:
    rows = [row for row in document["in_register"]["official"] if row["records"] >= LEAST_SHARE * row["n"]]
    header = ["test task", "train task", "longer", "offset", "n", "records", "share", "label equal"]
    cells = [
        [
            *(row["test_task"], row["train_task"], row["longer"], str(row["offset"]), f"{row['n']:,}", f"{row['records']:,}"),
            *(share(row["records"], row["n"]), share(row["equal"], row["compared"])),
        ]
        for row in rows
    ]
    return Table(header, cells, range(3)).aligned()


def _sizes(document: dict[str, Any]) -> str:
    rows = []
    for task in document["split"]["tasks"]:
        sizes = [f"{task['official'][name]:,} → {task['leak_controlled'][name]:,}" for name in ("train", "dev", "test")]
        rows.append([task["task"], *sizes, f"{task['left_out']:,}", f"{task['groups']:,}", f"{100 * task['largest_group']:.1f} %"])
    return Table(["task", "train", "dev", "test", "left out", "groups", "largest group"], rows).aligned()


def _residual(document: dict[str, Any]) -> str:
    residual, rows = document["residual"], []
    named = [("official", "test", residual["official"])]
    named += [("leak-controlled", side, found) for side, found in residual["leak_controlled"].items()]
    for split, side, found in named:
        for row in found:
            figures = [f"{row.get(name, 0):.3f}" for name in ("median", "p95", "p99", "most")]
            shares = [share(row["identical"], row["measured"]), share(row["nothing_found"], row["measured"])]
            rows.append([row["task"], split, side, f"{row['sequences']:,}", f"{row['measured']:,}", *figures, *shares])
    header = ["task", "split", "of", "sequences", "measured", "median", "95 %", "99 %", "most", "identity 1", "nothing found"]
    return Table(header, rows, range(3)).aligned()
