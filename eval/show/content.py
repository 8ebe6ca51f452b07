"""What a report says, as tables: one content for the page, for the Markdown beside it and for the terminal."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import read_json
from eval.ask.controls import CONTROLS
from eval.judge.score import MODEL
from pages.page import MODALITIES, share
from pages.tables import Cell, Table

BASELINES = {"majority": "majority", "kmer": "k-mer linear", "nearest": "nearest", "luca_base": "LucaBase head", "luca": "LucaOne head"}
"""Known baselines in the order of the columns, and what they are called."""
COLOURS = {"kmer": 1, "luca_base": 2, "luca": 2, "majority": 3, "nearest": 4}
OTHER = 5
LEGACY = ("lenient", "stripped", "exact")


def read_stage(path: Path, *needs: str) -> Any:
    """An object of a finished stage. Raises UserError: no such file, no JSON, or one without `needs`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that writes it, or leave its folder out of the report")
    found = read_json(path, "run the stage that writes it again")
    if not isinstance(found, dict) or not found.keys() >= {*needs}:
        raise UserError(f"{path}: no {' or '.join(needs) or 'object'} in it; run the stage that writes it again")
    return found


def name_of(system: str) -> str:
    """What a system is called in tables."""
    return BASELINES.get(system, system)


def colour(system: str, reference: str) -> int:
    """Number of a system's colour on the page, from 0."""
    return 0 if system == reference else COLOURS.get(system, OTHER)


def reference_of(metrics: dict[str, Any]) -> str:
    """The system that the others are compared with."""
    return metrics["provenance"].get("reference", MODEL)


def is_control(system: str) -> bool:
    """Whether a system is a negative control, `<system>@<control>`."""
    return "@" in system


def in_order(task: dict[str, Any], reference: str) -> list[str]:
    """The task's systems without controls: the reference, the known baselines, then the others."""
    rank = {reference: -1, "nearest": 0, "luca": 1, "luca_base": 1, "kmer": 2, "majority": 9}
    return sorted((name for name in task["systems"] if not is_control(name)), key=lambda name: (rank.get(name, 5), name))


def columns(metrics: dict[str, Any]) -> list[str]:
    """Systems beside the reference, in the order of the overview."""
    found = {name for task in metrics["tasks"] for name in task["systems"] if not is_control(name)} - {reference_of(metrics)}
    return [name for name in BASELINES if name in found] + sorted(found - BASELINES.keys())


def figure(interval: dict[str, Any] | None, form: str = ".3f") -> Cell:
    """`0.812` and `[0.790, 0.834]`, of several runs `± 0.010 [0.790, 0.834]`; a dash where a system has no such figure."""
    if interval is None or interval["value"] is None:
        return Cell("–")
    spread = [f"± {interval['sd']:.3f}"] if interval.get("sd") is not None else []
    bounds = [f"[{interval['low']:{form}}, {interval['high']:{form}}]"] if interval["low"] is not None else []
    return Cell(f"{interval['value']:{form}}", " ".join(spread + bounds))


def primary(task: dict[str, Any], system: str, *, greedy: bool = False) -> dict[str, Any] | None:
    """The primary metric of a system on a task, of its predictions or of its written answers."""
    scores = task["systems"].get(system)
    if scores is not None and greedy:
        scores = scores.get("greedy")
    return None if scores is None else scores["metrics"].get(task["primary_metric"])


def best_published(task: dict[str, Any]) -> dict[str, Any] | None:
    """The highest published figure of the primary metric; the first of equals."""
    found = [entry for entry in task["published"] if entry["metric"] == task["primary_metric"]]
    return max(found, key=lambda entry: entry["value"], default=None)


def overview(metrics: dict[str, Any], *, short: bool = False) -> Table:
    """A row per task; `short`, for the terminal, has the interval of the reference system alone."""
    model, others = reference_of(metrics), columns(metrics)
    rows = []
    for task in metrics["tasks"]:
        simulated = task["simulated"] and not task["task"].startswith("sim/")
        found = [figure(primary(task, model, greedy=True)), *(figure(primary(task, system)) for system in others)]
        if short:
            found = [replace(cell, small=cell.small.partition("[")[0].strip()) for cell in found]
        greedy, best = task["systems"].get(model, {}).get("greedy"), best_published(task)
        invalid = None if greedy is None else greedy["invalid_rate"] + greedy["refused_rate"]
        about = [Cell(task["task"] + (" (simulated)" if simulated else "")), Cell(f"{task['n']:,}"), Cell(task["primary_metric"])]
        last = Cell("–") if best is None else Cell(f"{best['value']:.3f}{' †' if best['note'] else ''}")
        rows.append([*about, figure(primary(task, model)), found[0], Cell(share(invalid)), *found[1:], last])
    header = ["task", "n", "metric", f"{model} [95 %]", "written", "invalid", *map(name_of, others), "published"]
    return Table(header, rows, left=(0, 2))


def comparison(document: dict[str, Any]) -> Table:
    """A row per task that both runs have."""
    first, second = document["runs"]
    rows, better = [], {first: 0, second: 0, None: 0}
    for task in document["tasks"]:
        better[task["better"]] += 1
        own = [figure(task[first]), figure(task[second]), figure(task["difference"], "+.3f")]
        tests = ["–" if p is None else f"{p:.3f}" for p in (task["difference"]["p"], task["p_holm"])]
        rows.append(
            [*map(Cell, (task["task"], f"{task['n']:,}", task["metric"])), *own, *map(Cell, tests), Cell(task["better"] or "undecided")]
        )
    level = f"{document['provenance']['level']:.0%} after Holm's correction for {len(rows)} tasks"
    counts = f"{first} better on {better[first]}, {second} on {better[second]}, undecided on {better[None]}"
    ranks = ", ".join(f"{name} {mean:.2f}" for name, mean in document["ranks"]["average"].items())
    caption = f"{counts}, at {level}; paired on the same records. Average rank: {ranks}."
    return Table(
        ["task", "n", "metric", first, second, "difference [95 %]", "p", "p (Holm)", "better"], rows, left=(0, 2, 8), caption=caption
    )


def overall(metrics: dict[str, Any]) -> Table:
    """All answers of a file together, by the strict parser and by the legacy rules."""
    rows = []
    for system in metrics["provenance"]["systems"]:
        found, n = metrics["overall"][system], metrics["overall"]["n"]
        strict, *legacy = (Cell(f"{found[rule]['right']:,}", f"({figure(found[rule])})") for rule in ("accuracy", *LEGACY))
        rows.append([Cell(system), Cell(f"{n:,}"), strict, Cell(f"{n - found['valid']['right']:,}"), *legacy])
    return Table(["system", "n", "strict", "unread", *(f"legacy: {rule}" for rule in LEGACY)], rows)


def controls(metrics: dict[str, Any]) -> Table | None:
    """A row per task and system with a control: its primary metric as asked and under each control, and what lies between them on
    the same resamples (known for the reference system)."""
    met = {(task["task"], name.partition("@")[0]): task for task in metrics["tasks"] for name in task["systems"] if is_control(name)}
    names = [name for name in CONTROLS if any(f"{system}@{name}" in task["systems"] for (_, system), task in met.items())]
    rows = []
    for (_, system), task in met.items():
        cells = [Cell(task["task"]), Cell(task["primary_metric"]), figure(primary(task, system))]
        for name in names:
            control = f"{system}@{name}"
            difference = task["differences"].get(control) if system == reference_of(metrics) else None
            known = difference is not None and difference["low"] is not None
            cells += [
                figure(primary(task, control)),
                replace(figure(difference), good=difference["low"] > 0 if known and difference else None),
            ]
        rows.append(cells)
    heads = [head for name in names for head in (name, "difference")]
    caption = "; ".join(f"{name}: {CONTROLS[name][0]}" for name in names) + ". A difference falls where its whole interval is above 0."
    return Table(["task", "metric", "as asked", *heads], rows, left=(0, 1), caption=caption) if rows else None


def retention(document: dict[str, Any]) -> Table:
    """Bits per byte of English, of each model."""
    rows = [
        [name, f"{found['bits_per_byte']:.3f}", f"{found['difference']:+.3f}", f"{found['perplexity']:.2f}", f"{found['tokens']:,}"]
        for name, found in document["models"].items()
    ]
    what = f"{document['text']}: {document['paragraphs']:,} paragraphs, {document['bytes']:,} bytes never trained on; lower is better."
    header = ["model", "bits per byte", "to the first", "perplexity per token", "tokens"]
    caption = f"{what} Perplexity depends on the vocabulary, bits per byte do not."
    return Table(header, [list(map(Cell, row)) for row in rows], caption=caption)


def sequences(documents: Sequence[dict[str, Any]]) -> Table:
    """What `eval sequences` measured without training, a row per figure."""
    rows = [
        [*map(Cell, (document["evaluation"], document["system"], found["of"], found["metric"], f"{found['n']:,}")), figure(found)]
        for document in documents
        for found in document["figures"]
    ]
    notes = {f"{document['evaluation']} ({document['system']}): {document['note']}" for document in documents if document["note"]}
    exact = {f"{document['system']} spells {document['alphabet']} in {document['exactness']}" for document in documents}
    caption = ". ".join([*sorted(exact), *sorted(notes), f"Small: {documents[0]['intervals']}, drawn by seed {documents[0]['seed']}"]) + "."
    header = ["evaluation", "system", "of", "metric", "n", "value [95 %]"]
    return Table(header, rows, left=(0, 1, 2, 3), caption=caption)


def losses(document: dict[str, Any]) -> Table:
    """Held-out bits per letter before and after pre-training."""
    rows = []
    for name, after in document["after"].items():
        before, now = document["before"][name]["bits_per_letter"], after["bits_per_letter"]
        counts = [f"{after['documents']:,}", f"{after['letters']:,}"]
        bits = [f"{before:.3f}", f"{now:.3f}", f"{now - before:+.3f}", f"{2**before:.3f}", f"{2**now:.3f}"]
        uniform = "–" if after["bound"] is None else f"{after['bound']:.2f}"
        rows.append([MODALITIES.get(name, name), after["unit"], *counts, *bits, uniform])
    caption = (
        "Bits per base, residue or byte on held-out documents, before and after training; lower is better. Perplexity is 2 to the bits: "
        "the even choices per letter. No interval: one run, all held-out letters."
    )
    header = ["held-out", "per", "documents", "letters", "bits before", "after", "change", "perplexity before", "after", "uniform letters"]
    return Table(header, [list(map(Cell, row)) for row in rows], left=(0, 1), caption=caption)


def of_task(task: dict[str, Any], reference: str) -> dict[str, Table]:
    """All metrics of all systems, the differences to the reference system, and the published figures; those that there are."""
    rows = []
    for system in in_order(task, reference):
        scores, own = task["systems"][system], colour(system, reference)
        said = scores.get("greedy", {"invalid_rate": 0.0, "refused_rate": 0.0})
        unread = f"(invalid {share(said['invalid_rate'])}, refused {share(said['refused_rate'])})"
        fitted = [f"{run['temperature']:.2f} by {run['n']:,} dev records" for run in scores.get("calibrated", {}).get("runs", [])]
        scaled = ("calibrated", ", calibrated", f"(temperature {', '.join(fitted)})")
        for part, what, small in (("", "", ""), scaled, ("normalised", ", per token", ""), ("greedy", ", written", unread)):
            found = scores.get(part) if part else scores
            if found is not None:
                figures = [figure(found["metrics"].get(metric)) for metric in task["metrics"]]
                rows.append([Cell(name_of(system) + what, small, colour=own), *figures])
        for run in scores.get("runs", []):
            values = [run["metrics"].get(metric) for metric in task["metrics"]]
            rows.append(
                [Cell(f"{name_of(system)}, run {run['run']}"), *(Cell("–" if value is None else f"{value:.3f}") for value in values)]
            )
    tables = {"All metrics": Table(["system", *task["metrics"]], rows)}
    rows = []
    for system, found in task["differences"].items():
        if not is_control(system) and found["low"] is not None:
            better, worse = found["low"] > 0, found["high"] < 0
            verdict = Cell("better" if better else "worse" if worse else "undecided", good=better if better or worse else None)
            rows.append([Cell(f"{reference} over {name_of(system)}", colour=colour(system, reference)), figure(found, "+.3f"), verdict])
    if rows:
        tables["Difference to each system, same resamples"] = Table(["", task["primary_metric"], ""], rows, left=(0, 2))
    rows = [
        list(map(Cell, (f"{own['model']}{' †' if own['note'] else ''}", own["metric"], f"{own['value']:.3f}", own["source"], own["note"])))
        for own in task["published"]
    ]
    if rows:
        noted = any(own["note"] for own in task["published"])
        caption = "† The split or the setting differs as noted; not comparable figure by figure." if noted else ""
        header = ["published", "metric", "value", "source", "differs"]
        tables["Published figures, copied, not run again"] = Table(header, rows, left=(0, 1, 3, 4), caption=caption)
    return tables


def as_markdown(title: str, note: str, metrics: dict[str, Any], tables: dict[str, Table], of_tasks: dict[str, dict[str, Table]]) -> str:
    """The whole report as Markdown.

    Args:
        note: added where any task is simulated.
        tables: heading -> table of all tasks together, in the page's order.
        of_tasks: task -> its tables by heading.
    """
    provenance = metrics["provenance"]
    parts = [f"# {title}"]
    if any(task["simulated"] for task in metrics["tasks"]):
        parts.append(f"Tasks under `sim/` are simulated and say nothing about real biology. {note}".strip())
    parts.append(overview(metrics).markdown())
    parts.append(
        f"Test split; primary metric from label log-likelihoods with {provenance['intervals']} (± standard deviation over runs where a "
        "system has several); `written`: the same metric of the greedy text under the strict parser, `invalid`: share it could not "
        f"read. † a published figure of another split or setting. Seed {provenance['seed']}, commit {provenance['commit']}."
    )
    for heading, table in tables.items():
        parts += [f"## {heading}", table.markdown()]
    for task in metrics["tasks"]:
        clusters = f", intervals over {task['n_clusters']:,} clusters" if task["n_clusters"] is not None else ""
        size = f"n = {task['n']:,}, train {task['n_train']:,}{clusters}"
        parts += [f"## {task['title']}", f"`{task['task']}` v{task['version']}, {task['kind']}; {size}. {task['split_note']}"]
        if task.get("majority_share") is not None:
            legacy = [
                f"{name}: {rule} {found['right']:,}" for name, own in task["systems"].items() for rule, found in own["legacy"].items()
            ]
            alone = f"Accuracy of the most frequent label alone {task['majority_share']:.3f}."
            parts.append(f"{alone} Right by the legacy rules: {', '.join(legacy)}.")
        for heading, table in of_tasks[task["task"]].items():
            parts += [f"### {heading}", table.markdown()]
    return "\n\n".join(parts) + "\n"
