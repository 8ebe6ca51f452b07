"""An invented run: records, predictions and the folders a report reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from invented_run import invent
from samples import forget_weights
from transformers import AutoModelForCausalLM


@pytest.fixture
def invented(tmp_path: Path) -> Path:
    """A folder with records/ and predictions/ (the model only), histories and reports of the stages before."""
    return invent(tmp_path)


@pytest.fixture(scope="session")
def model_folder(extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As created, a model says nearly the same after every prompt; this one does not."""
    folder = tmp_path_factory.mktemp("loud") / "model"
    shutil.copytree(extended_folder, folder)
    forget_weights(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder
