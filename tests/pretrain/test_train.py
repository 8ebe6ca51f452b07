"""Pre-training end to end in processes of its own, as a launcher would start them.

`golden_losses.json` holds the training losses of a fixed seed. After a change that is meant to change them, record anew:

    LLAMA_GENE_RECORD=1 python -m pytest tests/pretrain/test_train.py -k golden
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from artefacts.recipe import dump
from data_convert.pack import PackRecipe, Source, pack
from pretrain.recipe import PretrainRecipe
from pretrain.train import train

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS, SAVE_EVERY = 12, 5
DIES = """
import os, signal, sys
from pretrain.__main__ import RANK
from pretrain.train import Recorder
from artefacts.command import run_rank
lives = Recorder.{event}
def dies(self, args, state, control, **kwargs):
    lives(self, args, state, control, **kwargs)
    if state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
Recorder.{event} = dies
sys.exit(run_rank("pretrain", RANK))
"""
"""`python -m pretrain`, but the process is killed at an event of the training."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A few kilobases and kiloresidues made of a small stock of words, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(5)
    for name, alphabet in (("dna", "ACGT"), ("protein", "ACDEFGHIKLMNPQRSTVWY")):
        words = ["".join(draw.choices(alphabet, k=12)) for _ in range(6)]
        for split, records in (("train", 24), ("heldout", 6)):
            sequences = ["".join(draw.choices(words, k=20)) for _ in range(records)]
            (folder / f"{name}.{split}.fa").write_text("".join(f">{split}{i}\n{s}\n" for i, s in enumerate(sequences)))
    texts = text_file.read_text(encoding="utf-8").split("\n\n")
    (folder / "text.train.txt").write_text("\n\n".join(texts[:150]), encoding="utf-8")
    (folder / "text.heldout.txt").write_text("\n\n".join(texts[350:380]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, corpus: Path, extended_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("shards") / "shards"
    sources = [
        Source(modality=name, files=[corpus / f"{name}.train.{end}"], heldout_files=[corpus / f"{name}.heldout.{end}"])
        for name, end in (("dna", "fa"), ("protein", "fa"), ("text", "txt"))
    ]
    pack(PackRecipe(tokenizer=extended_folder, out=out, block_tokens=128, sources=sources))
    return out


def recipe(model: Path, shards: Path, out: Path, **more: Any) -> PretrainRecipe:
    values = {"steps": STEPS, "micro_batch": 4, "learning_rate": 1e-2, "log_every": 1, "evaluate_every": 4, "save_every": SAVE_EVERY}
    return PretrainRecipe(model=model, shards=shards, out=out, **{**values, **more})


def run(command: list[str], wanted: PretrainRecipe, timeout: float = 240, launched: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command on a recipe, alone on its port, as rank 0 of 1 unless the command launches ranks itself."""
    file = wanted.out.with_name(f"{wanted.out.name}.yaml")
    file.write_text(dump(wanted), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    if launched:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        environment |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = [sys.executable, *command, "--recipe", str(file)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def history(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if name in line]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, extended_folder: Path, shards: Path) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("pretrained") / "model"
    done = run(["-m", "pretrain"], recipe(extended_folder, shards, out))
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_heldout_bits_fall(pretrained):
    losses = json.loads((pretrained / "losses.json").read_text())
    for modality in ("dna", "protein", "text"):
        assert losses["after"][modality]["bits_per_letter"] < 0.9 * losses["before"][modality]["bits_per_letter"]
    heldout = history(pretrained, "heldout")
    assert [line["step"] for line in heldout] == [0, 4, 8, STEPS]
    for line, place in ((heldout[0], "before"), (heldout[-1], "after")):
        assert line["heldout"] == {name: value["bits_per_letter"] for name, value in losses[place].items()}
    assert losses["steps"] == STEPS
    assert losses["tokens"] == STEPS * 4 * 128
    assert losses["seconds"] > 0
    assert [line["step"] for line in history(pretrained, "loss")] == list(range(1, STEPS + 1))
    assert all(line["tokens_per_second"] > 0 for line in history(pretrained, "loss"))


def test_the_folder_is_plain(pretrained, extended_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, loading = AutoModelForCausalLM.from_pretrained(pretrained, output_loading_info=True)
    assert not any(loading[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before = AutoModelForCausalLM.from_pretrained(extended_folder)
    assert model.config.vocab_size == before.config.vocab_size
    assert (model.lm_head.weight != before.lm_head.weight).any()
    text = "The gene <dna>ACGTNACGATTAG</dna> makes <protein>MKV*</protein>, naïve."
    assert AutoTokenizer.from_pretrained(pretrained)(text).input_ids == AutoTokenizer.from_pretrained(extended_folder)(text).input_ids
    manifest = read_manifest(pretrained, "pretrained")
    assert manifest["counts"]["steps"] == STEPS
    assert manifest["counts"]["parameters"] == sum(parameter.numel() for parameter in before.parameters())
    suffixes = {file.suffix for file in pretrained.rglob("*")}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}, "pickles have no place in a model folder"
    assert [path.name for path in pretrained.parent.iterdir() if path.is_dir()] == ["model"], "checkpoints or partial folders were left"


def test_golden_losses(pretrained):
    found = [line["loss"] for line in history(pretrained, "loss")][:10]
    if os.environ.get("LLAMA_GENE_RECORD"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("event", "step", "saved"), [("on_step_end", 7, [5]), ("on_train_end", STEPS, [5, 10])])
def test_a_killed_run_continues_exactly(pretrained, extended_folder, shards, tmp_path, event, step, saved):
    """Killed between two checkpoints, and killed when all is trained but nothing is written yet."""
    wanted = recipe(extended_folder, shards, tmp_path / "model")
    killed = run(["-c", DIES.format(event=event, step=step)], wanted)
    assert killed.returncode == -9, killed.stderr[-3000:]
    assert not wanted.out.exists()
    work = tmp_path / "model.checkpoints"
    assert {path.name for path in work.glob("checkpoint-*")} == {f"checkpoint-{number}" for number in saved}
    # a newer checkpoint that was cut short: everything but the file that is written last
    torso = work / f"checkpoint-{saved[-1] + 1}"
    shutil.copytree(work / f"checkpoint-{saved[-1]}", torso, ignore=shutil.ignore_patterns("trainer_state.json"))
    done = run(["-m", "pretrain"], wanted)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("loss", "heldout"):
        whole, parts = history(pretrained, name), history(wanted.out, name)
        for line in whole + parts:
            line.pop("tokens_per_second", None)
        assert parts == whole
    assert (wanted.out / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    whole, parts = (json.loads((folder / "losses.json").read_text()) for folder in (pretrained, wanted.out))
    assert {**parts, "seconds": 0} == {**whole, "seconds": 0}
    assert not work.exists()


@pytest.mark.slow
def test_two_ranks_under_the_launcher(pretrained, extended_folder, shards, tmp_path):
    """`llama-gene pretrain` with two ranks and ZeRO-2: each takes half of the batch, so the run is the same."""
    wanted = recipe(extended_folder, shards, tmp_path / "model", ranks=2, deepspeed="zero2", micro_batch=2, steps=STEPS)
    done = run(["-m", "llama_gene", "pretrain"], wanted, timeout=180, launched=False)
    assert done.returncode == 0, done.stderr[-3000:]
    alone, shared = (json.loads((folder / "losses.json").read_text()) for folder in (pretrained, wanted.out))
    assert shared["tokens"] == alone["tokens"]
    for modality, value in alone["before"].items():
        assert shared["before"][modality]["letters"] == value["letters"]
        assert shared["before"][modality]["bits_per_letter"] == pytest.approx(value["bits_per_letter"], rel=1e-5)
        assert shared["after"][modality]["bits_per_letter"] < 0.9 * value["bits_per_letter"]
    assert not (tmp_path / "model.checkpoints").exists()


def test_shards_of_another_tokenizer_are_refused_first(extended_folder, shards, tmp_path):
    """The folder has no weights, so the refusal must come before they are looked for."""
    model = tmp_path / "model"
    shutil.copytree(extended_folder, model, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"].pop()
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(UserError, match="packed with tokenizer"):
        train(recipe(model, shards, tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))


def test_too_few_rows_are_refused_first(extended_folder, shards, tmp_path):
    """The configuration says so; no weights are there to be loaded."""
    model = tmp_path / "model"
    shutil.copytree(extended_folder, model, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 405}))
    with pytest.raises(UserError, match=r"405 embedding rows for \d+ ids"):
        train(recipe(model, shards, tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))
