"""`llama-gene convert audit`: leakage of the official split, a leak-controlled split beside it, and what is left there."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, manifest_path, new_folder, read_noted, write_manifest
from data_convert.splits.assign import Split, leak_controlled
from data_convert.splits.contain import contained
from data_convert.splits.grouping import Grouping
from data_convert.splits.leakage import summary, twins
from data_convert.splits.mmseqs import mmseqs_pairs
from data_convert.splits.near import join_near
from data_convert.splits.pool import DEV, SPLITS, TEST, Ints, Pool, pool_of, read_pool
from data_convert.splits.register import in_register
from data_convert.splits.residual import BINS, Nearest, described, nearest
from data_convert.splits.union import Parents
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.examples import Example

STAGE = "audit"
MOST_MENDS = 8
"""Rounds of joining what the measurement still finds alike."""


class AuditRecipe(Grouping):
    """Leakage of the official split of a records folder, and a leak-controlled split beside it."""

    WRITES = ("out", "write_split")
    records: list[Path] = Field(min_length=1)
    """Folders of `convert tasks`; of several, what the tasks of one share with those of another is counted too."""
    out: Path | None = None
    """Folder for audit.json, audit.md and audit.html; without it the tables are only printed."""
    write_split: Path | None = None
    """Folder for the leak-controlled records, of the same format as the official ones."""
    measure: int | None = Field(None, ge=1)
    """Sequences per task and split whose residual identity is measured (null: all; then pairs still found alike are mended)."""
    seed: int = 0


def audit(recipe: AuditRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Audit, print, and write what the recipe asks for; returns what audit.json holds.

    Raises:
        UserError: an output exists, `records` are no folders of records, or a split of several is to be written.
    """
    from data_convert.splits.page import tables, write_page
    from data_convert.splits.rewrite import rewrite

    records = recipe.records[0]
    if recipe.write_split is not None and len(recipe.records) > 1:
        raise UserError(
            f"{recipe.write_split}: a split is written of one folder; convert the tasks of all into one, or leave write_split out"
        )
    if recipe.write_split is not None and recipe.write_split.resolve() == records.resolve():
        raise UserError(f"{records}: the leak-controlled split goes beside the official one, not over it; choose another write_split")
    made = recipe.model_dump(mode="json")
    written = _is_between(recipe, made)
    for out in (recipe.out, None if written else recipe.write_split):
        if out is not None:
            check_absent(out, overwrite, recipe.records)
    pool = read_pool(*recipe.records)
    pairs, cluster = clusters(pool, recipe)
    found, split, left = mended(pool, cluster, recipe, recipe.seed, recipe.measure)
    official = nearest(pool, pool.split, TEST, recipe.measure, recipe.seed, recipe.clusters)
    where = "folder" if len(recipe.records) == 1 else "folders"
    rule = f"leak-controlled split over all tasks of the {where}: {recipe.rule}, seed {recipe.seed}"
    ways = twins(pool, pairs, found)
    rows = np.unique(split.group[pool.node], return_counts=True)[1]
    document = {
        "records": {name: int((pool.split == side).sum()) for side, name in enumerate(SPLITS)},
        "without_sequence": pool.plain,
        "tasks": [card.id for card in pool.cards],
        "sequences": {space.alphabet.name: len(space) for space in pool.spaces},
        "settings": recipe.model_dump(mode="json", exclude={"records", "out", "write_split"}),
        "leakage": {"official": summary(pool, pool.split, ways), "leak_controlled": summary(pool, split.split, ways)},
        "in_register": {"official": in_register(pool, pool.split, pairs), "leak_controlled": in_register(pool, split.split, pairs)},
        "residual": {
            "edges": BINS.tolist(),
            "official": described(pool, pool.split, TEST, official),
            "leak_controlled": {SPLITS[side]: described(pool, split.split, side, left[side]) for side in (TEST, DEV)},
        },
        "split": {"rule": rule, "tasks": split.report, "notes": {task: notes for task, notes in split.notes.items() if notes}},
        "groups": {"groups": len(rows), "largest": np.sort(rows)[::-1][:10].tolist(), "sides": len(pool.node)},
    }
    text = tables(document)
    print(text)
    if recipe.write_split is not None and not written:
        rewrite(pool, split, records, recipe.write_split, recipe=made, rule=rule, overwrite=overwrite)
        print(f"records: {recipe.write_split}")
    if recipe.out is not None:
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            (folder / "audit.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (folder / "audit.md").write_text(text, encoding="utf-8")
            write_page(document, folder / "audit.html")
            counts = {"records": document["records"], "sequences": document["sequences"]}
            write_manifest(folder, STAGE, recipe=made, inputs={"records": fingerprint(*recipe.records)}, counts=counts)
        print(f"page: {recipe.out / 'audit.html'}")
    return document


def _is_between(recipe: AuditRecipe, made: dict[str, Any]) -> bool:
    """Whether a run of this very recipe, over these records, was stopped between its two outputs."""
    if recipe.write_split is None or recipe.out is None or recipe.out.exists():
        return False
    noted = read_noted(manifest_path(recipe.write_split))
    return isinstance(noted, dict) and noted.get("recipe") == made and noted.get("inputs") == {"records": fingerprint(recipe.records[0])}


def clusters(pool: Pool, how: Grouping) -> tuple[Ints, Ints]:
    """([places, 4] of `contained`, [nodes] clusters of near duplicates with these joined)."""
    pairs = np.concatenate([contained(space) for space in pool.spaces])
    parents = Parents(pool.nodes)
    parents.join(pairs[:, :2])
    for space in pool.spaces:
        least = how.least(space.alphabet.name)
        if how.clusters == "mmseqs":
            parents.join(mmseqs_pairs(space, least))
        else:
            join_near(space, parents, least)
    return pairs, parents.roots()


def mended(pool: Pool, cluster: Ints, how: Grouping, seed: int, measure: int | None = None) -> tuple[Ints, Split, dict[int, Nearest]]:
    """Split, measure, and where a test or dev sequence still is as alike as a near duplicate, join the two and split again.

    Args:
        measure: sequences per task and side that are measured (None: all; then what is still alike is mended).

    Returns:
        clusters with what was joined, the split, and per side (dev, test) what the last measurement found.
    """
    parents = Parents(pool.nodes)
    parents.join(np.stack([cluster, np.arange(pool.nodes)], axis=1))
    least = np.concatenate([np.full(len(space), how.least(space.alphabet.name)) for space in pool.spaces])
    for turn in range(MOST_MENDS + 1):
        found = parents.roots()
        split = leak_controlled(pool, found, how.pairs, seed)
        left = {side: nearest(pool, split.split, side, measure, seed, how.clusters) for side in (TEST, DEV)}
        alike = [np.stack([one.node, one.target], axis=1)[one.identity >= least[one.node]] for one in left.values()]
        again = np.concatenate(alike)
        if not len(again) or measure is not None or turn == MOST_MENDS:
            break
        parents.join(again)
    return found, split, left


def grouped_split(card: TaskCard, examples: Iterable[Example], split: Ints, how: Grouping, seed: int) -> Split:
    """A leak-controlled split of the rows of one file, for the `group` of `convert tasks`: no cluster stands on two sides.

    Args:
        split: [rows] 0 train, 1 dev, 2 test: the sizes and the balance of classes that the result follows.
    """
    modality = {item.name: item.modality for item in card.inputs}
    records = (
        (
            example.row,
            {
                "id": str(number),
                "task": card.id,
                "split": SPLITS[side],
                "label": example.label,
                "inputs": [{"name": name, "modality": modality[name], "letters": letters} for name, letters in example.inputs.items()]
                + example.found,
            },
        )
        for number, (example, side) in enumerate(zip(examples, split.tolist(), strict=True))
    )
    pool = pool_of([card], records)
    if pool.plain:
        n = sum(pool.plain[card.id].values())
        raise UserError(f"task {card.id}: {n:,} rows have no sequence, and sequences are compared for group; leave group out for this task")
    return mended(pool, clusters(pool, how)[1], how, seed)[1]
