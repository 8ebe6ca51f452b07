"""One self-contained page about a run: `report.html`, with `report.md` beside it.

The page loads nothing: styles and figures are inline, and it follows the reader's light or dark theme. Every figure says
on which data, split and number of records it rests, with which interval, seed and commit.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_absent, fingerprint, git_commit, new_file, write_manifest
from artefacts.recipe import Recipe
from eval.predictions import CONTROLS, by_task, read_lines
from eval.show.markdown import as_markdown
from eval.show.tables import (
    best_published,
    columns,
    control_table,
    invalid_rate,
    is_control,
    name_of,
    primary,
    published,
    reference_of,
    share,
)

MODALITIES = {"dna": "DNA", "protein": "protein", "text": "text"}
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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    check_absent(recipe.out, overwrite)
    metrics = _json(recipe.metrics)
    from eval.show.figures import colour, in_order, task_figures  # matplotlib, which a missing file need not wait for

    model = reference_of(metrics)
    beside = recipe.metrics.with_name("retention.json")
    kept = recipe.retention or (beside if beside.is_file() else None)
    retention = _json(kept) if kept else None
    context = {
        "recipe": recipe,
        "metrics": metrics,
        "created": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(),
        "model": model,
        "simulated": [task for task in metrics["tasks"] if task["simulated"]],
        "tokenizer": _json(recipe.tokenizer / "extension_report.json") if recipe.tokenizer else None,
        "pretrain": _pretrain(recipe.pretrain) if recipe.pretrain else None,
        "instruct": _instruct(recipe.instruct) if recipe.instruct else None,
        "columns": columns(metrics),
        "controls": control_table(metrics),
        "control_meanings": CONTROLS,
        "figures": {task["task"]: task_figures(task, model) for task in metrics["tasks"]},
        "systems": {task["task"]: in_order(task, model) for task in metrics["tasks"]},
        "retention": retention,
        "chats": _chats(recipe, metrics, model),
        "stages": _stages(recipe),
        "repeated": _repeated_inputs(recipe.records) if recipe.records else {},
        "modalities": MODALITIES,
        "missing": [name for name in ("tokenizer", "pretrain", "instruct") if getattr(recipe, name) is None],
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(share=share, count=lambda number: f"{number:,}", decimal=_decimal, signed=lambda x: _decimal(x, "+"))
    environment.filters.update(system=name_of, published=published)
    environment.globals.update(primary=primary, invalid_rate=invalid_rate, best_published=best_published, is_control=is_control)
    environment.globals["swatch"] = lambda system: colour(system, model) + 1
    page = environment.get_template("report.html.jinja").render(context)
    with new_file(recipe.out.with_suffix(".md"), overwrite=True) as file:
        losses = context["pretrain"]["losses"] if recipe.pretrain else None
        file.write_text(as_markdown(recipe.title, recipe.simulated_note, metrics, losses, retention), encoding="utf-8")
    inputs = {name: fingerprint(path) for name in ("metrics", "records", "predictions") if (path := getattr(recipe, name)) is not None}
    with new_file(recipe.out, overwrite=overwrite) as file:
        file.write_text(page, encoding="utf-8")
        write_manifest(recipe.out, "report", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"tasks": len(metrics["tasks"])})


def _decimal(number: float, sign: str = "") -> str:
    """Three decimals with a typographic minus."""
    return f"{number:{sign}.3f}".replace("-", "−")


def _json(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that writes it, or leave its folder out of the report")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); run the stage that writes it again") from None


def _pretrain(folder: Path) -> dict[str, Any]:
    from markupsafe import Markup

    from eval.show.plots import Curve, curves

    losses, history = _json(folder / "losses.json"), list(read_lines(folder / "history.jsonl"))
    steps, values = _thin([(line["step"], line["loss"]) for line in history if "loss" in line])
    heldout = [line for line in history if "heldout" in line]
    lines = []
    whole = {name: after for name, after in losses["after"].items() if "/" not in name}  # the sources of a modality stand in the table
    for colour, (name, after) in enumerate(whole.items()):
        points = [(line["step"], line["heldout"][name]) for line in heldout if name in line["heldout"]]
        if points:
            xs, ys = _thin(points)
            label = f"{MODALITIES.get(name, name)}, bits per {after['unit']}"
            lines.append(Curve(label, xs, ys, colour, markers=len(xs) < 40, bound=after["bound"]))
    return {
        "losses": losses,
        "loss_svg": Markup(curves([Curve("training loss", steps, values)], x="step", y="nats per token", alt="Training loss over steps"))
        if steps
        else None,
        "bits_svg": Markup(curves(lines, x="step", y="bits", alt="Held-out bits per letter over steps")) if lines else None,
    }


def _instruct(folder: Path) -> dict[str, Any]:
    from markupsafe import Markup

    from eval.show.plots import Curve, curves

    history = list(read_lines(folder / "history.jsonl"))
    train = [(line["step"], line["loss"]) for line in history if "loss" in line]
    dev = [(line["step"], line["eval_loss"]) for line in history if "eval_loss" in line]
    lines = [Curve("training loss", *_thin(train))] if train else []
    if dev:
        lines.append(Curve("dev loss", *_thin(dev), 1, markers=len(dev) < 40))
    if not lines:
        raise UserError(f"{folder / 'history.jsonl'}: holds neither loss nor eval_loss; is it the folder of instruction tuning?")
    svg = Markup(curves(lines, x="step", y="nats per answer token", alt="Instruction tuning loss over steps"))
    return {"svg": svg, "train": train, "dev": dev}


def _thin(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Steps and values, averaged in groups so that at most MOST_POINTS remain."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [group[-1][0] for group in groups], [sum(value for _, value in group) / len(group) for group in groups]


def _chats(recipe: ReportRecipe, metrics: dict[str, Any], model: str) -> dict[str, list[Any]]:
    from eval.show.chats import draw

    path = recipe.predictions / f"{model}.jsonl" if recipe.predictions else None
    if path is None or recipe.records is None or not path.is_file():
        return {}
    tasks = {task["task"] for task in metrics["tasks"]}
    records = {record["id"]: record for record in read_lines(recipe.records / "test.jsonl")}
    lines = by_task(read_lines(path))
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
        path = folder / MANIFEST if folder is not None else None
        if path is None or not path.is_file():
            continue
        manifest = _json(path)
        settings = manifest.get("recipe") or {}
        rows.append(
            {
                "name": name,
                **{key: manifest.get(key, "–") for key in ("stage", "created", "commit", "inputs")},
                "seed": settings.get("seed", "–"),
            }
        )
    return rows


def _repeated_inputs(records: Path) -> dict[str, int]:
    """Task -> test records whose very inputs also stand in train, where the records' manifest counts them."""
    path = records / MANIFEST
    counts = _json(path).get("counts", {}) if path.is_file() else {}
    found = {}
    for task, report in counts.items():
        repeated = report.get("inputs_also_in_train") if isinstance(report, dict) else None
        if repeated is not None and "test" in repeated:
            found[task] = repeated["test"]
    return found
