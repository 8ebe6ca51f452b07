"""README.md of an exported model: what it was made of, as far as the folders it came from are still there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from artefacts.folder import MANIFEST, read_noted
from data_convert.tasks.cards import read_cards
from training.model_readme import BITS, as_yaml, bits_rows, table, write_readme

FROM = ("model", "base", "adapter", "records", "shards", "tokenizer")
"""Fields of recipes that name the folder of an earlier stage."""
UNKNOWN: dict[str, Any] = {
    "stage": "not there any more, or not made by llama-gene",
    "created": "",
    "commit": "",
    "recipe": {},
    "counts": {},
}
"""What a card says of a folder without a manifest, or where a manifest leaves something out."""


def lineage(folder: Path, seen: set[Path] | None = None) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The folder and all it was made of, each with its manifest; None for one that is not there any more or never had any."""
    seen = set() if seen is None else seen
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    noted = read_noted(folder / MANIFEST)
    manifest = None if noted is None else UNKNOWN | noted
    yield folder, manifest
    recipe = (manifest or UNKNOWN)["recipe"]
    for name in FROM:
        if isinstance(recipe.get(name), str):
            yield from lineage(Path(recipe[name]), seen)


def write_export_readme(folder: Path, model: Path, name: str, parameters: int) -> None:
    """Write README.md of a model for others. The licence is left to who publishes it: that of the base holds, and those of the
    data are listed."""
    found = list(lineage(model))
    made = [
        (stage["stage"], path.name, stage["created"][:10], stage["commit"])
        for path, stage in ((path, manifest or UNKNOWN) for path, manifest in found)
    ]
    licence = (
        "The licence of the base model holds for these weights; the licences of the data are listed above where they are known. "
        "What is not listed is not known here."
    )
    write_readme(
        folder,
        name,
        f"A gene model of {parameters:,} parameters, made by llama-gene. Sequences go between tags: `<dna>ACGT</dna>`, "
        "`<rna>ACGU</rna>`, `<protein>MKWV</protein>`; the chat template is part of the tokenizer.",
        [
            ("How it was made", table(("stage", "folder", "made", "code"), made)),
            *(section for path, manifest in found if manifest is not None for section in _of_stage(path, manifest)),
            ("Licence", [licence]),
        ],
    )


def _of_stage(path: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The section of one stage of the lineage, where it has something to say."""
    stage, recipe = manifest["stage"], as_yaml(yaml.safe_dump(for_others(manifest["recipe"]), sort_keys=False))
    if stage == "tasks" and (path / "cards.json").is_file():
        tasks = [
            (
                card.title, f"{card.n.get('train', 0):,}", f"{card.n.get('test', 0):,}", card.split_note,
                card.source.name, card.source.licence or "not known", "yes" if card.simulated else "no",
            )
            for card in read_cards(path)
        ]  # fmt: skip
        yield "Tasks", table(("task", "train", "test", "split", "source", "licence", "simulated"), tasks)
    elif stage in ("adapter", "tuned"):
        yield "Tuning", [*_dev_losses(path), "", *recipe]
    elif stage == "pretrained":
        losses = path / "losses.json"
        measured = bits_rows(json.loads(losses.read_text(encoding="utf-8"))) if losses.is_file() else []
        yield "Pre-training", [*table(BITS, measured), "", *recipe]
    elif stage == "shards":
        notes = manifest["counts"].get("notes") or {}
        yield "Corpus", [*[f"- {name}: {count:,}" for name, count in notes.items()], "", *recipe]


def for_others(value: Any) -> Any:
    """A recipe or a manifest without the folders of this machine: an absolute path by its last name."""
    if isinstance(value, dict):
        return {key: for_others(item) for key, item in value.items()}
    if isinstance(value, list):
        return [for_others(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _dev_losses(folder: Path) -> list[str]:
    path = folder / "history.jsonl"
    by_step: dict[int, dict[str, float]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        line = json.loads(text)
        by_step.setdefault(line["step"], {}).update({name: line[name] for name in ("eval_loss", "eval_metric") if name in line})
    rows = [
        (step, *("" if name not in found else f"{found[name]:.4f}" for name in ("eval_loss", "eval_metric")))
        for step, found in by_step.items()
        if found
    ]
    return table(("step", "dev loss per answer token", "mean dev metric"), rows)
