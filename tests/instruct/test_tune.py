"""A short LoRA run, its adapter read by plain PEFT, and its merge into tied and untied bases."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.checkpoints import NoLastCheckpoint, newest_complete
from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.conversations import prompt_ids
from instruct.merge import MergeRecipe, merge
from instruct.recipe import InstructRecipe
from instruct.tune import tune
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base

CHOICES = ["promoter", "background"]


def record(split: str, number: int, draw: random.Random) -> dict[str, Any]:
    label = CHOICES[number % 2]
    letters = ("TATAAT" if label == "promoter" else "GCGCGC") + "".join(draw.choices("ACGT", k=draw.randint(4, 20)))
    return {
        "id": f"tiny/{split}/{number}",
        "task": "tiny",
        "split": split,
        "kind": "binary",
        "prompt": [{"role": "user", "content": f"Which? <dna>{letters}</dna>"}],
        "completion": [{"role": "assistant", "content": label}],
        "label": label,
        "choices": CHOICES,
        "inputs": [{"name": "sequence", "modality": "dna", "letters": letters}],
        "source": "invented",
    }


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    draw = random.Random(3)
    for split, size in (("train", 32), ("dev", 8)):
        lines = [json.dumps(record(split, number, draw)) + "\n" for number in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module", params=["untied", "tied"])
def model_folder(request: pytest.FixtureRequest, extended_folder: Path) -> Path:
    return extended_folder if request.param == "untied" else request.getfixturevalue("tied_folder")


@pytest.fixture(scope="module", params=[False, True], ids=["adapter", "adapter+embeddings"])
def tuned(request: pytest.FixtureRequest, model_folder: Path, records: Path, tmp_path_factory: pytest.TempPathFactory):
    """(base, adapter, merged, whether the vocabulary matrices were trained)."""
    folder = tmp_path_factory.mktemp("tuned")
    tune(
        InstructRecipe(
            model=model_folder,
            records=records,
            out=folder / "adapter",
            rows="all" if request.param else "none",
            epochs=8,
            micro_batch=8,
            lora={"rank": 4, "alpha": 8, "dropout": 0},
            learning_rate=2e-2,
            log_every=1,
            evaluate_every=16,
            save_every=100,
        )
    )
    merge(MergeRecipe(model=model_folder, adapter=folder / "adapter", out=folder / "merged"))
    return model_folder, folder / "adapter", folder / "merged", request.param


def matrices(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def test_loss_falls_and_the_folder_is_complete(tuned):
    _, adapter, _, _ = tuned
    history = [json.loads(line) for line in (adapter / "history.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in history if "loss" in line]
    dev = {line["step"]: line["eval_loss"] for line in history if "eval_loss" in line}
    assert len(losses) == 32
    assert sum(losses[-3:]) < 0.96 * sum(losses[:3])
    assert list(dev) == [16, 32]
    assert dev[32] < dev[16]
    manifest = read_manifest(adapter, "adapter")
    assert manifest["counts"]["train"]["written"] == 32
    assert manifest["counts"]["steps"] == 32
    assert not [path for path in adapter.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert not [path for path in adapter.parent.iterdir() if "checkpoints" in path.name or "partial" in path.name]


def test_merged_logits_equal_the_adapters(tuned, records):
    base, adapter, merged, _ = tuned
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    message = json.loads((records / "dev.jsonl").read_text().splitlines()[0])["prompt"]
    ids = torch.tensor([prompt_ids(tokenizer, message)])
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    with torch.no_grad():
        untouched = plain(ids).logits
        # PEFT puts its layers into the model it is given, so the plain one is asked first
        adapted = PeftModel.from_pretrained(plain, str(adapter)).eval()(ids).logits
        joined = AutoModelForCausalLM.from_pretrained(merged).eval()(ids).logits
    assert (joined - adapted).abs().max() < 1e-5
    assert (joined - untouched).abs().max() > 1e-3
    assert prompt_ids(AutoTokenizer.from_pretrained(merged), message) == ids[0].tolist()


def test_vocabulary_matrices(tuned):
    """Both stay as they are, bit by bit, or both are trained; a tied model stays tied."""
    base, _, merged, trained = tuned
    before, after = AutoModelForCausalLM.from_pretrained(base), AutoModelForCausalLM.from_pretrained(merged)
    tied = before.config.tie_word_embeddings
    assert after.config.tie_word_embeddings == tied
    if tied:
        assert torch.equal(*matrices(after))
        assert sum(parameter.numel() for parameter in after.parameters()) == sum(parameter.numel() for parameter in before.parameters())
    for old, new in zip(matrices(before), matrices(after), strict=True):
        assert torch.equal(old, new) != trained


def test_a_stopped_run_continues(tuned, records, tmp_path, monkeypatch):
    """Stopped by an exception after a checkpoint; what follows repeats the uninterrupted run exactly."""
    _, whole, _, _ = tuned
    recipe = InstructRecipe(**{**read_manifest(whole, "adapter")["recipe"], "out": tmp_path / "adapter", "save_every": 10})

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 23:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NoLastCheckpoint, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(recipe)
    assert newest_complete(tmp_path / "adapter.checkpoints").name == "checkpoint-20"
    tune(recipe)
    assert (recipe.out / "history.jsonl").read_text() == (whole / "history.jsonl").read_text()
    assert (recipe.out / "adapter_model.safetensors").read_bytes() == (whole / "adapter_model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_too_few_rows_are_refused(extended_folder, records, tmp_path):
    shutil.copytree(extended_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((extended_folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": 405}))
    with pytest.raises(UserError, match=r"405 embedding rows for \d+ ids"):
        tune(InstructRecipe(model=tmp_path / "model", records=records, out=tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))
