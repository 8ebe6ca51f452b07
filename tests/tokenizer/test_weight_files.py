"""Files of weights that are not what they seem are refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from artefacts.errors import UserError
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Extend, extend_base
from tokenizer.gguf import Gguf, export_for_gguf
from tokenizer.weights import INDEX, SINGLE, plan, read_header


@pytest.fixture
def base(tmp_path: Path, text_file: Path) -> Path:
    folder = tmp_path / "base"
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 32}
    create_base(CreateBase(out=folder, text=[text_file], vocab_size=400, **sizes))
    return folder


def safetensors(path: Path, header: object, data: int) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        ({"a": ([2, 2], [0, 16]), "b": ([2, 2], [0, 16])}, 32),
        ({"a": ([2, 2], [0, 16]), "b": ([2, 2], [20, 36])}, 36),
        ({"a": ([2, 3], [0, 16])}, 16),
        ({"a": ([2, 2], [0, 16])}, 15),
        ({"a": ([2, 2], [0, 16])}, 17),
    ],
    ids=["overlap", "gap", "other shape", "cut short", "too long"],
)
def test_headers_that_lie_are_refused(tmp_path: Path, tensors: dict[str, tuple[list[int], list[int]]], data: int) -> None:
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": offsets} for name, (shape, offsets) in tensors.items()}
    with pytest.raises(UserError, match="not a complete safetensors file"):
        read_header(safetensors(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("places", [[], {"a": 3}, {"a": None}, "model.safetensors"])
def test_an_index_of_another_form_is_refused(base: Path, places: object) -> None:
    (base / SINGLE).rename(base / "model-00001-of-00001.safetensors")
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(UserError, match="weight_map"):
        plan(base, 10, 20, 8)


def test_one_file_goes_before_an_index_as_in_transformers(base: Path, dna_bpe, protein_bpe, tmp_path: Path) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in load_file(base / SINGLE).items()}
    save_file(other, base / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(other, "model-00001-of-00001.safetensors")}))
    dna_bpe.save(str(tmp_path / "dna.json"))
    protein_bpe.save(str(tmp_path / "protein.json"))
    extend_base(Extend(base=base, dna=tmp_path / "dna.json", protein=tmp_path / "protein.json", out=tmp_path / "out"))
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (base, tmp_path / "out"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert before[name].abs().sum() > 0
    assert torch.equal(before[name], after[name])
    assert not (tmp_path / "out" / INDEX).exists()


def test_an_export_from_a_hub_cache_holds_files_not_links(extended_folder: Path, tmp_path: Path) -> None:
    cache, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    cache.mkdir()
    shutil.copytree(extended_folder, blobs)
    for file in blobs.iterdir():
        (cache / file.name).symlink_to(Path("..") / "blobs" / file.name)
    export_for_gguf(Gguf(model=cache, out=tmp_path / "out"))
    assert [file.name for file in (tmp_path / "out").iterdir() if file.is_symlink()] == []
    assert (tmp_path / "out" / SINGLE).read_bytes() == (blobs / SINGLE).read_bytes()
    config = tmp_path / "out" / "config.json"
    config.write_text("{}")
    assert (blobs / "config.json").read_text() != "{}", "an edit of the export must not reach the source"
