"""One flipped bit in a file of weights: every command that reads it says so, in one line that names the file."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from whole_way import COMMANDS, Runs

import llama_gene

WITH_WEIGHTS = ("base", "extended", "pretrained", "adapter", "model", "head")
GIVEN = [(name, read) for name in COMMANDS for read in re.findall(r"@/([\w.]+)", COMMANDS[name]) if read in WITH_WEIGHTS]
TOKENIZER_ALONE = {("shards", "extended"), ("records", "extended")}
"""What takes the tokenizer of a model, and never opens its weights."""


@pytest.mark.parametrize(("name", "given"), [pair for pair in GIVEN if pair not in TOKENIZER_ALONE])
def test_a_flipped_bit_is_noticed(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, given: str) -> None:
    runs.make(name)
    copy = tmp_path / given
    shutil.copytree(runs.folder / given, copy)
    words = [word.replace(str(runs.folder / given), str(copy)) for word in runs.words(name)]
    (file,) = copy.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    place = random.Random(name).randrange(len(content) // 2, len(content))  # among the numbers: it opens as before
    content[place] ^= 1 << random.Random(given).randrange(8)
    file.write_bytes(content)
    capsys.readouterr()
    code, said = llama_gene.main([*words, "--out", str(tmp_path / "out" / name)]), capsys.readouterr().err.strip().splitlines()
    assert code == 2, said
    # an adapter knows its base by a fingerprint, which is asked before anything is opened
    expected = f"{file}: not the weights that " if (name, given) != ("model", "pretrained") else "trained on another base than "
    assert expected in said[-1], said
    assert not (tmp_path / "out" / name).exists()


def test_weights_that_no_manifest_of_ours_notes_are_opened(runs: Runs, tmp_path: Path) -> None:
    from tokenizer.generation import load_causal

    runs.make("base")
    shutil.copytree(runs.folder / "base", tmp_path / "base")
    load_causal(tmp_path / "base")
    for wrong in ("{}", '{"weights": 3}', '{"weights": {"other.safetensors": "00"}}'):
        (tmp_path / "base" / "manifest.json").write_text(wrong)
        load_causal(tmp_path / "base")
