"""Tiny records of two tasks, and bases to tune on them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_convert.corpus.pack import PackRecipe, Source, pack
from data_convert.tasks.cards import load_card
from instruct.tune.recipe import InstructRecipe
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base

TASKS = ("sim/promoter", "sim/stability")


def record(task: str, split: str, number: int, draw: random.Random) -> dict[str, Any]:
    """A promoter starts with TATAAT; a protein is as stable as it has K."""
    card = load_card(task)
    if task == "sim/promoter":
        answer = ("promoter", "background")[number % 2]
        letters = ("TATAAT" if answer == "promoter" else "GCGCGC") + "".join(draw.choices("ACGT", k=draw.randint(4, 20)))
        modality = "dna"
    else:
        charged = draw.randint(0, 20)
        answer, modality = f"{charged / 20:.2f}", "protein"
        letters = "K" * charged + "L" * (20 - charged)
    return {
        "id": f"{task}/{split}/{number}",
        "task": task,
        "split": split,
        "kind": card.kind,
        "prompt": [{"role": "user", "content": f"Which? <{modality}>{letters}</{modality}>"}],
        "completion": [{"role": "assistant", "content": answer}],
        "label": answer,
        "choices": card.choices,
        "inputs": [{"name": "sequence", "modality": modality, "letters": letters}],
        "source": "invented",
    }


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 train records, three quarters of them of one task, and 16 dev records."""
    folder = tmp_path_factory.mktemp("records")
    draw = random.Random(3)
    for split, sizes in (("train", (24, 8)), ("dev", (8, 8))):
        lines = [record(task, split, number, draw) for task, size in zip(TASKS, sizes, strict=True) for number in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "cards.json").write_text(json.dumps([load_card(task).model_dump(mode="json") for task in TASKS]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tied_folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path, extended_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("tied")
    create_base(
        CreateBase(
            out=folder / "base",
            text=[text_file],
            vocab_size=400,
            hidden_size=32,
            layers=2,
            heads=2,
            kv_heads=1,
            intermediate_size=64,
            tied=True,
        )
    )
    genes = extended_folder.parent
    extend_base(Extend(base=folder / "base", dna=genes / "dna.json", protein=genes / "protein.json", out=folder / "extended"))
    return folder / "extended"


@pytest.fixture(scope="session")
def text_shards(tmp_path_factory: pytest.TempPathFactory, text_file: Path, extended_folder: Path) -> Path:
    """Blocks of English and of a little DNA."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "dna.fa").write_text("".join(f">{number}\n{'ACGGT' * 40}\n" for number in range(9)))
    sources = [Source(modality="text", files=[text_file], heldout_share=0.1), Source(modality="dna", files=[folder / "dna.fa"])]
    pack(PackRecipe(tokenizer=extended_folder, out=folder / "shards", block_tokens=256, sources=sources))
    return folder / "shards"


@pytest.fixture(scope="session")
def make_tuning(extended_folder: Path, records: Path) -> Callable[..., InstructRecipe]:
    """A recipe of 16 steps for the tiny records: `make_tuning(out, rows="all")`."""

    def make(out: Path, **more: Any) -> InstructRecipe:
        values: dict[str, Any] = {"model": extended_folder, "records": records, "out": out, "epochs": 4, "micro_batch": 8}
        values |= {"lora": {"rank": 4, "alpha": 8, "dropout": 0}, "learning_rate": 2e-2, "max_tokens": 128}
        values |= {"log_every": 1, "evaluate_every": 8, "save_every": 100}
        return InstructRecipe(**{**values, **more})

    return make
