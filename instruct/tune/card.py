"""README.md of an exported model: what it was made of, as far as the folders it came from are still there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from artefacts.folder import MANIFEST
from data_convert.cards import read_cards

FROM = ("model", "base", "adapter", "records", "shards", "tokenizer")
"""Fields of recipes that name the folder of an earlier stage."""


def lineage(folder: Path, seen: set[Path] | None = None) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The folder and all it was made of, each with its manifest; None for one that is not there any more or never had any."""
    seen = set() if seen is None else seen
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    yield folder, manifest
    recipe = (manifest or {}).get("recipe", {})
    for name in FROM:
        if isinstance(recipe.get(name), str):
            yield from lineage(Path(recipe[name]), seen)


def write_card(folder: Path, model: Path, name: str, parameters: int) -> None:
    """Write the card. The licence is left to who publishes it: that of the base holds, and those of the data are listed."""
    found = list(lineage(model))
    lines = [
        "---",
        "library_name: transformers",
        "tags: [llama-gene, dna, protein]",
        "---",
        f"# {name}",
        "",
        f"A gene model of {parameters:,} parameters, made by llama-gene. Sequences go between tags: `<dna>ACGT</dna>`, `<rna>ACGU</rna>`, "
        "`<protein>MKWV</protein>`; the chat template is part of the tokenizer.",
        "",
        "## How it was made",
        "",
        "| stage | folder | made | code |",
        "|---|---|---|---|",
    ]
    for path, manifest in found:
        stage = manifest or {"stage": "not there any more, or not made by llama-gene", "created": "", "commit": ""}
        lines.append(f"| {stage['stage']} | {path.name} | {stage['created'][:10]} | {stage['commit']} |")
    for path, manifest in found:
        lines += _of_stage(path, manifest) if manifest is not None else []
    lines += [
        "",
        "## Licence",
        "",
        "The licence of the base model holds for these weights; the licences of the data are listed above where they are known. What is "
        "not listed is not known here.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_stage(path: Path, manifest: dict[str, Any]) -> list[str]:
    stage, recipe = manifest["stage"], yaml.safe_dump(manifest["recipe"], sort_keys=False).rstrip()
    if stage == "tasks" and (path / "cards.json").is_file():
        lines = ["", "## Tasks", "", "| task | train | test | split | source | licence | simulated |", "|---|---|---|---|---|---|---|"]
        for card in read_cards(path):
            cells = [card.title, f"{card.n.get('train', 0):,}", f"{card.n.get('test', 0):,}", card.split_note]
            cells += [card.source.name, card.source.licence or "not known", "yes" if card.simulated else "no"]
            lines.append(f"| {' | '.join(cells)} |")
        return lines
    if stage in ("adapter", "tuned"):
        return ["", "## Tuning", "", *_losses(path), "", "```yaml", recipe, "```"]
    if stage == "pretrained":
        return ["", "## Pre-training", "", *_bits(path), "", "```yaml", recipe, "```"]
    if stage == "shards":
        notes = manifest["counts"].get("notes") or {}
        return ["", "## Corpus", "", *[f"- {name}: {count:,}" for name, count in notes.items()], "", "```yaml", recipe, "```"]
    return []


def _losses(folder: Path) -> list[str]:
    path = folder / "history.jsonl"
    history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    lines: list[str] = ["| step | dev loss per answer token | mean dev metric |", "|---|---|---|"]
    by_step: dict[int, dict[str, float]] = {}
    for line in history:
        by_step.setdefault(line["step"], {}).update({name: line[name] for name in ("eval_loss", "eval_metric") if name in line})
    return lines + [
        f"| {step} | {_figure(found.get('eval_loss'))} | {_figure(found.get('eval_metric'))} |" for step, found in by_step.items() if found
    ]


def _bits(folder: Path) -> list[str]:
    path = folder / "losses.json"
    losses = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"before": {}, "after": {}}
    lines = ["| held-out data | bits before | bits after | per |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | {losses['before'][name]['bits_per_letter']:.3f} | {value['bits_per_letter']:.3f} | {value['unit']} |"
        for name, value in losses["after"].items()
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
