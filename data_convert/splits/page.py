"""One self-contained page about an audit: it loads nothing, and follows the reader's light or dark theme."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from data_convert.splits.leakage import ANY, CLASSES, PAIR
from data_convert.splits.tables import HEADS, TEST
from pages.page import render_page, share

TEMPLATE = Path(__file__).with_name("page.html.jinja")

SPLIT_NAMES = {"official": "official split", "leak_controlled": "leak-controlled split"}


def write_page(document: dict[str, Any], path: Path) -> None:
    """Write the page of what `audit.audit` returns."""
    context = {
        "document": document,
        "splits": SPLIT_NAMES,
        "classes": HEADS,
        "matrices": {name: {split: matrix(document, split, name) for split in SPLIT_NAMES} for name in CLASSES},
        "totals": {split: [row for row in document["leakage"][split][TEST] if row["train_task"] == ANY] for split in SPLIT_NAMES},
        "bars": histogram(document["residual"]),
        "register": [row for row in document["in_register"]["official"] if row["records"] >= 0.01 * row["n"]],
        "percent": share,
    }
    path.write_text(render_page(TEMPLATE, context), encoding="utf-8")


def matrix(document: dict[str, Any], split: str, name: str) -> list[list[dict[str, Any] | None]]:
    """[test tasks][train tasks] Records with a twin of one class: of single inputs, or of pairs as a whole."""
    places = {task: place for place, task in enumerate(document["tasks"])}
    cells: list[list[dict[str, Any] | None]] = [[None] * len(places) for _ in places]
    for row in document["leakage"][split][TEST]:
        if row["train_task"] != ANY and row[name]["records"]:
            here = cells[places[row["test_task"]]]
            place = places[row["train_task"]]
            known = here[place]
            # of a pair task: the pair where both inputs have a twin, else the input with most
            if known is None or row["input"] == PAIR or (known["input"] != PAIR and row[name]["records"] > known["records"]):
                here[place] = {"n": row["n"], "input": row["input"], "share": row[name]["records"] / row["n"], **row[name]}
    return cells


def histogram(residual: dict[str, Any]) -> list[dict[str, Any]]:
    """One group of bars per bin, with the share of sequences of each split: nothing found, the bins, identity 1."""
    edges = residual["edges"]
    columns = {}
    for split in SPLIT_NAMES:
        found = residual[split] if split == "official" else residual[split]["test"]
        row = next((row for row in found if row["task"] == "all"), None)
        columns[split] = [row["nothing_found"], *row["histogram"], row["identical"]] if row else [0] * (len(edges) + 1)
    names = ["none", *(f"{low:.2f}–{high:.2f}" for low, high in pairwise(edges)), "1"]
    total = {split: max(1, sum(column)) for split, column in columns.items()}
    return [
        {"name": name, **{split: columns[split][place] / total[split] for split in columns}, "n": {s: columns[s][place] for s in columns}}
        for place, name in enumerate(names)
    ]
