"""The report as Markdown, beside the page and with the same figures."""

from __future__ import annotations

from typing import Any

from eval.predictions import CONTROLS
from eval.show.tables import control_table, figure, is_control, markdown, name_of, reference_of, task_rows


def as_markdown(
    title: str, note: str, metrics: dict[str, Any], losses: dict[str, Any] | None, retention: dict[str, Any] | None = None
) -> str:
    """Args: note: added where any task is simulated; losses: losses.json of pre-training; retention: retention.json."""
    provenance = metrics["provenance"]
    parts = [f"# {title}"]
    if any(task["simulated"] for task in metrics["tasks"]):
        parts.append(f"Tasks under `sim/` are simulated and say nothing about real biology. {note}".strip())
    parts.append(markdown(*task_rows(metrics, with_intervals=True), left=(0, 2)))
    parts.append(
        f"Test split; primary metric from label log-likelihoods with {provenance['intervals']} (± standard deviation over runs where a "
        "system has several); `written`: the same metric of the greedy text under the strict parser, `invalid`: share it could not "
        f"read. † a published figure of another split or setting. Seed {provenance['seed']}, commit {provenance['commit']}."
    )
    if "overall" in metrics:
        parts += ["## Answers from a file", _overall(metrics)]
    controls = control_table(metrics)
    if controls["rows"]:
        parts += ["## Negative controls", _controls(controls)]
    if losses is not None:
        parts += ["## Held-out text and sequences", _losses(losses)]
    if retention is not None:
        parts += ["## English retention", _retention(retention)]
    for task in metrics["tasks"]:
        parts += _task(task, reference_of(metrics))
    return "\n\n".join(parts) + "\n"


def _task(task: dict[str, Any], reference: str) -> list[str]:
    clusters = f", intervals over {task['n_clusters']:,} clusters" if task["n_clusters"] is not None else ""
    size = f"n = {task['n']:,}, train {task['n_train']:,}{clusters}"
    parts = [f"## {task['title']}", f"`{task['task']}` v{task['version']}, {task['kind']}; {size}. {task['split_note']}"]
    if task.get("majority_share") is not None:
        legacy = [f"{name}: {rule} {found['right']:,}" for name, own in task["systems"].items() for rule, found in own["legacy"].items()]
        parts.append(
            f"Accuracy of the most frequent label alone {task['majority_share']:.3f}. Right by the legacy rules: {', '.join(legacy)}."
        )
    header, rows = ["system", *task["metrics"]], []
    for system, scores in task["systems"].items():
        if is_control(system):
            continue
        rows.append([name_of(system), *(figure(scores["metrics"].get(metric)) for metric in task["metrics"])])
        if "normalised" in scores:
            said = scores["normalised"]["metrics"]
            rows.append([f"{name_of(system)}, per token", *(figure(said.get(metric)) for metric in task["metrics"])])
        if "greedy" in scores:
            said = scores["greedy"]["metrics"]
            rows.append([f"{name_of(system)}, written", *(figure(said.get(metric)) for metric in task["metrics"])])
    parts.append(markdown(header, rows))
    shown = {system: found for system, found in task["differences"].items() if not is_control(system) and found["value"] is not None}
    if shown:
        lines = [f"- {reference} over {name_of(system)}: {found['metric']} {figure(found)}" for system, found in shown.items()]
        parts.append("\n".join(["Differences on the same resamples:", "", *lines]))
    if task["published"]:
        cells = [
            [entry["model"] + (" †" if entry["note"] else ""), entry["metric"], f"{entry['value']:.3f}", entry["source"], entry["note"]]
            for entry in task["published"]
        ]
        parts.append(markdown(["published", "metric", "value", "source", "differs"], cells, left=(0, 1, 3, 4)))
    return parts


def _overall(metrics: dict[str, Any]) -> str:
    header = ["system", "n", "strict", "unread", "legacy: lenient", "legacy: stripped", "legacy: exact"]
    n, rows = metrics["overall"]["n"], []
    for system in metrics["provenance"]["systems"]:
        found = metrics["overall"][system]
        legacy = [f"{found[rule]['right']:,} ({figure(found[rule])})" for rule in ("lenient", "stripped", "exact")]
        strict = f"{found['accuracy']['right']:,} ({figure(found['accuracy'])})"
        rows.append([system, f"{n:,}", strict, f"{n - found['valid']['right']:,}", *legacy])
    return markdown(header, rows)


def _controls(controls: dict[str, Any]) -> str:
    cells = []
    for row in controls["rows"]:
        found = [row["controls"].get(name, {"figure": None, "difference": None}) for name in controls["names"]]
        figures = [text for one in found for text in (figure(one["figure"]), figure(one["difference"]))]
        cells.append([row["task"]["task"], row["task"]["primary_metric"], figure(row["own"]), *figures])
    heads = [head for name in controls["names"] for head in (name, "difference")]
    legend = "; ".join(f"{name}: {CONTROLS[name]}" for name in controls["names"])
    return markdown(["task", "metric", "as asked", *heads], cells, left=(0, 1)) + f"\n\n{legend}."


def _retention(retention: dict[str, Any]) -> str:
    cells = [
        [name, f"{found['bits_per_byte']:.3f}", f"{found['difference']:+.3f}", f"{found['perplexity']:.2f}", f"{found['tokens']:,}"]
        for name, found in retention["models"].items()
    ]
    what = f"{retention['text']}: {retention['paragraphs']:,} paragraphs, {retention['bytes']:,} bytes never trained on."
    header = ["model", "bits per byte", "to the first", "perplexity per token", "tokens"]
    return f"{markdown(header, cells)}\n\n{what} Perplexity depends on the vocabulary, bits per byte do not."


def _losses(losses: dict[str, Any]) -> str:
    cells = []
    for name, after in losses["after"].items():
        before = losses["before"][name]["bits_per_letter"]
        now = after["bits_per_letter"]
        cells.append([name, after["unit"], f"{before:.3f}", f"{now:.3f}", f"{2**before:.3f}", f"{2**now:.3f}"])
    return markdown(["held-out", "per", "bits before", "after", "perplexity before", "after"], cells, left=(0, 1))
