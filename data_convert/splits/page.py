"""What an audit found: as tables of Markdown that read well in a terminal, and as one self-contained page, which loads nothing and
follows the reader's light or dark theme."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from data_convert.splits.leakage import ANY, CLASSES, PAIR
from pages.page import render_page, share
from pages.tables import Table

TEMPLATE = Path(__file__).with_name("page.html.jinja")
SPLIT_NAMES = {"official": "official split", "leak_controlled": "leak-controlled split"}
HEADS = {"exact": "exact", "reverse_complement": "rev. compl.", "containment": "contained", "cluster": "cluster"}
LEAST_SHARE = 0.01
"""Rows without exact, reverse-complement or contained twins are shown from this share of cluster twins on."""
MOST_NAMED = 3
"""Tasks that the verdict names."""
TEST = "test against train"


def tables(document: dict[str, Any]) -> str:
    """Leakage of both splits, sizes, residual identity, and what must be said."""
    parts = [verdict(document)]
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
    if document["without_sequence"]:
        parts += ["## Set aside: records without a sequence", _plain(document)]
    notes = [f"- {task}: {note}" for task, found in document["split"]["notes"].items() for note in found]
    if notes:
        parts += ["## To be said of the leak-controlled split", "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(document: dict[str, Any]) -> str:
    """In one line: of how many tasks test records have a relative in any train, in both splits, the worst tasks named."""
    parts = []
    for split, words in SPLIT_NAMES.items():
        worst: dict[str, tuple[float, str]] = {}
        for row in document["leakage"][split][TEST]:
            if row["train_task"] == ANY and (found := row["cluster"]["records"]):
                known = worst.get(row["test_task"], (0.0, ""))
                worst[row["test_task"]] = max(known, (found / row["n"], share(found, row["n"])))
        shown = sorted(worst.items(), key=lambda item: -item[1][0])[:MOST_NAMED]
        named = ", ".join(f"{task} {text}" for task, (_, text) in shown)
        more = f", {len(worst) - len(shown)} more" if len(worst) > len(shown) else ""
        of = f"test records of {len(worst)} of {len(document['tasks'])} tasks have a relative in train ({named}{more})"
        parts.append(f"{words}: {of if worst else 'no test record has a relative in train'}")
    line = "; ".join(parts)
    return f"{line[0].upper()}{line[1:]}."


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


def _register_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in document["in_register"]["official"] if row["records"] >= LEAST_SHARE * row["n"]]


def _register(document: dict[str, Any]) -> str:
    header = ["test task", "train task", "longer", "offset", "n", "records", "share", "label equal"]
    cells = [
        [
            *(row["test_task"], row["train_task"], row["longer"], str(row["offset"]), f"{row['n']:,}", f"{row['records']:,}"),
            *(share(row["records"], row["n"]), share(row["equal"], row["compared"])),
        ]
        for row in _register_rows(document)
    ]
    return Table(header, cells, range(3)).aligned()


def _plain(document: dict[str, Any]) -> str:
    rows = [[task, *(f"{n:,}" for n in own.values())] for task, own in document["without_sequence"].items()]
    return Table(["task", "train", "dev", "test"], rows).aligned()


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


def write_page(document: dict[str, Any], path: Path) -> None:
    """Write the page of what `audit.audit` returns."""
    context = {
        "document": document,
        "verdict": verdict(document),
        "splits": SPLIT_NAMES,
        "classes": HEADS,
        "matrices": {name: {split: matrix(document, split, name) for split in SPLIT_NAMES} for name in CLASSES},
        "totals": {split: [row for row in document["leakage"][split][TEST] if row["train_task"] == ANY] for split in SPLIT_NAMES},
        "bars": histogram(document["residual"]),
        "register": _register_rows(document),
        "percent": share,
    }
    path.write_text(render_page(TEMPLATE, context), encoding="utf-8")


def matrix(document: dict[str, Any], split: str, name: str) -> list[list[dict[str, Any] | None]]:
    """By test task, then train task: records with a twin of one class: of single inputs, or of pairs as a whole."""
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
