"""For every task card: records -> chat template -> tokens -> labels. Exactly the answer and the end-of-turn token are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from task_files import write_files

from artefacts.errors import Ledger
from artefacts.folder import read_manifest
from data_convert.tasks.cards import TASKS, load_card, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from instruct.tune.encode import encode
from instruct.tune.rows import PackedRows
from tokenizer.conversations import prompt_ids
from training.loss import IGNORED

IDS = sorted(path.relative_to(TASKS).with_suffix("").as_posix() for path in TASKS.rglob("*.yaml"))


@pytest.mark.parametrize("task", IDS)
def test_only_the_answer_is_trained_on(chatty: Any, tmp_path: Path, task: str) -> None:
    card = load_card(task)
    written = write_files(card, tmp_path)
    train = {"train": 4} if "train" in written else {}
    convert(TasksRecipe(out=tmp_path / "out", tasks=[TaskEntry.model_validate({"card": task, "source": tmp_path, **train})]))
    ((name, counts),) = read_manifest(tmp_path / "out", "tasks")["counts"].items()
    assert name.startswith(task)
    found = {split: (ledger["read"] - ledger.get("left_out", 0), ledger["written"]) for split, ledger in counts["files"].items()}
    assert found == {split: (n, n) for split, n in written.items()}
    (resolved,) = read_cards(tmp_path / "out")
    for split in counts["n"]:
        path = tmp_path / "out" / f"{split}.jsonl"
        records = read_records(path)
        assert records
        encoded = encode(chatty, path, 4096, Ledger())
        rows = PackedRows(encoded, [[number] for number in range(len(records))], None, chatty.pad_token_id)
        for record, row in zip(records, rows, strict=True):
            batch = rows.collate([row])
            ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
            before = prompt_ids(chatty, record["prompt"])
            assert ids[: len(before)] == before
            assert labels[: len(before)] == [IGNORED] * len(before)
            assert labels[len(before) :] == ids[len(before) :]
            assert labels.count(chatty.end_of_turn) == 1
            assert labels[-1] == chatty.end_of_turn
            answer = chatty.decode(labels[len(before) : -1]).strip()
            assert answer == record["completion"][0]["content"]
            assert record["choices"] == resolved.choices
            shown = record["prompt"][0]["content"]
            for item in record["inputs"]:
                assert f"<{item['modality']}>{item['letters']}</{item['modality']}>" in shown
            if resolved.list_choices and "{choices}" in card.prompts.eval:
                assert all(choice in shown for choice in record["choices"])
            if split != "train":
                assert record["prompt"][-1]["content"].startswith(card.prompts.eval.partition("{")[0])
