"""`eval predict`: one valid line per record, in the records' order, for every kind of task."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.conversations import answer_ids, prompt_ids
from eval.predict import predict
from eval.recipe import PredictRecipe

KINDS: dict[str, list[str]] = {
    "binary": ["promoter", "background"],
    "multiclass": ["donor", "acceptor", "neither of them"],
    "regression": [f"{step / 10:.1f}" for step in range(3, 9)],
    "text": [],
}
FIELDS = {"id", "task", "split", "kind", "gold", "choices", "logprobs", "predicted", "text", "parsed", "status"}


def record(kind: str, number: int, draw: random.Random) -> dict[str, Any]:
    letters = "".join(draw.choices("ACGT", k=draw.randint(5, 60)))
    answer = draw.choice(KINDS[kind] or ["Binds ATP.", "Cleaves DNA."])
    return {
        "id": f"{kind}/{number}",
        "task": kind,
        "split": "test",
        "kind": kind,
        "prompt": [{"role": "user", "content": f"What is <dna>{letters}</dna>?"}],
        "completion": [{"role": "assistant", "content": answer}],
        "label": 0.42 if kind == "regression" else answer,
        "choices": KINDS[kind],
        "inputs": [{"name": "sequence", "modality": "dna", "letters": letters}],
        "source": "invented",
    }


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    draw = random.Random(2)
    lines = [record(kind, number, draw) for number in range(5) for kind in KINDS]  # tasks take turns: order must be restored
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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
        if line["kind"] == "text":
            assert line["logprobs"] is None
            assert line["predicted"] == line["text"]
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
        for choice, value in zip(line["choices"], line["logprobs"] or [], strict=True):
            answer = answer_ids(tokenizer, source["prompt"], choice)
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


def test_refusals(extended_folder, records, tmp_path):
    with pytest.raises(UserError, match="no such model"):
        predict(PredictRecipe(model=tmp_path / "absent", records=records, out=tmp_path / "out"))
    with pytest.raises(UserError, match="no such records"):
        predict(PredictRecipe(model=extended_folder, records=records, out=tmp_path / "out", split="dev"))
    assert not (tmp_path / "out").exists()
