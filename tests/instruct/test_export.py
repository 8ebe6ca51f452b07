"""What leaves the project: merged onto the right base only, in shards, with a card; GGUF by a stand-in for llama.cpp's converter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from instruct.tune.export import ExportRecipe, export
from instruct.tune.merge import MergeRecipe, merge
from instruct.tune.tune import preview, tune


@pytest.fixture(scope="module")
def merged(make_tuning, extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    tune(make_tuning(folder / "adapter", steps=2, metric_every=2))
    merge(MergeRecipe(model=extended_folder, adapter=folder / "adapter", out=folder / "merged"))
    return folder / "merged"


def test_numbers_of_fewer_bits_are_those_that_plain_transformers_rounds_to(merged, tmp_path):
    export(ExportRecipe(model=merged, out=tmp_path / "out", dtype="bfloat16"))
    ours, theirs = (AutoModelForCausalLM.from_pretrained(at, dtype=torch.bfloat16) for at in (tmp_path / "out", merged))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    assert load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16


def test_an_adapter_of_another_base_is_refused(merged, tied_folder, extended_folder, tmp_path):
    adapter = merged.parent / "adapter"
    with pytest.raises(UserError, match=r"trained on another base than .*fingerprint .* this one has"):
        merge(MergeRecipe(model=tied_folder, adapter=adapter, out=tmp_path / "out"))
    # the same shapes and names, other weights
    shutil.copytree(extended_folder, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="trained on another base"):
        merge(MergeRecipe(model=tmp_path / "base", adapter=adapter, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_copy_of_the_base_is_the_base(merged, extended_folder, tmp_path):
    shutil.copytree(extended_folder, tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("notes\n")
    merge(MergeRecipe(model=tmp_path / "base", adapter=merged.parent / "adapter", out=tmp_path / "out"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()


def test_the_same_weights_in_other_shards_are_the_base(merged, extended_folder, tmp_path):
    """As a hub would give it: written again by transformers, in many files, keys in another order."""
    AutoModelForCausalLM.from_pretrained(extended_folder).save_pretrained(tmp_path / "base", max_shard_size="60KB")
    AutoTokenizer.from_pretrained(extended_folder).save_pretrained(tmp_path / "base")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 2
    merge(MergeRecipe(model=tmp_path / "base", adapter=merged.parent / "adapter", out=tmp_path / "out"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()


def test_an_adapter_finds_its_base_from_anywhere(make_tuning, extended_folder, tmp_path, monkeypatch):
    """A relative path would be a hub id there."""
    from peft import AutoPeftModelForCausalLM

    monkeypatch.chdir(extended_folder.parent)
    tune(make_tuning(tmp_path / "adapter", model=Path(extended_folder.name), steps=1))
    monkeypatch.chdir(tmp_path)
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")


def test_a_foreign_adapter_that_does_not_fit_is_refused(merged, extended_folder, tmp_path):
    """Without our manifest, shapes tell."""
    shutil.copytree(merged.parent / "adapter", tmp_path / "adapter", ignore=shutil.ignore_patterns("manifest.json"))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "r": 7}))
    with pytest.raises(UserError, match="does not fit"):
        merge(MergeRecipe(model=extended_folder, adapter=tmp_path / "adapter", out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name: name.replace("model.layers", "language_model.layers"), r"it lacks \d+ of \d+ tensors, the first is base_model\."),
        (lambda name: None if ".layers.1." in name else name, r"it lacks \d+ of \d+ tensors, the first is .*layers\.1"),
        (lambda name: [name, name.replace(".layers.1.", ".layers.2.")], r"\d+ of its \d+ tensors have no place there, .*layers\.2"),
    ],
    ids=["other names", "fewer layers", "more layers"],
)
def test_every_tensor_of_a_foreign_adapter_finds_its_place(merged, extended_folder, tmp_path, change, message):
    """PEFT only warns, and the base would come out as it went in."""
    shutil.copytree(merged.parent / "adapter", tmp_path / "adapter", ignore=shutil.ignore_patterns("manifest.json"))
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    changed = {}
    for name, tensor in load_file(path).items():
        named = change(name)
        changed |= {new: tensor.clone() for new in ([named] if isinstance(named, str) else named or [])}
    save_file(changed, path)
    with pytest.raises(UserError, match=message):
        merge(MergeRecipe(model=extended_folder, adapter=tmp_path / "adapter", out=tmp_path / "out"))
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(UserError, match="pickled adapters are not read"):
        merge(MergeRecipe(model=extended_folder, adapter=tmp_path / "adapter", out=tmp_path / "out"))


def test_shards_hold_the_same_model_and_the_card_says_what_it_is(merged, tmp_path):
    export(ExportRecipe(model=merged, out=tmp_path / "out", max_shard="60KB"))
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (merged, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == AutoTokenizer.from_pretrained(merged).chat_template
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for words in ("| merged |", "| adapter |", "| extended", "## Tuning", "learning_rate: 0.02", "Licence"):
        assert words in card, words
    assert str(tmp_path.parents[1]) not in card, "folders of this machine"
    assert read_manifest(tmp_path / "out", "exported")["counts"]["weight_files"] == len(files)
    own = (merged / "README.md").read_text(encoding="utf-8")
    for words in ("# merged", "| adapter |", "| extended", "## Tuning", "Licence"):
        assert words in own, words


STAND_IN = """
import pathlib, sys
folder, _, out, _, kind = sys.argv[1:]
assert (pathlib.Path(folder) / "tokenizer.json").is_file()
if kind == "broken":
    sys.exit("no such type")
pathlib.Path(out).write_bytes(b"GGUF" + kind.encode())
"""


def test_gguf_by_the_converter(merged, tmp_path):
    (tmp_path / "convert_hf_to_gguf.py").write_text(STAND_IN)
    recipe: dict[str, Any] = {"model": merged, "out": tmp_path / "out", "llama_cpp": tmp_path}
    with pytest.raises(UserError, match="ended with 1 and wrote no file: no such type"):
        export(ExportRecipe(**recipe, gguf="broken"))
    assert not (tmp_path / "out").exists()
    export(ExportRecipe(**recipe, gguf="f16"))
    assert (tmp_path / "out" / "model.gguf").read_bytes() == b"GGUFf16"
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]


def test_gguf_without_a_converter(merged, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="converter is not here; clone"):
        export(ExportRecipe(model=merged, out=tmp_path / "out", gguf="f16"))


def test_dry_run_shows_a_row_with_its_trained_tokens(make_tuning, tmp_path, capsys):
    preview(make_tuning(tmp_path / "out", packing=True, micro_batch=2, planned={"hardware": "L20"}))
    text = capsys.readouterr().out
    for words in ("memory per rank: ", "hours on ", "records: 32 of 32 fit max_tokens=128", "sim/promoter"):
        assert words in text
    sample = text.split("in brackets:\n")[1]
    assert sample.count("Which?") >= 2, "a packed row holds several records"
    trained = [part.split("[")[0] for part in sample.split("]")[1:]]
    assert any(part.startswith(("promoter", "background", "0.", "1.")) for part in trained)
    assert not any("Which?" in part for part in trained)
