"""LucaOne's commands in two processes, as torchrun and accelerate start them, beside the same command in one."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import Nursery
from safetensors.numpy import load_file
from test_luca_surface import SIZE
from test_luca_train import letters, official
from whole_way import contents

import llama_gene
from eval.baselines.embedding.store import StoreReader
from eval.baselines.lucaone import published

FIGURES = re.compile(r'"out": "[^"]*"')


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, sequences of all lengths, and a data set."""
    folder = tmp_path_factory.mktemp("shared")
    torch.manual_seed(0)
    published.LucaGPLMForMaskedLM(published.LucaGPLMConfig(**SIZE)).save_pretrained(folder / "encoder")
    rng = random.Random(0)
    names = [f">p{n}\n{letters(rng, 'ACDEFGHIKLMNPQRSTVWY', length=5 + 7 * (n % 40))}\n" for n in range(120)]
    (folder / "p.fasta").write_text("".join(names))
    official(folder / "data", "multiclass", n=(60, 40, 70))
    (folder / "recipe.yaml").write_text(
        f"loss: {{kind: multiclass}}\nmetric: mcc\nencoders: [{folder / 'encoder'}]\n"
        "schedule: {epochs: 2, learning_rate: 1.0e-3, warmup: 5, batch: 8, accumulation: 2}\n"
    )
    return folder


def embedding(work: Path, out: str, *more: str) -> list[str]:
    given = ["--encoder", str(work / "encoder"), "--input-file", str(work / "p.fasta"), "--seq-type", "prot", "--batch-tokens", "300"]
    windows = ["--truncation-seq-length", "null", "--embedding-fixed-len-a-time", "100"]  # some in several of them
    return ["baseline", "embed", *given, *windows, "--out", str(work / out), *more]


def training(work: Path, out: str, *more: str) -> list[str]:
    given = ["--recipe", str(work / "recipe.yaml"), "--data", str(work / "data"), "--out", str(work / out)]
    return ["baseline", "train", *given, *more]


def prediction(work: Path, head: str, out: str, *more: str) -> list[str]:
    given = ["--model", str(work / head), "--input-file", str(work / "data" / "test" / "test.csv"), "--batch", "8"]
    return ["baseline", "predict", *given, "--out", str(work / out), *more]


def alone(argv: list[str]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of several has
    try:
        assert llama_gene.main(argv) == 0
    finally:
        torch.set_num_threads(threads)


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def of(folder: Path) -> dict[str, Any]:
    return {name: FIGURES.sub("", found.decode("latin-1")) for name, found in contents(folder).items()}


@pytest.mark.parametrize(("save", "ranks"), [("safetensors", 2), ("numpy", 3)])
def test_embedding_has_the_bytes_of_one_process(work: Path, nursery: Nursery, save: str, ranks: int) -> None:
    alone(embedding(work, f"one-{save}", "--save-type", save))
    done = nursery.share(embedding(work, f"many-{save}", "--save-type", save), work / "embed.log", ranks)
    assert done.codes == [0] * ranks, done.text
    assert done.text.count("120 embedded with") == 1  # the first alone speaks
    assert of(work / f"one-{save}") == of(work / f"many-{save}")
    assert "passes" in (work / f"one-{save}" / "index.jsonl").read_text()


def test_prediction_has_the_bytes_of_one_process(work: Path, nursery: Nursery) -> None:
    alone(training(work, "for-prediction"))
    alone(prediction(work, "for-prediction", "one.csv"))
    done = nursery.share(prediction(work, "for-prediction", "two.csv"), work / "predict.log")
    assert done.codes == [0, 0], done.text
    for name in ("{}.csv", "{}.csv.plan.json"):
        assert (work / name.format("one")).read_bytes() == (work / name.format("two")).read_bytes()
    # killed, either of them: the other says so and ends, no table is left, and the same command goes on to the same bytes
    for number, call in ((1, "send"), (0, "recv")):
        out = work / f"killed{number}.csv"
        killed = nursery.share(
            prediction(work, "for-prediction", out.name), work / "killed.log", die={"rank": number, "call": call, "time": 5}
        )
        assert killed.codes[number] == -signal.SIGKILL, killed.text
        assert killed.codes[1 - number] == 2, killed.text
        (said,) = errors(killed.text)
        assert "one of the 2 processes has ended" in said
        assert not out.exists()
        if number:
            assert nursery.share(prediction(work, "for-prediction", out.name), work / "again.log").codes == [0, 0]
        else:
            alone(prediction(work, "for-prediction", out.name))
        assert out.read_bytes() == (work / "one.csv").read_bytes()
    again = nursery.share(prediction(work, "for-prediction", "two.csv"), work / "predict.log")
    assert again.codes == [0, 0]
    assert "0 predicted" in again.text


@pytest.mark.parametrize("ranks", [2, 3])
def test_training_is_that_of_one_process_but_for_the_order_of_sums(work: Path, nursery: Nursery, ranks: int) -> None:
    alone(training(work, f"alone-{ranks}"))
    done = nursery.share(training(work, f"shared-{ranks}"), work / "train.log", ranks)
    assert done.codes == [0] * ranks, done.text
    assert done.text.count("train.csv: read 60, written 60") == 1  # what all read, the first one tells
    one, many = ([json.loads(line) for line in (work / f"{name}-{ranks}" / "history.jsonl").open()] for name in ("alone", "shared"))
    for here, there in zip(one, many, strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-6)  # dropout 0.1, drawn alike
    first, other = (load_file(work / f"{name}-{ranks}" / "model.safetensors") for name in ("alone", "shared"))
    assert all(np.allclose(first[name], other[name], atol=1e-5) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)  # or nothing was shared
    rows = [list(csv.DictReader((work / f"{name}-{ranks}" / "test_prediction.csv").open())) for name in ("alone", "shared")]
    assert [row["seq_id"] for row in rows[0]] == [row["seq_id"] for row in rows[1]]
    for here, there in zip(*rows, strict=True):
        assert float(there["prob"]) == pytest.approx(float(here["prob"]), abs=1e-5)


@pytest.mark.parametrize(("number", "call"), [(1, "all_reduce"), (0, "all_reduce")])
def test_a_training_of_which_one_is_killed_leaves_nothing(work: Path, nursery: Nursery, number: int, call: str) -> None:
    done = nursery.share(training(work, "killed"), work / "train.log", die={"rank": number, "call": call, "time": 6})
    assert done.codes[number] == -signal.SIGKILL
    assert done.codes[1 - number] == 2, done.text
    assert len(errors(done.text)) == 1
    assert not (work / "killed").exists()


def test_an_embedding_of_which_one_is_killed_goes_on(work: Path, nursery: Nursery) -> None:
    die = {"rank": 1, "call": "send", "time": 21}
    killed = nursery.share(embedding(work, "stopped", "--save-type", "numpy"), work / "embed.log", die=die)
    assert killed.codes == [2, -signal.SIGKILL], killed.text
    assert len(errors(killed.text)) == 1
    kept = len((work / "stopped" / "index.jsonl").read_text().splitlines())
    assert 0 < kept < 120
    assert nursery.share(embedding(work, "stopped", "--save-type", "numpy"), work / "embed.log").codes == [0, 0]
    alone(embedding(work, "undisturbed", "--save-type", "numpy"))
    stopped, undisturbed = StoreReader(work / "stopped"), StoreReader(work / "undisturbed")
    for number in range(120):
        assert np.allclose(stopped.read(f"p{number}"), undisturbed.read(f"p{number}"), atol=1e-5)


def test_help_is_printed_once(work: Path, nursery: Nursery) -> None:
    done = nursery.share(["baseline", "embed", "--help"], work / "help.log")
    assert done.codes == [0, 0]
    assert done.text.count("usage: llama-gene baseline embed") == 1


def test_what_all_of_them_find_wrong_is_said_once(work: Path, nursery: Nursery) -> None:
    for argv, message in (
        (embedding(work, "x", "--encoder", "no/such"), "no/such"),
        (embedding(work, "x", "--gpu-id", "7"), "no such GPU"),
        (training(work, "x", "schedule.learning_rate=1e30"), "the training diverged"),  # found by one, or by both
        (["convert", "tasks", "--cards", "all", "--source", "s", "--out", str(work / "x")], "works in one process, but 2 were started"),
        (["quickstart"], "works in one process, but 2 were started"),
    ):
        done = nursery.share(argv, work / "wrong.log")
        (said,) = errors(done.text)
        assert message in said
        assert 2 in done.codes
        assert 0 not in done.codes
        assert not (work / "x").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_a_test_record_that_one_process_cannot_read_costs_its_figures_alone(work: Path, nursery: Nursery, number: int) -> None:
    out = f"without-test-{number}"
    done = nursery.share(training(work, out), work / "train.log", die={"rank": number, "unreadable": "test"})
    assert done.codes == [2, 1]  # the first saves the head and says so; the other waits for it
    (said,) = errors(done.text)
    assert "test cannot be read" in said
    assert "the head is in" in said
    assert "test was not measured" in json.loads((work / out / "metrics.json").read_text())["notes"]
    assert nursery.share(prediction(work, out, f"{out}.csv"), work / "predict.log").codes == [0, 0]
