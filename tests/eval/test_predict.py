"""`eval predict`: one valid line per record, in the records' order, for every kind of task."""

from __future__ import annotations

import math
import random
from pathlib import Path

import asked_records
import pytest
import torch
from asked_records import read, write
from transformers import AutoModelForCausalLM, AutoTokenizer

import data_convert.tasks.records
import llama_gene
from artefacts.errors import UserError
from artefacts.folder import read_manifest
from eval.ask.predict import predict
from eval.recipe import PredictRecipe
from tokenizer.conversations import answer_ids, prompt_ids

FIELDS = {"id", "task", "split", "kind", "gold", "choices", "logprobs", "label_tokens", "predicted", "text", "parsed", "status"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("records"), asked_records.records(4))


@pytest.fixture(scope="module")
def predictions(extended_folder: Path, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predictions") / "out"
    predict(PredictRecipe(model=extended_folder, records=records, out=out, batch_tokens=256, max_new_tokens=5))
    return out


def test_one_valid_line_per_record(predictions, records):
    given, found = read(records / "test.jsonl"), read(predictions / "llama-gene.jsonl")
    assert [line["id"] for line in found] == [line["id"] for line in given]
    for line, source in zip(found, given, strict=True):
        assert set(line) == FIELDS
        assert line["gold"] == source["label"]
        assert all(line[name] == source[name] for name in ("task", "split", "kind", "choices"))
        assert isinstance(line["text"], str)
        assert line["status"] in ("valid", "invalid", "refused")
        assert (line["parsed"] is None) == (line["status"] != "valid")
        if line["kind"] in ("text", "multilabel"):
            assert line["logprobs"] is None
            assert line["predicted"] == (line["text"] if line["kind"] == "text" else line["parsed"])
            continue
        assert len(line["logprobs"]) == len(line["choices"])
        assert all(math.isfinite(value) and value < 0 for value in line["logprobs"])
        if line["kind"] == "regression":
            weights = [math.exp(value - max(line["logprobs"])) for value in line["logprobs"]]
            expected = sum(w * float(c) for w, c in zip(weights, line["choices"], strict=True)) / sum(weights)
            assert 0.3 <= line["predicted"] <= 0.8
            assert line["predicted"] == pytest.approx(expected)
        else:
            assert line["predicted"] == line["choices"][line["logprobs"].index(max(line["logprobs"]))]
    assert read_manifest(predictions, "predictions")["counts"] == {"predictions": len(given)}


def test_logprobs_are_those_of_the_whole_answer(predictions, records, extended_folder):
    """End-of-turn token included, by a plain forward pass."""
    tokenizer, model = AutoTokenizer.from_pretrained(extended_folder), AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    for line, source in list(zip(read(predictions / "llama-gene.jsonl"), read(records / "test.jsonl"), strict=True))[:6]:
        prompt = prompt_ids(tokenizer, source["prompt"])
        for choice, value in zip(line["choices"] if line["logprobs"] else [], line["logprobs"] or [], strict=True):
            answer = answer_ids(tokenizer, source["prompt"], choice)
            assert line["label_tokens"][line["choices"].index(choice)] == len(answer)
            with torch.no_grad():
                logprobs_TV = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            expected = sum(logprobs_TV[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))
            assert value == pytest.approx(expected, abs=1e-3)


def test_batches_do_not_change_predictions(predictions, extended_folder, records, tmp_path):
    recipe = PredictRecipe(model=extended_folder, records=records, out=tmp_path / "out", batch_tokens=1, max_new_tokens=5, system="alone")
    predict(recipe)
    for line, other in zip(read(predictions / "llama-gene.jsonl"), read(tmp_path / "out" / "alone.jsonl"), strict=True):
        assert other["text"] == line["text"]
        assert other["logprobs"] == (line["logprobs"] and pytest.approx(line["logprobs"], abs=1e-3))


def test_pruning_keeps_the_label(extended_folder, tmp_path):
    """Of many labels the likeliest is the same and lengths are left out, since some are bounds; a grid of numbers is read whole."""
    draw = random.Random(0)
    many = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(30)]
    numbers = [f"{place / 50:.2f}" for place in range(50)]
    lines = []
    for kind, names in (("multiclass", many), ("regression", numbers)):
        answer = {"completion": [{"role": "assistant", "content": names[0]}], "choices": names}
        label = names[0] if kind == "multiclass" else float(names[0])
        lines += [{**asked_records.record(kind, number, draw), **answer, "label": label} for number in range(3)]
    folder, found = write(tmp_path / "records", lines), {}
    for name, nats in (("whole", None), ("pruned", 0.01)):
        out = tmp_path / name
        predict(PredictRecipe(model=extended_folder, records=folder, out=out, max_new_tokens=5, prune_nats=nats))
        found[name] = read(out / "llama-gene.jsonl")
        assert read_manifest(out, "predictions")["recipe"]["prune_nats"] == nats
    changed = False
    for whole, pruned in zip(found["whole"], found["pruned"], strict=True):
        assert (pruned["predicted"], pruned["text"]) == (whole["predicted"], whole["text"])
        if whole["kind"] == "regression":
            assert pruned == whole
        else:
            assert pruned["label_tokens"] is None
            assert whole["label_tokens"]
            changed |= pruned["logprobs"] != whole["logprobs"]
    assert changed


def test_refusals(extended_folder, records, tmp_path):
    with pytest.raises(UserError, match="no such model"):
        predict(PredictRecipe(model=tmp_path / "absent", records=records, out=tmp_path / "out"))
    with pytest.raises(UserError, match="no such records"):
        predict(PredictRecipe(model=extended_folder, records=records, out=tmp_path / "out", split="dev"))
    assert not (tmp_path / "out").exists()


def test_the_command_reads_the_records_once(extended_folder, records, tmp_path, monkeypatch):
    """They were read twice: by the command for a check, whose result it threw away, and by the work."""
    read_files = []
    original = data_convert.tasks.records.each_record
    monkeypatch.setattr(data_convert.tasks.records, "each_record", lambda path: read_files.append(path) or original(path))
    line = [
        "eval",
        "predict",
        "--model",
        str(extended_folder),
        "--records",
        str(records),
        "--out",
        str(tmp_path / "out"),
        "--max-new-tokens",
        "2",
    ]
    assert llama_gene.main(line) == 0
    assert read_files == [records / "test.jsonl"]
