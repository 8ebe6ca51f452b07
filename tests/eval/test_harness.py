"""Exported tasks: what is written, and that lm-evaluation-harness comes to our likelihoods with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked_records import of_cards, read
from transformers import AutoTokenizer

import llama_gene
from artefacts.errors import UserError
from artefacts.folder import read_manifest
from eval.ask.harness import export, written_behind
from eval.ask.predict import predict
from eval.recipe import ExportRecipe, PredictRecipe
from tokenizer.conversations import conversations

TASKS = ["sim/promoter", "sim/splice", "sim/gene_protein"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_cards(tmp_path_factory.mktemp("exported") / "records", [*TASKS, "sim/stability"], 12)


def test_choices_are_what_the_template_writes(chatty: Any) -> None:
    """For both families: the ids of prompt and choice joined are those that we score."""
    prompt = [{"role": "user", "content": "Which is <dna>ACGTACGT</dna>?"}]
    names = ["promoter", "promoter region", "background"]
    texts = written_behind(chatty, [{"id": "a", "prompt": prompt}], names)
    before = chatty.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    for text, (ids, answer) in zip(texts, conversations(chatty, [prompt] * 3, names), strict=True):
        assert chatty(before + text, add_special_tokens=False)["input_ids"] == ids + answer
        assert answer[-1] == chatty.end_of_turn


def test_files_and_refusals(asked: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert llama_gene.main(["eval", "export", "--records", str(asked), "--out", str(out)]) == 0
    assert "left out: sim/stability (regression tasks have no single right label)" in capsys.readouterr().out
    assert sorted(path.stem for path in out.glob("*.yaml")) == sorted(task.replace("/", "_") for task in TASKS)
    config = yaml.safe_load((out / "sim_splice.yaml").read_text(encoding="utf-8"))
    given = [record for record in read(asked / "test.jsonl") if record["task"] == "sim/splice"]
    assert config["doc_to_choice"] == given[0]["choices"], "the bare labels without a model"
    assert config["metadata"]["version"] == 1
    lines = read(out / "sim_splice.jsonl")
    assert [(line["id"], line["text"]) for line in lines] == [(record["id"], record["prompt"][0]["content"]) for record in given]
    assert [config["doc_to_choice"][line["label"]] for line in lines] == [record["label"] for record in given]
    assert read_manifest(out, "harness")["counts"]["left_out"] == {"sim/stability": "regression tasks have no single right label"}
    only = of_cards(tmp_path / "only", ["sim/stability"], 2)
    with pytest.raises(UserError, match="no task here can be exported: sim/stability"):
        export(ExportRecipe(records=only, out=tmp_path / "none"))
    own = AutoTokenizer.from_pretrained(model_folder)
    mark = "{{ '!' if 'GG' in messages[0]['content'] and m['role'] == 'assistant' else '' }}"
    own.chat_template = "{%- for m in messages %}{{ m['content'] }}" + mark + "{% endfor %}"
    with pytest.raises(UserError, match="writes its answers otherwise"):
        written_behind(own, [{"id": name, "prompt": [{"role": "user", "content": name}]} for name in ("AA", "GG")], ["x"])


def test_the_harness_agrees_with_us(asked: Path, model_folder: Path, tmp_path: Path) -> None:
    """The plain command, one process, three tasks: the same likelihoods up to what is common to all choices, the same accuracy."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (pip install 'llama-gene[harness]')")
    predict(PredictRecipe(model=model_folder, records=asked, out=tmp_path / "ours", greedy=False))
    export(ExportRecipe(records=asked, out=tmp_path / "tasks", model=model_folder))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "tasks").rename(tmp_path / "elsewhere" / "moved")
    assert not [path for path in moved.iterdir() if path.name != "manifest.json" and str(tmp_path) in path.read_text(encoding="utf-8")]
    command = ["--model", "hf", "--model_args", f"pretrained={model_folder},dtype=float32", "--include_path", moved]
    command += ["--tasks", "llama_gene", "--apply_chat_template", "--device", "cpu", "--batch_size", "8"]
    command += ["--log_samples", "--output_path", tmp_path / "theirs"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-m", "lm_eval", *map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = {line["id"]: line for line in read(tmp_path / "ours" / "llama-gene.jsonl")}
    results = json.loads(next((tmp_path / "theirs").rglob("results_*.json")).read_text(encoding="utf-8"))["results"]
    for task in TASKS:
        name = f"llama_gene_{task.replace('/', '_')}"
        samples = read(next((tmp_path / "theirs").rglob(f"samples_{name}_*.jsonl")))
        assert len(samples) == 12
        right, margins = 0, []
        for sample in samples:
            line = ours[sample["doc"]["id"]]
            theirs = [float(response[0][0]) for response in sample["resps"]]
            common = [a - b for a, b in zip(theirs, line["logprobs"], strict=True)]
            assert max(common) - min(common) < 1e-3
            assert max(range(len(theirs)), key=theirs.__getitem__) == line["choices"].index(line["predicted"])
            right += line["predicted"] == line["gold"]
            margins.append(theirs[0] - theirs[1])
        assert not [metric for metric in results[name] if metric.startswith("acc_norm")]
        assert results[name]["acc,none"] == pytest.approx(right / 12)
        assert max(margins) - min(margins) > 0.1, "a model that never looks at the record agrees with anything"
