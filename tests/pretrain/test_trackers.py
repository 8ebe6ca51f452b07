"""What the trackers were told is read back from their own files; nothing asks for a network."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from test_train import SHORT, history

pytest.importorskip("tensorboard")
pytest.importorskip("trackio")
TOLD = {"train/loss", "train/grad_norm", "train/learning_rate", "train/tokens_per_second", "train/real_tokens_per_second", "train/mfu"}


@pytest.fixture(scope="module")
def tracked(nursery, make_recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tracked") / "model"
    recipe = make_recipe(out, **{**SHORT, "evaluate_every": 3}, report_to=["tensorboard", "trackio"], peak_tflops=0.1)
    done = nursery.run(recipe, offline={"TRACKIO_DIR": str(out.with_name("trackio"))})
    assert done.codes == [0], done.text[-3000:]
    assert "NETWORK" not in done.text
    return out


def test_tensorboard_holds_every_step(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked.with_name("model.tensorboard")))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= TOLD
    of_run = history(tracked, "loss")
    for name in ("loss", "tokens_per_second", "mfu"):
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in of_run]
    bits = [(event.step, event.value) for event in events.Scalars("eval/dna_bits_per_base")]
    assert bits == [(line["step"], pytest.approx(line["heldout"]["dna"])) for line in history(tracked, "heldout")]


def test_trackio_keeps_a_folder_here(tracked):
    """The database that its dashboard reads."""
    (database,) = tracked.with_name("trackio").glob("*.db")
    with sqlite3.connect(database) as opened:
        lines = [json.loads(line) for (line,) in opened.execute("select metrics from metrics order by id")]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses == pytest.approx([line["loss"] for line in history(tracked, "loss")])
    assert any(line.keys() >= TOLD for line in lines)
    assert any("eval/dna_bits_per_base" in line for line in lines)


def test_mfu_only_where_the_peak_is_known(tracked, pretrained):
    assert all(line["mfu"] > 0 for line in history(tracked, "loss"))
    assert not history(pretrained, "mfu")  # a CPU, and no peak_tflops
