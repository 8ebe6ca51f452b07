"""Which rows go where: parts add up, nothing is repeated, classes come out even, and the seed decides everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_files import write_files
from test_cards import write

from artefacts.errors import UserError
from artefacts.folder import fingerprint, read_manifest
from data_convert.tasks.cards import load_card, read_cards
from data_convert.tasks.convert import convert, summary
from data_convert.tasks.mixing import Mix, allot, balanced_size, cut, draw, shares
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from llama_gene import main

ROOT = Path(__file__).parents[2]


@given(wanted=st.integers(0, 500), parts=st.lists(st.tuples(st.integers(0, 100), st.floats(0.01, 50)), min_size=1, max_size=8))
def test_an_allotment_adds_up_and_stays_in_bounds(wanted, parts):
    available, weights = [count for count, _ in parts], [weight for _, weight in parts]
    given_parts = allot(wanted, available, weights)
    assert sum(given_parts) == min(wanted, sum(available))
    assert all(0 <= part <= count for part, count in zip(given_parts, available, strict=True))
    for part, count, weight in zip(given_parts, available, weights, strict=True):
        for other, most, heavier in zip(given_parts, available, weights, strict=True):
            if part < count and other < most:  # both could give more, so neither is favoured by more than a fraction of a row
                assert part / weight <= (other + 1) / heavier + 1e-6 or other / heavier <= (part + 1) / weight + 1e-6


def test_temperature():
    assert shares(Mix(records=110), [1000, 100]) == [100, 10]
    assert shares(Mix(records=110, temperature=2), [1000, 100]) == [84, 26]  # 1 : 10^-0.5
    assert shares(Mix(records=110, temperature=1e9), [1000, 100]) == [55, 55]
    assert shares(Mix(records=500, temperature=1e9), [1000, 100]) == [400, 100]
    assert shares(Mix(records=5000), [1000, 100]) == [1000, 100]


def test_equal_inputs_are_cut_to_the_same_side():
    rows, keys = np.arange(100), np.arange(100) // 4
    kept, taken = cut(rows, keys, 10, "dev", 0)
    assert len(taken) == 12
    assert sorted([*kept, *taken]) == list(rows)
    assert not set(keys[kept]) & set(keys[taken])
    assert list(taken) != list(cut(rows, keys, 10, "test", 0)[1]), "dev and test are not the same draw"


def test_classes_come_out_even():
    codes = np.array([0] * 70 + [1] * 20 + [2] * 10)
    rows = np.arange(100)
    assert balanced_size(rows, codes) == 30
    for wanted, counts in ((30, [10, 10, 10]), (45, [18, 17, 10]), (100, [70, 20, 10])):
        drawn = draw(rows, wanted, codes, [0])
        assert list(drawn) == sorted(set(drawn))
        assert np.bincount(codes[drawn]).tolist() == counts


def table(path: Path, rows: int, positives: int, bases: str = "ACGT") -> None:
    lines = ["seq,label"]
    for number in range(rows):
        letters = "".join(bases[number // 4**place % 4] for place in range(8))
        lines.append(f"{letters},{int(number < positives)}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    table(folder / "train.csv", 400, 40)
    table(folder / "test.csv", 20, 10)
    return folder


def run(tmp_path: Path, card: Path, source: Path, **entry) -> tuple[list[dict], dict]:
    mix = entry.pop("mix", None)
    convert(TasksRecipe(out=tmp_path / "out", tasks=[TaskEntry(card=str(card), source=source, **entry)], mix=mix), overwrite=True)
    records = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    return records, read_manifest(tmp_path / "out")["counts"]["x/toy"]


def test_balance_and_caps_from_the_recipe(tmp_path, source):
    card = write(tmp_path)
    records, counts = run(tmp_path, card, source, dev=40)
    assert counts["classes"]["train"] == dict(Counter(record["label"] for record in records))
    few = counts["classes"]["train"]["on"]
    _, counts = run(tmp_path, card, source, dev=40, balance=True)
    assert counts["classes"]["train"] == {"off": few, "on": few}
    _, counts = run(tmp_path, card, source, dev=40, balance=True, train=20)
    assert counts["classes"]["train"] == {"off": 10, "on": 10}
    assert "classes balanced" in read_cards(tmp_path / "out")[0].split_note
    records, counts = run(tmp_path, card, source, dev=40, balance=True, mix=Mix(records=12))
    assert counts["classes"]["train"] == {"off": 6, "on": 6}
    assert len(records) == 12
    grid = {"low": 0, "high": 1, "step": 0.5}
    metrics = {"metrics": ["mae"], "primary_metric": "mae", "prompts": {"train": ["{sequence}!"], "eval": "{sequence}?"}}
    regression = write(tmp_path, kind="regression", labels=None, grid=grid, **metrics)
    with pytest.raises(UserError, match="'balance' is for classes"):
        run(tmp_path, regression, source, balance=True)


def test_reverse_complements_only_where_the_card_allows_them(tmp_path, source):
    with pytest.raises(UserError, match="not known to be the same for the reverse complement"):
        run(tmp_path, write(tmp_path), source, reverse_complement=True)
    records, counts = run(tmp_path, write(tmp_path, strand_symmetric=True), source, dev=40, reverse_complement=True)
    assert len(records) == counts["n"]["train"] == 720
    assert counts["n"]["dev"] == 40
    for one, other in zip(records[::2], records[1::2], strict=True):
        assert other["id"] == f"{one['id']}/rc"
        turned = one["inputs"][0]["letters"][::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert other["inputs"][0]["letters"] == turned
        assert f"<dna>{turned}</dna>" in other["prompt"][0]["content"]
        assert other["label"] == one["label"]


def test_test_rows_are_cut_where_there_is_no_test_file(tmp_path, source):
    card = write(tmp_path, files={"train": "train.csv"}, test_share=0.2)
    _, counts = run(tmp_path, card, source)
    assert counts["n"] == {"train": 280, "dev": 40, "test": 80}
    assert "test is 80 rows cut from train by seed 0" in read_cards(tmp_path / "out")[0].split_note
    ids = [json.loads(line)["source"] for split in ("train", "dev", "test") for line in (tmp_path / "out" / f"{split}.jsonl").open()]
    assert len(set(ids)) == 400


CARDS = ["gue/tf_0", "gue/covid", "lucaone/ppi", "lucaone/genus_tax", "uniprot/keywords"]


def test_cards_by_pattern_on_the_command_line(tmp_path, capsys):
    for name in CARDS:
        write_files(load_card(name), tmp_path)
    arguments = ["convert", "tasks", "--cards", "gue/tf_0,gue/cov*", "lucaone/ppi", "--source", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main(arguments) == 0
    assert [card.id for card in read_cards(tmp_path / "r")] == ["gue/covid", "gue/tf_0", "lucaone/ppi"]
    assert "lucaone/ppi                       train" in capsys.readouterr().out
    assert main([*arguments, "--overwrite", "cards=[gue/tf_*]"]) == 2
    assert "tf/1/train.csv: no such file" in capsys.readouterr().err
    assert main([*arguments, "missing=skip", "--overwrite", "cards=[gue/tf_*]"]) == 0
    assert "gue/tf_1                          no file is there: skipped" in capsys.readouterr().out
    assert [card.id for card in read_cards(tmp_path / "r")] == ["gue/tf_0"]
    assert main([*arguments, "missing=skip", "--overwrite", "cards=[gue/mouse_*]"]) == 2
    assert "not one file of gue/mouse_* lies here" in capsys.readouterr().err
    (tmp_path / "gue/tf/0/dev.csv").unlink()
    assert main([*arguments, "missing=skip", "--overwrite", "cards=[gue/tf_0]"]) == 0
    (card,) = read_cards(tmp_path / "r")
    assert "no dev file was there" in card.split_note
    assert "dev" not in card.n, "train is not cut where the benchmark has a dev file that is missing here"
    assert main(["convert", "tasks", "--cards", "gue/*", "--out", str(tmp_path / "s")]) == 2
    assert "source: name the folder" in capsys.readouterr().err


def test_the_same_bytes_whatever_the_hash_seed(tmp_path):
    for name in CARDS:
        write_files(load_card(name), tmp_path)
    prints = set()
    for hash_seed in ("0", "1", "2"):
        out = tmp_path / f"out{hash_seed}"
        words = ["--cards", *CARDS, "--source", str(tmp_path), "--out", str(out), "mix={records: 30, temperature: 3}"]
        command = [sys.executable, "-m", "llama_gene", "convert", "tasks", *words]
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True
        )
        prints.add(fingerprint(out))
    assert len(prints) == 1


def test_token_lengths_are_reported(tmp_path, source, extended_folder, capsys):
    card = write(tmp_path)
    convert(TasksRecipe(out=tmp_path / "out", tasks=[TaskEntry(card=str(card), source=source)], tokenizer=extended_folder))
    tokens = read_manifest(tmp_path / "out")["counts"]["x/toy"]["tokens"]
    assert {split: part["n"] for split, part in tokens.items()} == {"train": 360, "dev": 40, "test": 20}
    from transformers import AutoTokenizer

    from tokenizer.conversations import conversations

    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    records = [json.loads(line) for line in (tmp_path / "out" / "test.jsonl").open()]
    pairs = conversations(tokenizer, [r["prompt"] for r in records], [r["completion"][0]["content"] for r in records])
    assert tokens["test"]["prompt"]["most"] == max(len(prompt) for prompt, _ in pairs)
    assert tokens["test"]["answer"]["most"] == max(len(answer) for _, answer in pairs)
    assert "tokens in 360 train records: prompt median" in summary(tmp_path / "out")


def test_records_without_choices_get_them_from_the_card(tmp_path):
    card = load_card("lucaone/genus_tax")
    write_files(card, tmp_path)
    convert(TasksRecipe(out=tmp_path / "out", cards=[card.id], source=tmp_path))
    raw = [json.loads(line) for line in (tmp_path / "out" / "test.jsonl").open()]
    assert all("choices" not in record for record in raw)
    from data_convert.tasks.records import read_records

    records = read_records(tmp_path / "out" / "test.jsonl")
    assert {tuple(record["choices"]) for record in records} == {tuple(f"Class no. {index}" for index in range(5))}
    (tmp_path / "out" / "cards.json").unlink()
    with pytest.raises(UserError, match=r"no cards\.json"):
        read_records(tmp_path / "out" / "test.jsonl")
