"""One self-contained page about a run: `report.html`, with `report.md` beside it.

The page loads nothing: styles and figures are inline, and it follows the reader's light or dark theme. Every figure says
on which data, split and number of records it rests, with which interval, seed and commit.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_absent, fingerprint, git_commit, new_file, write_manifest
from artefacts.recipe import Recipe
from data_convert.tasks.records import each_record
from eval.predictions import by_task, prediction_lines, read_lines
from eval.sequences.recipe import FIELDS, FIGURES
from eval.show import content
from pages.charts import WIDE, Axis, Series, chart
from pages.page import MODALITIES, render_page

OURS = "<!-- written by `llama-gene eval report` -->"
"""Last line of the Markdown, which says that it may be replaced."""
TEMPLATE = Path(__file__).with_name("report.html.jinja")
MOST_POINTS = 400
"""Points of a curve; longer histories are averaged in groups of equal size."""


class ReportRecipe(Recipe):
    """A report over finished artefacts. Sections without their folder are left out, and the page says so."""

    title: str = "llama-gene run"
    simulated_note: str = ""
    """Added to the banner that the page bears when any task is simulated."""
    metrics: Path
    """metrics.json of `eval score`."""
    records: Path | None = None
    """Folder of instruction records: the prompts of the sample chats."""
    predictions: Path | None = None
    """Folder of predictions: the answers of the sample chats."""
    tokenizer: Path | None = None
    """Extended model folder, for extension_report.json."""
    pretrain: Path | None = None
    """Folder of continued pre-training, for history.jsonl and losses.json."""
    instruct: Path | None = None
    """Folder of instruction tuning, for history.jsonl."""
    retention: Path | None = None
    """retention.json of `eval retention`; without it the one beside the metrics, where there is one."""
    audit: Path | None = None
    """Folder of `convert audit` over these records: how much of test has a relative in train."""
    sequences: list[Path] = []
    """Folders of `eval sequences`, for their figures."""
    chats_per_task: int = 3
    seed: int = 0
    """Draws the sample chats."""
    out: Path
    """Page to write, such as report.html; a Markdown summary of the same name goes beside it."""


def report(recipe: ReportRecipe, *, overwrite: bool = False) -> None:
    """Write the page and the summary.

    Raises:
        UserError: output exists, or a file that a given folder should hold is missing or malformed.
    """
    check_absent(recipe.out, overwrite)
    summary = recipe.out.with_suffix(".md")
    if summary.exists() and not (summary.is_file() and OURS in summary.read_text(encoding="utf-8", errors="replace")):
        raise UserError(f"{summary}: would be replaced, and is none of ours; choose another output")
    metrics = content.read_stage(recipe.metrics, "tasks", "provenance")
    from eval.show.figures import task_figures

    model, tasks = content.reference_of(metrics), metrics["tasks"]
    noted = recipe.metrics.with_name("retention.json")
    kept = recipe.retention or (noted if noted.is_file() else None)
    losses = content.read_stage(recipe.pretrain / "losses.json") if recipe.pretrain else None
    audit = content.read_stage(recipe.audit / "audit.json", "leakage", "tasks") if recipe.audit else None
    measured = [content.read_stage(folder / FIGURES, *FIELDS) for folder in recipe.sequences]
    found = {
        "All answers": content.overall(metrics) if "overall" in metrics else None,
        "Negative controls": content.controls(metrics),
        "English retention": content.retention(content.read_stage(kept)) if kept else None,
        "Held-out text and sequences": content.losses(losses) if losses else None,
        "Sequences, without training": content.sequences(measured) if measured else None,
    }
    # one content for the page and for the Markdown beside it
    tables = {heading: table for heading, table in found.items() if table is not None}
    leaks = {task["task"]: content.leakage(audit, task) for task in tasks}
    of_tasks = {task["task"]: content.of_task(task, model) for task in tasks}
    # what the page alone shows
    context = {
        "recipe": recipe,
        "metrics": metrics,
        "created": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(),
        "model": model,
        "simulated": [task for task in tasks if task["simulated"]],
        "tokenizer": content.read_stage(recipe.tokenizer / "extension_report.json") if recipe.tokenizer else None,
        "losses": losses,
        "pretrain": _pretrain(recipe.pretrain, losses) if recipe.pretrain and losses else None,
        "instruct": _instruct(recipe.instruct) if recipe.instruct else None,
        "tables": tables,
        "of_tasks": of_tasks,
        "figures": {task["task"]: task_figures(task, model) for task in tasks},
        "overview": content.overview(metrics),
        "leaks": leaks,
        "systems": {task["task"]: content.in_order(task, model) for task in tasks},
        "chats": _chats(recipe, metrics, model),
        "stages": _stages(recipe),
        "repeated": _repeated_inputs(recipe.records) if recipe.records else {},
        "missing": [name for name in ("tokenizer", "pretrain", "instruct", "audit") if getattr(recipe, name) is None]
        + ([] if kept else ["English of the final model (`llama-gene eval retention`)"]),
    }
    inputs = {
        name: fingerprint(path) for name in ("metrics", "records", "predictions", "audit") if (path := getattr(recipe, name)) is not None
    }
    inputs |= {"sequences": fingerprint(*recipe.sequences)} if recipe.sequences else {}
    with new_file(recipe.out, overwrite=overwrite) as file:
        file.write_text(render_page(TEMPLATE, context, system=content.name_of), encoding="utf-8")
        with new_file(summary, overwrite=True) as beside:
            figures = content.as_markdown(recipe.title, recipe.simulated_note, metrics, tables, of_tasks, leaks)
            beside.write_text(f"{figures}\n{OURS}\n", encoding="utf-8")
        write_manifest(recipe.out, "report", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"tasks": len(tasks)})


def _pretrain(folder: Path, losses: dict[str, Any]) -> dict[str, Any]:
    history = list(read_lines(folder / "history.jsonl"))
    steps = [(line["step"], line["loss"]) for line in history if "loss" in line]
    lines = []
    whole = {name: after for name, after in losses["after"].items() if "/" not in name}  # the sources of a modality stand in the table
    for number, (name, after) in enumerate(whole.items()):
        points = [(line["step"], line["heldout"][name]) for line in history if name in line.get("heldout", {})]
        if points:
            label = f"{MODALITIES.get(name, name)}, bits per {after['unit']}"
            lines.append(_over_steps(label, points, number, after["bound"]))
    training = [_over_steps("training loss", steps)] if steps else []
    return {
        "loss_svg": _curves(training, "nats per token", "Training loss over steps"),
        "bits_svg": _curves(lines, "bits", "Held-out bits per letter over steps"),
    }


def _instruct(folder: Path) -> dict[str, Any]:
    history = list(read_lines(folder / "history.jsonl"))
    train = [(line["step"], line["loss"]) for line in history if "loss" in line]
    dev = [(line["step"], line["eval_loss"]) for line in history if "eval_loss" in line]
    lines = [_over_steps("training loss", train)] if train else []
    lines += [_over_steps("dev loss", dev, 1)] if dev else []
    if not lines:
        raise UserError(f"{folder / 'history.jsonl'}: holds neither loss nor eval_loss; is it the folder of instruction tuning?")
    return {"svg": _curves(lines, "nats per answer token", "Instruction tuning loss over steps"), "dev": dev}


def _curves(lines: list[Series], unit: str, alt: str) -> Any:
    """A chart over training steps; None without any line."""
    from markupsafe import Markup

    if not lines:
        return None
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for value in (*(value for _, value in line.points), *filter(None, [line.bound]))]
    return Markup(chart(lines, Axis.over("step", steps), Axis.over(unit, values), alt=alt, size=WIDE))


def _over_steps(label: str, points: list[tuple[float, float]], colour: int = 0, bound: float | None = None) -> Series:
    """A curve of at most MOST_POINTS points, each the mean of a group; few of them, as held-out losses are, have dots."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    thinned = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return Series(label, thinned, colour, "k", sizes=[3.0] * len(thinned) if colour and len(thinned) < 40 else [], bound=bound)


def _chats(recipe: ReportRecipe, metrics: dict[str, Any], model: str) -> dict[str, list[Any]]:
    from eval.show.chats import draw

    path = recipe.predictions / f"{model}.jsonl" if recipe.predictions else None
    if path is None or recipe.records is None or not path.is_file():
        return {}
    tasks = {task["task"] for task in metrics["tasks"]}
    records = {record["id"]: record for record in each_record(recipe.records / "test.jsonl")}
    lines = by_task(prediction_lines(path))
    for name in tasks & lines.keys():
        strange = next((line["id"] for line in lines[name] if line["id"] not in records), None)
        if strange is not None:
            raise UserError(f"{path}: '{strange}' is no test record of {recipe.records}; give the records that were predicted")
    return {
        task["task"]: draw(lines[task["task"]], records, recipe.chats_per_task, recipe.seed)
        for task in metrics["tasks"]
        if task["task"] in lines
    }


def _stages(recipe: ReportRecipe) -> list[dict[str, Any]]:
    """What the manifests of the folders say, for the table of provenance."""
    rows = []
    for name in ("tokenizer", "pretrain", "instruct", "records", "predictions"):
        folder = getattr(recipe, name)
        if folder is not None and (folder / MANIFEST).is_file():
            manifest = content.read_stage(folder / MANIFEST)
            noted = {key: manifest.get(key, "–") for key in ("stage", "created", "commit", "inputs")}
            rows.append({"name": name, **noted, "seed": (manifest.get("recipe") or {}).get("seed", "–")})
    return rows


def _repeated_inputs(records: Path) -> dict[str, int]:
    """Task -> test records whose very inputs also stand in train, where the records' manifest counts them."""
    path = records / MANIFEST
    counts = content.read_stage(path).get("counts", {}) if path.is_file() else {}
    repeated = {task: report.get("inputs_also_in_train") for task, report in counts.items() if isinstance(report, dict)}
    return {task: found["test"] for task, found in repeated.items() if found is not None and "test" in found}
