"""The known leakage of GUE, on its real files. Skips, visibly, where they are not beside the checkout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_convert.splits.audit import AuditRecipe, audit, clusters
from data_convert.splits.contain import contained
from data_convert.splits.leakage import ANY
from data_convert.splits.pool import TEST, TRAIN, read_pool
from data_convert.splits.register import in_register
from data_convert.tasks.cards import load_card
from data_convert.tasks.convert import TaskEntry, TasksRecipe, convert

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def promoters(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Core promoters, and promoters of 300 bases by a card of this test: the copy of the data has no train file of them."""
    folder = tmp_path_factory.mktemp("promoters")
    card = load_card("gue/prom_core_all").model_dump(mode="json")
    card |= {"id": "scratch/prom_300_all", "max_letters": 300, "published": [], "n": {}, "split_note": "official dev and test; no train"}
    card["files"] = {split: f"gue/prom/prom_300_all/{split}.csv" for split in ("dev", "test")}
    path = folder / "scratch" / "prom_300_all.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    entries = [TaskEntry(card="gue/prom_core_all", source=shared_data), TaskEntry(card=str(path), source=shared_data)]
    convert(TasksRecipe(out=folder / "records", tasks=entries))
    return folder / "records"


def test_four_fifths_of_the_promoters_contain_a_core_promoter_of_train(promoters, shared_data):
    pool = read_pool(promoters)
    pairs = np.concatenate([contained(space) for space in pool.spaces])
    row = next(row for row in in_register(pool, pool.split, pairs) if row["test_task"] == "scratch/prom_300_all")
    assert (row["train_task"], row["longer"], row["offset"], row["n"]) == ("gue/prom_core_all", "test", 216, 5920)
    assert round(100 * row["records"] / row["n"], 1) == 79.9
    assert round(100 * row["equal"] / row["compared"], 1) == 99.8
    # without any code of the audit: same strand, any offset
    with (shared_data / "gue" / "prom" / "prom_core_all" / "train.csv").open() as handle:
        core = {line["sequence"] for line in csv.DictReader(handle)}
    tested = np.flatnonzero((pool.split == TEST) & (pool.task == 1))
    trained = np.flatnonzero((pool.split == TRAIN) & (pool.task == 0))
    spelled = {}
    for side in np.concatenate([tested, trained]):  # one input each: the side is the record
        spelled.setdefault(int(pool.node[side]), set()).add(int(pool.strand[side]))
    longer = {
        int(b)
        for a, b, _, turned in pairs
        if int(a) in spelled and int(b) in spelled and any(turned ^ x ^ y == 0 for x in spelled[int(a)] for y in spelled[int(b)])
    }
    with (shared_data / "gue" / "prom" / "prom_300_all" / "test.csv").open() as handle:
        by_hand = sum(any(s[i : i + 70] in core for i in range(231)) for s in (line["sequence"] for line in csv.DictReader(handle)))
    assert by_hand == 4779
    assert sum(int(node) in longer for node in pool.node[tested]) == by_hand


def test_the_leak_controlled_split_of_the_promoters_leaves_nothing(promoters, tmp_path):
    document = audit(AuditRecipe(records=[promoters], out=tmp_path / "audit"))
    official = {row["test_task"]: row for row in document["leakage"]["official"]["test against train"] if row["train_task"] == ANY}
    assert official["gue/prom_core_all"]["exact"]["records"] == 43
    assert official["scratch/prom_300_all"]["containment"]["records"] > 4779  # either strand
    assert all(rows == [] for rows in document["leakage"]["leak_controlled"].values())
    for side in ("test", "dev"):
        left = document["residual"]["leak_controlled"][side][0]
        assert left["measured"] == left["sequences"] > 5920
        assert left["most"] < 0.8
    core = next(row for row in document["split"]["tasks"] if row["task"] == "gue/prom_core_all")
    assert core["leak_controlled"] == core["official"]
    pool = read_pool(promoters)
    assert len(np.unique(clusters(pool, AuditRecipe(records=[promoters]))[1])) < pool.nodes
