"""What a run says of itself while it runs."""

from __future__ import annotations

import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pretrain.watch import HeldoutWatch, samples
from training.estimate import peak_of


def test_samples_leave_the_random_numbers_alone(extended_folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(extended_folder), AutoTokenizer.from_pretrained(extended_folder)
    model.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = samples(model, tokenizer, ["dna", "protein", "text"], 6, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert found == samples(model, tokenizer, ["dna", "protein", "text"], 6, seed=1)
    assert found != samples(model, tokenizer, ["dna", "protein", "text"], 6, seed=2)
    assert found["dna"].startswith("<dna>")
    assert found["text"].startswith("The")


def test_lines_while_it_runs(nursery, make_recipe, tmp_path):
    done = nursery.run(make_recipe(tmp_path / "model", steps=7, log_every=3, evaluate_every=4, sample_tokens=2))
    assert done.codes == [0], done.text[-3000:]
    lines = [line for line in done.text.splitlines() if re.match(r"step \d+/7: loss ", line)]
    assert [line.split("/")[0] for line in lines] == ["step 3", "step 6", "step 7"]
    form = r"step \d/7: loss \d\.\d{4}, lr \S+, [\d,]+ tokens/s \([\d,]+ with padding\), [\d.]+ GFLOP/s, left \d\d:\d\d:\d\d"
    assert all(re.fullmatch(form, line) for line in lines), lines
    shown = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in lines]
    every = [json.loads(line)["loss"] for line in (tmp_path / "model" / "history.jsonl").read_text().splitlines() if "loss" in line]
    assert shown == pytest.approx([sum(every[:3]) / 3, sum(every[3:6]) / 3, every[6]], abs=1e-4)
    heldout = [line for line in done.text.splitlines() if "held-out" in line]
    assert [line.split(":")[0] for line in heldout] == ["step 0", "step 4", "step 7"]
    assert all(f"{name} " in heldout[0] for name in ("dna", "protein", "text", "english"))
    assert len(re.findall(r"^  (dna|protein|text): ", done.text, flags=re.MULTILINE)) == 9


def test_a_file_stops_a_run(nursery, make_recipe, tmp_path):
    """As a Slurm script does it. The file of an earlier stop is removed at the start, else no run would get far."""
    work = tmp_path / "model.checkpoints"
    work.mkdir()
    (work / "stop").touch()
    done = nursery.run(make_recipe(tmp_path / "model", steps=3))
    assert done.codes == [0], done.text[-3000:]
    done = nursery.run(make_recipe(tmp_path / "other", steps=50), die={"event": "step", "step": 4, "touch": "stop"})
    assert done.codes == [143], done.text[-3000:]
    assert (tmp_path / "other.checkpoints" / "checkpoint-4").is_dir()


def test_history_keeps_what_the_report_draws():
    log = [
        {"step": 0, "heldout": {"dna": {"bits_per_letter": 2.0, "letters": 5}}},
        {"step": 1, "loss": 6.0, "grad_norm": 1.0, "learning_rate": 0.1, "tokens_per_second": 9.0, "seconds": 3.0, "epoch": 0.1},
        {"step": 1, "train_runtime": 3},
    ]
    assert HeldoutWatch.history(log) == [
        {"step": 0, "heldout": {"dna": 2.0}},
        {"step": 1, "loss": 6.0, "grad_norm": 1.0, "learning_rate": 0.1, "tokens_per_second": 9.0},
    ]


def test_peaks_by_name():
    assert peak_of("NVIDIA H200") == 989.4e12
    assert peak_of("NVIDIA L20") == 119.5e12
    assert peak_of("NVIDIA L40S") == 362e12
    assert peak_of("NVIDIA GeForce RTX 4090") == 165.2e12
    assert peak_of("Some Processor") is None
