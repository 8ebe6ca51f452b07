from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def family_folder(family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extended tokenizer of each base family, as a folder."""
    _, extended, _ = family
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    if extended.token_to_id("<s>") is None:
        names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=extended, **names).save_pretrained(folder)
    return folder
