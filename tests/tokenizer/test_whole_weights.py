"""A model is opened with all its weights or not at all, in every way there is to open one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from artefacts.errors import UserError
from eval.ask.subjects import open_model
from eval.baselines.embedding.open import open_encoder
from eval.recipe import Subject
from instruct.talk.session import Session
from tokenizer.generation import load_causal
from training.model import load_model

WAYS: dict[str, Callable[[Path], Any]] = {
    "load_causal": load_causal,
    "eval": lambda folder: open_model(Subject(model=folder)),
    "chat": Session,
    "train": lambda folder: load_model(
        SimpleNamespace(model=folder, precision="fp32", attention="sdpa", train="all", rows="all", fsdp=False, compile=None),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        False,
    ),
    "embed": open_encoder,
}


@pytest.fixture
def folder(extended_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(extended_folder, tmp_path / "model")


def refused(folder: Path, way: str, wanted: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(str(folder))}: .*weights do not fit .*{wanted}") as caught:
        WAYS[way](folder)
    assert "\n" not in str(caught.value)
    assert "MISSING" not in (said := "".join(capfd.readouterr())), said


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layers", [None, 1, 3])
def test_another_number_of_layers_is_refused(folder: Path, way: str, layers: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the number there are as many as transformers thinks usual, nearly all of them drawn at random."""
    assert WAYS[way](folder)
    config = json.loads((folder / "config.json").read_text())
    own = config.pop("num_hidden_layers")
    config |= {} if layers is None else {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    place = "layers.1." if layers == 1 else r"layers.\d+."
    refused(folder, way, rf"{place}\S* is {'not known' if own > (layers or 99) else 'missing'}", capfd)


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_of_another_shape_or_name_is_refused(folder: Path, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    file, name = folder / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    state = load_file(file)
    save_file({**state, name: state[name][:-1].clone()}, file, {"format": "pt"})
    (folder / "manifest.json").unlink(missing_ok=True)  # which notes the weights
    refused(folder, way, r"mlp.up_proj.weight has shape \[63, 32\], not \[64, 32\]", capfd)
    state[name.replace("up_proj", "upper")] = state.pop(name)
    save_file(state, file, {"format": "pt"})
    refused(folder, way, r"mlp.up_proj.weight is missing", capfd)
