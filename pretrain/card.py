"""README.md of a model folder: what it was made of, and what its held-out losses are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artefacts.folder import read_manifest
from artefacts.recipe import dump
from pretrain.recipe import PretrainRecipe


def write_card(folder: Path, recipe: PretrainRecipe, losses: dict[str, Any]) -> None:
    """Write the card, from the recipe, the shards' manifest and the measured losses."""
    packed = read_manifest(recipe.shards, "shards")
    rows = [
        f"| {name} | {_bits(losses['before'][name])} | {_bits(value)} | {value['unit']} | {value['letters']:,} | {value['documents']:,} |"
        for name, value in losses["after"].items()
    ]
    data = [f"| {name} | {losses['blocks'].get(name, 0):,} | {counts['blocks']:,} |" for name, counts in packed["counts"]["train"].items()]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [llama-gene, dna, protein]",
        "---",
        f"# {recipe.out.name}",
        "",
        f"Continued pre-training of an extended LLaMA: {losses['parameters']:,} parameters, {losses['trained']:,} trained "
        f"(train: {recipe.train}, rows: {recipe.rows}), {losses['steps']:,} steps, {losses['tokens']:,} tokens with padding.",
        "",
        "## Held-out loss",
        "",
        f"Bits per letter on {losses['heldout_blocks_per_modality']} held-out blocks per modality, one run, seed {losses['seed']}. Tags "
        "and ends of documents do not count. `english` is a fixed text that was never trained on.",
        "",
        "| data | before | after | per | letters | documents |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "## Data",
        "",
        "| modality | blocks trained | blocks in the shards |",
        "|---|---|---|",
        *data,
        "",
        f"Shards packed {packed['created'][:10]} with tokenizer {packed['inputs']['tokenizer'][:12]}; fingerprints: `manifest.json`.",
        "",
        "## Recipe",
        "",
        "```yaml",
        dump(recipe).rstrip(),
        "```",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _bits(value: dict[str, Any]) -> str:
    return f"{value['bits_per_letter']:.3f}"
