"""Short tuning runs, every way, on tied and untied bases: what plain PEFT and transformers read, and which weights moved."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import data_convert.tasks.records
import llama_gene
from artefacts.errors import Ledger, UserError
from artefacts.folder import read_manifest
from artefacts.recipe import dump
from eval.ask.predict import predict
from eval.recipe import PredictRecipe
from instruct.tune.encode import encode
from instruct.tune.merge import MergeRecipe, merge
from instruct.tune.tune import tune
from instruct.tune.watch import dev_losses
from tokenizer.conversations import prompt_ids
from tokenizer.saving import new_ids
from training.loss import score_in_head

WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora-new-rows": {"rows": "new"},
    "lora-all-rows": {"rows": "all", "packing": True, "micro_batch": 2, "steps": 12},
    "dora": {"train": "dora", "loss_per": "record"},
    "bf16": {"precision": "bf16", "rows": "all", "metric_every": 10},
    "qlora": {"train": "qlora", "rows": "all", "precision": "bf16", "steps": 9},
    "all": {"train": "all", "rows": "all", "learning_rate": 3e-3, "loss_per": "task"},
    "all-new-rows": {"train": "all", "rows": "new", "learning_rate": 3e-3},
    "all-no-rows": {"train": "all", "rows": "none", "learning_rate": 3e-3},
}


class Tuned(NamedTuple):
    base: Path
    folder: Path
    plain: Path
    """Model folder: merged, or the folder itself."""
    way: dict[str, Any]


@pytest.fixture(scope="module", params=["untied", "tied"])
def model_folder(request: pytest.FixtureRequest, extended_folder: Path) -> Path:
    return extended_folder if request.param == "untied" else request.getfixturevalue("tied_folder")


@pytest.fixture(scope="module", params=WAYS)
def tuned(request: pytest.FixtureRequest, model_folder: Path, make_tuning, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder, way = tmp_path_factory.mktemp("tuned"), WAYS[request.param]
    if way.get("train") == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes holds the base in 4 bits: pip install 'llama-gene[qlora]'")
        model_folder = wider(model_folder, folder / "base")
    tune(make_tuning(folder / "tuned", model=model_folder, **way))
    if way.get("train") == "all":
        return Tuned(model_folder, folder / "tuned", folder / "tuned", way)
    merge(MergeRecipe(model=model_folder, adapter=folder / "tuned", out=folder / "merged"))
    return Tuned(model_folder, folder / "tuned", folder / "merged", way)


def wider(model_folder: Path, folder: Path) -> Path:
    """The base with layers as wide as bitsandbytes' blocks of weights, 64."""
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "manifest.json"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(
        LlamaConfig.from_pretrained(model_folder, hidden_size=64, intermediate_size=128, head_dim=32)
    ).save_pretrained(folder)
    shutil.copy(model_folder / "generation_config.json", folder)  # with the end of turn, which the configuration does not name
    return folder


def test_bases_move_answers_that_hold_kmers_and_no_others(kmers_folder, records, make_tuning, tmp_path):
    """Single trained rows in an adapter; the losses of words are those of cross-entropy, digit by digit."""
    spelled = tmp_path / "spelled"
    shutil.copytree(records, spelled)
    for file in (spelled / f"{split}.jsonl" for split in ("train", "dev")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line |= {"task": "sim/function", "kind": "text", "choices": [], "label": "<dna>ACGTTGCAT</dna>"}
            line["completion"][0]["content"] = line["label"]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {}
    for answers in (records, spelled):
        for loss in ("auto", "bases"):
            out = tmp_path / f"{answers.name}-{loss}"
            tune(make_tuning(out, model=kmers_folder, records=answers, loss=loss, rows="new", steps=4, epochs=1))
            history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
            found[answers, loss] = [line["loss"] for line in history if "loss" in line]
    assert found[records, "bases"] == found[records, "auto"]
    assert found[spelled, "bases"][0] != found[spelled, "auto"][0]


def test_bases_without_kmers_are_refused(make_tuning, tmp_path):
    with pytest.raises(UserError, match=r"loss=bases scores k-mers letter by letter, and this vocabulary has none"):
        tune(make_tuning(tmp_path / "out", loss="bases"))
    assert not list(tmp_path.iterdir())


def matrices(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def test_loss_falls_and_the_folder_is_complete(tuned):
    history = [json.loads(line) for line in (tuned.folder / "history.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in history if "loss" in line]
    dev = {line["step"]: line["eval_loss"] for line in history if "eval_loss" in line}
    steps = tuned.way.get("steps", 16)
    assert len(losses) == steps
    learns_to_write = tuned.way.get("rows", "none") == "all"  # of a random base: nothing else knows the answers' tokens
    assert sum(losses[-3:]) < (0.9 if learns_to_write else 0.995) * sum(losses[:3])
    assert list(dev) == sorted({8, steps})
    manifest = read_manifest(tuned.folder, "tuned" if tuned.way.get("train") == "all" else "adapter")
    assert manifest["counts"]["train"]["written"] == 32
    assert manifest["counts"]["steps"] == steps
    if steps == 16:
        assert manifest["counts"]["records"] == {"sim/promoter": 4 * 24, "sim/stability": 4 * 8}
    assert not [path for path in tuned.folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert not [path for path in tuned.folder.parent.iterdir() if "checkpoints" in path.name or "partial" in path.name]


def test_merged_logits_equal_the_adapters(tuned, records):
    tokenizer = AutoTokenizer.from_pretrained(tuned.folder)
    message = json.loads((records / "dev.jsonl").read_text().splitlines()[0])["prompt"]
    ids = torch.tensor([prompt_ids(tokenizer, message)])
    plain = AutoModelForCausalLM.from_pretrained(tuned.base).eval()
    joined = AutoModelForCausalLM.from_pretrained(tuned.plain).eval()
    with torch.no_grad():
        untouched, found = plain(ids).logits, joined(ids).logits
        assert (found - untouched).abs().max() > 1e-3
        if tuned.way.get("train") != "all":
            # PEFT puts its layers into the model it is given, so the plain one is asked first
            adapted = PeftModel.from_pretrained(plain, str(tuned.folder)).eval()(ids).logits
            assert (found - adapted).abs().max() < 1e-5
    assert prompt_ids(AutoTokenizer.from_pretrained(tuned.plain), message) == ids[0].tolist()


def test_rows_move_where_they_should_and_nowhere_else(tuned):
    """Both matrices, bit by bit: none, the new rows alone, or all; a tied model stays tied."""
    before, after = AutoModelForCausalLM.from_pretrained(tuned.base), AutoModelForCausalLM.from_pretrained(tuned.plain)
    tied = before.config.tie_word_embeddings
    assert after.config.tie_word_embeddings == tied
    if tied:
        assert torch.equal(*matrices(after))
        assert sum(parameter.numel() for parameter in after.parameters()) == sum(parameter.numel() for parameter in before.parameters())
    rows = tuned.way.get("rows", "none")
    new = torch.zeros(len(matrices(before)[0]), dtype=torch.bool)
    new[new_ids(tuned.base)] = True
    for old, found in zip(matrices(before), matrices(after), strict=True):
        moved = (old != found).any(dim=1)
        assert not (moved[~new].any() and rows == "new")
        assert moved.any() == (rows != "none")
        if rows == "all":
            assert moved[~new].any()
        if rows == "new":
            # the output matrix: every new row is pushed away from every answer
            assert moved.sum() > 3
    if rows == "new":
        assert (matrices(before)[1] != matrices(after)[1]).any(dim=1)[new].float().mean() > 0.95
        adapter = tuned.folder / "adapter_model.safetensors"
        if adapter.is_file():
            assert adapter.stat().st_size < (tuned.base / "model.safetensors").stat().st_size


def test_bodies_move(tuned):
    before, after = (AutoModelForCausalLM.from_pretrained(folder).model.layers[0] for folder in (tuned.base, tuned.plain))
    for name in ("q_proj", "v_proj"):
        assert not torch.equal(getattr(before.self_attn, name).weight, getattr(after.self_attn, name).weight)


def test_balance_repeats_the_small_task(make_tuning, tmp_path):
    recipe = make_tuning(tmp_path / "out", balance=True, epochs=2)
    tune(recipe)
    assert read_manifest(recipe.out)["counts"]["records"] == {"sim/promoter": 32, "sim/stability": 32}


def refused(recipe: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        tune(recipe)
    assert not list(recipe.out.parent.glob(f"{recipe.out.name}*"))


def test_too_few_rows_are_refused(extended_folder, make_tuning, tmp_path):
    shutil.copytree(extended_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((extended_folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": 405}))
    refused(make_tuning(tmp_path / "out", model=tmp_path / "model"), r"405 embedding rows for \d+ ids")


def test_a_base_without_a_chat_template_is_refused(extended_folder, make_tuning, tmp_path):
    shutil.copytree(extended_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "*.jinja"))
    refused(make_tuning(tmp_path / "out", model=tmp_path / "model"), "no chat template.*tokenizer extend")


def test_a_template_with_todays_date_is_refused(extended_folder, make_tuning, tmp_path):
    """Of a base that was not extended; `tokenizer extend` fixes the date."""
    shutil.copytree(extended_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "model" / "chat_template.jinja"
    path.write_text("{{ strftime_now('%d %b %Y') }}" + path.read_text())
    refused(make_tuning(tmp_path / "out", model=tmp_path / "model"), "writes today's date.*tokenizer extend")


def test_a_base_as_it_is_can_be_tuned_merged_and_asked(extended_folder, make_tuning, records, tmp_path):
    """The other side of "with and without vocabulary extension": no pad token, tags and letters as text."""
    base = extended_folder.parent / "base"
    assert AutoTokenizer.from_pretrained(base).pad_token_id is None
    recipe = make_tuning(tmp_path / "adapter", model=base, rows="all", steps=2, max_tokens=256, metric_every=2)
    tune(recipe)
    assert read_manifest(recipe.out)["counts"]["train"]["rejected"] == 0
    merge(MergeRecipe(model=base, adapter=recipe.out, out=tmp_path / "model"))
    subject = PredictRecipe(model=tmp_path / "model", records=records, split="dev", out=tmp_path / "predictions")
    predict(subject)
    assert len((tmp_path / "predictions" / "llama-gene.jsonl").read_text().splitlines()) == 16


def test_padding_with_the_end_of_a_text_changes_no_loss(extended_folder, records):
    """Where a base has no pad token."""
    base = extended_folder.parent / "base"
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base).eval()
    dev = encode(tokenizer, records / "dev.jsonl", 256, Ledger())
    assert len({len(ids) for ids in dev.ids}) > 1
    score_in_head(model, "chunked")
    one, other = (dev_losses(model, dev, pad) for pad in (tokenizer.eos_token_id, 7))
    assert one == other


def test_a_base_that_would_never_stop_is_refused(extended_folder, make_tuning, tmp_path):
    shutil.copytree(extended_folder.parent / "base", tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 1}))
    refused(make_tuning(tmp_path / "out", model=tmp_path / "model"), r"ends an answer with '<\|eot_id\|>'.*generation_config.json")


def test_rows_longer_than_the_context_are_refused(make_tuning, tmp_path):
    refused(make_tuning(tmp_path / "out", max_tokens=100_000), r"max_tokens=100000: the context of .* is \d+; set max_tokens=")


def test_qlora_without_its_library_is_refused(make_tuning, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more))
    refused(make_tuning(tmp_path / "out", train="qlora"), r"pip install 'llama-gene\[qlora\]', or use train=lora")


def test_new_rows_need_an_extended_base_and_no_zero3(extended_folder, make_tuning, tmp_path):
    refused(make_tuning(tmp_path / "out", rows="new", deepspeed="zero3"), "rows=new under ZeRO-3.*zero2")
    shutil.copytree(extended_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "new_ids.json"))
    refused(make_tuning(tmp_path / "out", rows="new", model=tmp_path / "model"), r"no new_ids\.json")


def test_long_records_are_noted_by_name(make_tuning, records, tmp_path):
    lines = (records / "train.jsonl").read_text().splitlines()
    long = json.loads(lines[0])
    long |= {"id": "sim/promoter/train/long", "prompt": [{"role": "user", "content": "word " * 200}]}
    shutil.copytree(records, tmp_path / "records")
    (tmp_path / "records" / "train.jsonl").write_text("\n".join([*lines, json.dumps(long)]) + "\n")
    recipe = make_tuning(tmp_path / "out", records=tmp_path / "records", steps=1)
    tune(recipe)
    counts = read_manifest(recipe.out)["counts"]["train"]
    assert (counts["read"], counts["written"], counts["rejected"]) == (33, 32, 1)
    assert (recipe.out / "set_aside.txt").read_text() == "sim/promoter/train/long\n"


def test_the_command_reads_every_record_once(make_tuning, tmp_path, monkeypatch):
    read: list[str] = []
    each = data_convert.tasks.records.each_record

    def counted(path: Path) -> Any:
        read.append(Path(path).name)
        return each(path)

    monkeypatch.setattr(data_convert.tasks.records, "each_record", counted)
    (tmp_path / "job.yaml").write_text(dump(make_tuning(tmp_path / "out", steps=1)))
    assert llama_gene.main(["instruct", "--recipe", str(tmp_path / "job.yaml")]) == 0
    assert sorted(read) == ["dev.jsonl", "train.jsonl"]
