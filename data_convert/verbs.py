"""Commands of data conversion: `llama-gene convert …`. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb


def _convert_fetch() -> Verb[Any]:
    from data_convert.fetch import FetchRecipe, fetch, preview

    return Verb(
        FetchRecipe,
        lambda recipe, overwrite: fetch(recipe, overwrite=overwrite),
        "Fetch public data: checksums verified, licences shown, broken downloads continued.",
        "llama-gene convert fetch swissprot --out data\nllama-gene convert fetch refseq:GCF_000005845.2 gue --out data",
        positional="sources",
        dry_run=preview,
        adds=True,
        shares=lambda recipe: True,  # each source has a folder of its own
    )


def _convert_simulate() -> Verb[Any]:
    from data_convert.simulate.organism import SimulateRecipe, simulate

    return Verb(
        SimulateRecipe,
        lambda recipe, overwrite: simulate(recipe, overwrite=overwrite),
        "Generate the simulated organism: genomes, proteins, text and tasks, from a seed.",
        "llama-gene convert simulate --out runs/organism --seed 0",
    )


def _convert_pack() -> Verb[Any]:
    from data_convert.pack import PackRecipe, pack

    return Verb(
        PackRecipe,
        lambda recipe, overwrite: pack(recipe, overwrite=overwrite),
        "Pack genomes, proteins and text into token shards with document boundaries.",
        "llama-gene convert pack --recipe configs/corpora/example.yaml --tokenizer runs/extended --out runs/shards",
        shares=lambda recipe: recipe.part not in (None, "merge"),  # each part has a folder of its own
    )


def _convert_tasks() -> Verb[Any]:
    from data_convert.task_recipe import TasksRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from data_convert.task_summary import summary
        from data_convert.tasks import convert

        convert(recipe, overwrite=overwrite)
        print(summary(recipe.out))

    return Verb(
        TasksRecipe,
        work,
        "Turn benchmark files into instruction records, as their task cards say.",
        "llama-gene convert tasks --cards 'gue/*,lucaone/ppi' --source DATA --out runs/records\n"
        "llama-gene convert tasks --out runs/records 'tasks=[{card: gue/splice, source: DATA, train: 5000}]'",
    )


def _convert_audit() -> Verb[Any]:
    from data_convert.splits.audit import AuditRecipe, audit

    return Verb(
        AuditRecipe,
        lambda recipe, overwrite: audit(recipe, overwrite=overwrite),
        "Leakage within and across tasks, and a leak-controlled split beside the official one (docs/splits.md).",
        "llama-gene convert audit runs/records --out runs/audit --write-split runs/records-controlled",
        positional="records",
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "convert fetch": ("fetch public data with licences and checksums", _convert_fetch),
    "convert simulate": ("generate the simulated organism", _convert_simulate),
    "convert pack": ("pack corpora into token shards", _convert_pack),
    "convert tasks": ("turn benchmarks into instruction records", _convert_tasks),
    "convert audit": ("leakage between splits, and a split without it", _convert_audit),
}
"""Command -> (one line for the overview, how to make it)."""
