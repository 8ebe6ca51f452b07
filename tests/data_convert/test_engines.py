"""Packing under Ray itself, a cluster of two workers on this machine: the bytes of one process, one worker killed on the way."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from data_convert.corpus import pack as packing
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.parts import convert_part

pytest.importorskip("ray", reason="engine=ray needs the package ray")


@pytest.fixture
def recipe(tmp_path: Path, extended_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PackRecipe]:
    draw = random.Random(3)
    genome = tmp_path / "g.fa"
    genome.write_text("".join(f">c{i}\n{''.join(draw.choices('ACGT', k=900))}\n" for i in range(12)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))  # of the workers
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(packing, "TOKENS_WORTH_A_WORKER", 1)

    def make(name: str, **changes: object) -> PackRecipe:
        sources = [Source(modality="dna", files=[genome], window=200, heldout_share=0.1)]
        values = {"tokenizer": extended_folder, "out": tmp_path / name, "block_tokens": 64, "sources": sources, "workers": 2}
        return PackRecipe(**{**values, "part_bytes": 3000, "shard_blocks": 10, **changes})

    return make


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_bytes_are_those_of_one_process(recipe, tmp_path, monkeypatch):
    pack(recipe("local", workers=1))
    killed = tmp_path / "killed"

    def once(job):
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        convert_part(job)

    monkeypatch.setattr(packing, "convert_part", once)
    pack(recipe("ray", engine="ray"))
    assert killed.exists()
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "local")

    def wrong(job):
        raise UserError("g.fa:7: what is wrong; what to do")

    monkeypatch.setattr(packing, "convert_part", wrong)
    with pytest.raises(UserError, match=r"^g.fa:7: what is wrong; what to do$"):
        pack(recipe("wrong", engine="ray"))
    assert not (tmp_path / "wrong").exists()
