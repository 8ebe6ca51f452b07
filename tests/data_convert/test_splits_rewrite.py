"""Records that change sides, of every card: byte for byte what the conversion writes for a row of that split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from task_files import write_files

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.splits.assign import MIXED, TURNED, leak_controlled
from data_convert.splits.audit import AuditRecipe, audit
from data_convert.splits.pool import SPLITS, read_pool
from data_convert.splits.rewrite import rewrite
from data_convert.tasks.cards import TASKS, load_card, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.records import RecordWriter, read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe

CARDS = sorted(path.relative_to(TASKS).with_suffix("").as_posix() for path in TASKS.rglob("*.yaml"))


def lines_of(folder: Path) -> list[tuple[str, str]]:
    """(split, line) in the order of the pool."""
    return [(split, line) for split in SPLITS for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)]


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("wording", ["held_out", "shared"])
def test_a_moved_record_is_what_the_conversion_would_have_written(tmp_path, name, wording):
    card = load_card(name)
    write_files(card, tmp_path / "data", rows=20)
    convert(TasksRecipe(out=tmp_path / "r", cards=[name], source=tmp_path / "data", wording=wording, seed=3))
    if not card.inputs:
        with pytest.raises(UserError, match="holds no record with a sequence, and sequences are compared here"):
            read_pool(tmp_path / "r")
        return
    pool = read_pool(tmp_path / "r")
    official = lines_of(tmp_path / "r")
    split = leak_controlled(pool, np.arange(pool.nodes), "join", 0)
    sides = {int(group): int(group) % 3 for group in split.group}  # every group somewhere, so that records of each side move
    moved_to = np.array([sides[int(split.group[pool.node[side]])] for side in pool.sides[:-1]])
    rewrite(pool, replace(split, split=moved_to), tmp_path / "r", tmp_path / "out", recipe={}, rule="shuffled")

    # the conversion's own reader and writer, from the file on; rows are named by the side that they come from
    (resolved,) = read_cards(tmp_path / "r")
    reader, writer = Reader(card, tmp_path / "data"), RecordWriter(resolved, wording, 3)
    files = [(split, file) for split, file in card.files.model_dump().items() if file is not None]
    examples = {(one.file, one.line): one for split, file in files for one in reader.read(file, TaskLedger(), split)}
    expected: dict[str, list[str]] = {name: [] for name in SPLITS}
    moves = set()
    for (before, line), side in zip(official, moved_to.tolist(), strict=True):
        file, _, number = json.loads(line)["source"].rpartition(":")
        example, after = examples[file, int(number)], SPLITS[side]
        row = example.row if after == before else f"{before}-{example.row}"
        expected[after] += [writer.line(record) for record in writer.records(replace(example, row=row), after)]
        moves.add((before, after))
    for split in SPLITS:
        assert (tmp_path / "out" / f"{split}.jsonl").read_text(encoding="utf-8") == "".join(expected[split])
        read_records(tmp_path / "out" / f"{split}.jsonl")
    assert any(before != after and "train" in (before, after) for before, after in moves) or card.files.train is None


def test_a_reverse_complement_stays_in_train_or_is_left_out(tmp_path):
    """Conversion adds them to train only, and evaluation asks once."""
    card = load_card("gue/tf_0")
    write_files(card, tmp_path / "data", rows=60)
    entry = TaskEntry(card=card.id, source=tmp_path / "data", reverse_complement=True)
    convert(TasksRecipe(out=tmp_path / "r", tasks=[entry]))
    audit(AuditRecipe(records=[tmp_path / "r"], write_split=tmp_path / "out"))
    (resolved,) = read_cards(tmp_path / "out")
    found = {split: [record["id"] for record in read_records(tmp_path / "out" / f"{split}.jsonl")] for split in SPLITS}
    assert resolved.n == {split: len(ids) for split, ids in found.items()}
    assert len(found["test"]) == len(found["dev"]) == 60, "twice as many train records do not make the others larger"
    assert not any(name.endswith("/rc") for split in ("dev", "test") for name in found[split])
    gone = sum("/train-" in name for split in ("dev", "test") for name in found[split])
    (ledger,) = read_manifest(tmp_path / "out")["counts"].values()
    assert ledger["rejected"] == gone > 0
    assert list(ledger["reasons"]) == [TURNED]
    assert f"{gone} records are left out: {TURNED}" in resolved.split_note
    assert MIXED not in resolved.split_note
