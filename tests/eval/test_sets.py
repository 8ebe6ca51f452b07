"""Answers that are sets: strict reading, exact match and micro-F1, and the way from task files to a score."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from artefacts.errors import UserError
from data_convert.tasks.convert import convert
from data_convert.tasks.parse import Parsed, parse_items
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from eval.ask.predict import predict
from eval.baselines.run import BaselinesRecipe, run
from eval.judge.answers import Answers, statistic, value
from eval.judge.score import score
from eval.recipe import PredictRecipe

NAMES = ["ATP binding", "DNA binding", "binding, of RNA", "none of these"]


@pytest.mark.parametrize(
    ("text", "choices", "wanted"),
    [
        ("ATP binding; DNA binding", [], ["ATP binding", "DNA binding"]),
        (" ATP binding ;DNA binding. ", [], ["ATP binding", "DNA binding"]),
        ("binding, of RNA; binding, of RNA", [], ["binding, of RNA"]),
        ("atp BINDING", NAMES, ["ATP binding"]),
        ("DNA binding; ATP binding", NAMES, ["DNA binding", "ATP binding"]),
        ("none", NAMES, []),
        ("None.", NAMES, []),
    ],
)
def test_items(text: str, choices: list[str], wanted: list[str]) -> None:
    assert parse_items(text, choices) == Parsed(wanted, "valid")


@pytest.mark.parametrize(
    ("text", "choices", "status"),
    [
        ("", [], "invalid"),
        (" ; ", [], "invalid"),
        ("ATP binding;; DNA binding", [], "invalid"),
        ("ATP binding;", [], "invalid"),
        ("I cannot tell", [], "refused"),
        ("ATP binding; magic", NAMES, "invalid"),
        ("ATP binding, DNA binding", NAMES, "invalid"),
        ("none; ATP binding", NAMES, "invalid"),
        ("no ATP binding", NAMES, "invalid"),
    ],
)
def test_what_is_no_set(text: str, choices: list[str], status: str) -> None:
    assert parse_items(text, choices) == Parsed(None, status)


sets = st.lists(st.sampled_from("abcde"), max_size=5)


@given(st.lists(st.tuples(sets, st.one_of(st.none(), sets)), min_size=1, max_size=30))
def test_micro_f1_is_that_of_scikit_learn(pairs: list[tuple[list[str], list[str] | None]]) -> None:
    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    answers = Answers("set", [], gold, predicted)
    binary = MultiLabelBinarizer(classes=list("abcde"))
    expected = f1_score(binary.fit_transform(gold), binary.transform([p or [] for p in predicted]), average="micro", zero_division=0)
    assert value("micro_f1", answers) == pytest.approx(expected)
    exact = [p is not None and set(g) == set(p) for g, p in pairs]
    assert value("set_match", answers) == pytest.approx(np.mean(exact))
    weights = np.array([[len(pairs)] + [0] * (len(pairs) - 1)])  # a resample is scored on its own rows
    assert statistic("micro_f1", answers)(weights)[0] == pytest.approx(value("micro_f1", Answers("set", [], gold[:1], predicted[:1])))


def card(folder: Path, name: str, **fields: Any) -> Path:
    path = folder / "toy" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    shared = {
        "id": f"toy/{name}",
        "version": 1,
        "title": name,
        "simulated": True,
        "source": {"name": "invented"},
        "format": "csv",
        "files": {"train": f"{name}.csv", "dev": f"{name}.csv", "test": f"{name}.csv"},
        "split_note": "the same rows three times",
        "inputs": [{"column": "seq", "modality": "dna", "name": "sequence"}],
        "label": "label",
        "label_evidence": "invented",
        "prompts": {"train": ["Name {sequence}"], "eval": "Name it: {sequence}"},
        "max_letters": 40,
        "crop": "refuse",
    }
    path.write_text(yaml.safe_dump({**shared, **fields}, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    cells = {
        "many": ['"[0,1]"', "[1]", "[]"],
        "items": ["ATP binding; DNA binding", "DNA binding; zinc; heme; iron; sulphur"],
        "long": ["0", "1", "2"],
    }
    draw = random.Random(0)
    for name, values in cells.items():
        rows = [f"{''.join(draw.choices('ACGT', k=30))},{values[number % len(values)]}" for number in range(12)]
        (folder / f"{name}.csv").write_text("\n".join(["seq,label", *rows]) + "\n", encoding="utf-8")
    (folder / "label.txt").write_text("label\ngenus Alba\ngenus Borea\ngenus Calix\n", encoding="utf-8")
    metrics = {"metrics": ["micro_f1", "set_match"], "primary_metric": "micro_f1"}
    labels = {index: {"name": name, "meaning": ""} for index, name in enumerate(["in", "out"])}
    classes = {"metrics": ["mcc", "auroc"], "primary_metric": "mcc", "label_file": "label.txt", "list_choices": False}
    cards = [
        card(folder, "many", kind="multilabel", labels=labels, **metrics),
        card(folder, "items", kind="set", **metrics),
        card(folder, "long", kind="multiclass", **classes),
    ]
    convert(TasksRecipe(out=folder / "records", tasks=[TaskEntry.model_validate({"card": str(path), "source": folder}) for path in cards]))
    return folder / "records"


def test_from_task_files_to_scores(records: Path, extended_folder: Path, tmp_path: Path) -> None:
    by_task = {record["task"]: record for record in read_records(records / "test.jsonl")[::-1]}
    assert (by_task["toy/many"]["label"], by_task["toy/many"]["completion"][0]["content"]) == (["in", "out"], "in; out")
    assert by_task["toy/long"]["choices"] == ["genus Alba", "genus Borea", "genus Calix"]
    predict(PredictRecipe(model=extended_folder, records=records, out=tmp_path / "predictions", max_new_tokens=5))
    lines = [json.loads(line) for line in (tmp_path / "predictions" / "llama-gene.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert (line["logprobs"] is None) == (line["task"] != "toy/long")
        if line["kind"] != "multiclass":
            assert line["predicted"] == line["parsed"]
    run(BaselinesRecipe(records=records, out=tmp_path / "baselines", systems=["majority", "kmer"]))
    document = score(records, [tmp_path / "predictions", tmp_path / "baselines"], tmp_path / "metrics.json", seed=0)
    found = {task["task"]: task["systems"] for task in document["tasks"]}
    # test is train here, so the nearest neighbour knows everything
    for task in ("toy/many", "toy/items"):
        assert {interval["value"] for interval in found[task]["kmer"]["metrics"].values()} == {1.0}
        assert list(found[task]["kmer"]["metrics"]) == ["micro_f1", "set_match", "fmax"]
        assert 0 < found[task]["majority"]["metrics"]["micro_f1"]["value"] < 1
    assert set(found["toy/long"]) == {"llama-gene", "majority", "kmer"}


def test_a_multilabel_record_outside_its_choices_is_refused(records: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (records / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    line = next(line for line in lines if line["task"] == "toy/many")
    line["label"] = ["elsewhere"]
    (tmp_path / "test.jsonl").write_text(json.dumps(line), encoding="utf-8")
    with pytest.raises(UserError, match="its label is not among its choices"):
        read_records(tmp_path / "test.jsonl")


def test_baselines_have_the_same_bytes_under_every_hash_seed(records: Path, tmp_path: Path) -> None:
    """Items of equal share were in the order of a set, which is another one in each process."""
    found = []
    for seed in "123":
        words = ["eval", "baselines", "--records", str(records), "--out", str(tmp_path / seed), "systems=[majority, kmer, nearest]"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-P", "-m", "llama_gene", *words], env=environment, check=True, capture_output=True)
        found.append({path.name: path.read_bytes() for path in sorted((tmp_path / seed).glob("*.jsonl"))})
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]
