"""English retention against pre-training's own measure, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import llama_gene
from artefacts.errors import UserError
from eval.ask.retention import _subject, english_bits, retention
from eval.recipe import RetentionRecipe
from pretrain.bits import english_blocks, heldout_bits
from training.english import paragraphs
from training.loss import score_in_head


def test_equals_what_pretraining_measures(extended_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    model = AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    found = english_bits(model, tokenizer, paragraphs("english"))
    blocks = english_blocks(tokenizer, "english", 512)
    score_in_head(model, "chunked")
    silent = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    theirs = heldout_bits(model, blocks, silent, 4)["english"]["bits_per_letter"]
    assert found["bits_per_byte"] == pytest.approx(theirs, rel=1e-4)
    letters = sum(len(part.encode()) for part in paragraphs("english"))
    assert math.log(found["perplexity"]) * found["tokens"] == pytest.approx(found["bits_per_byte"] * letters * math.log(2))


def test_windows_and_padding_by_hand(extended_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    model = AutoModelForCausalLM.from_pretrained(extended_folder).eval()
    parts = ["the gene binds ATP", "every cell " * 30]
    model.config.max_position_embeddings = 21
    nats, tokens = 0.0, 0
    for part in parts:
        ids = tokenizer(part, add_special_tokens=False)["input_ids"]
        for place in range(0, len(ids), 20):
            window = [tokenizer.bos_token_id, *ids[place : place + 20]]
            with torch.no_grad():
                logprobs = model(torch.tensor([window])).logits[0].log_softmax(-1)
            nats -= sum(logprobs[n, token].item() for n, token in enumerate(window[1:]))
            tokens += len(window) - 1
    found = english_bits(model, tokenizer, parts)
    assert found["tokens"] == tokens
    assert found["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_command(extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = extended_folder.parent / "base"
    out = tmp_path / "retention.json"
    assert llama_gene.main(["eval", "retention", "--models", str(base), str(extended_folder), "--out", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    first, second = found["models"].values()
    assert first["difference"] == 0
    assert second["difference"] == pytest.approx(second["bits_per_byte"] - first["bits_per_byte"])
    assert first["tokens"] == second["tokens"], "English ids are unchanged"
    printed = capsys.readouterr().out
    assert f"{second['bits_per_byte']:.3f}" in printed
    assert f"{found['bytes']:,} bytes" in printed
    assert read_manifest_of(out)["counts"] == {"models": 2}
    with pytest.raises(UserError, match="neither a file nor one of english"):
        retention(RetentionRecipe(models=[str(base)], out=tmp_path / "x", text="absent"))
    with pytest.raises(UserError, match="no such model"):
        retention(RetentionRecipe(models=[str(tmp_path / "absent")], out=tmp_path / "x"))


def read_manifest_of(file: Path) -> dict:
    return json.loads(file.with_name(f"{file.name}.manifest.json").read_text(encoding="utf-8"))


def test_a_plus_in_a_path_is_no_adapter(tmp_path: Path) -> None:
    for name in ("a+b", "a+b/model", "a+c", "adapter+2"):
        (tmp_path / name).mkdir(parents=True)
    for name, model, adapter in [
        ("a+b", "a+b", None),
        ("a+b/model+adapter+2", "a+b/model", "adapter+2"),
        ("a+b+a+c", "a+b", "a+c"),
        ("absent+more", "absent", "more"),
    ]:
        parts = name if adapter is None else f"{tmp_path / model}+{tmp_path / adapter}"
        found = _subject(str(tmp_path / name) if adapter is None else parts)
        if model != "absent":
            assert (found.model, found.adapter) == (tmp_path / model, tmp_path / adapter if adapter else None)
        else:
            assert found.adapter == tmp_path / "more"
