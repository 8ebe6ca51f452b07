"""`loss: bases` in whole runs: the switch at a step, the same after a kill, and what stays cross-entropy.

`golden_losses_of_bases.json` is recorded anew as `golden_losses.json` is (test_train.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_resume import assert_same
from test_train import history, losses

from artefacts.errors import UserError
from data_convert.corpus.pack import PackRecipe, Source, pack
from pretrain.recipe import PretrainRecipe, Spikes
from pretrain.train import preview, train
from pretrain.trainer import GeneTrainer, Guard
from tokenizer.encoders import read_encoders
from training.model import kmer_tables

GOLDEN = Path(__file__).with_name("golden_losses_of_bases.json")
STEPS, SWITCH, SAVE_EVERY = 14, 6, 4


@pytest.fixture(scope="module")
def make(make_recipe, corpus, kmers_folder, tmp_path_factory) -> Callable[..., PretrainRecipe]:
    """A recipe over blocks of DNA (triplets), protein (pairs) and text."""
    shards = tmp_path_factory.mktemp("kmers") / "shards"
    sources = [
        Source(modality=name, files=[corpus / f"{name}.train.{end}"], heldout_files=[corpus / f"{name}.heldout.{end}"])
        for name, end in (("dna", "fa"), ("protein", "fa"), ("text", "txt"))
    ]
    pack(PackRecipe(tokenizer=kmers_folder, out=shards, block_tokens=128, sources=sources))
    few = {"model": kmers_folder, "shards": shards, "steps": STEPS, "save_every": SAVE_EVERY, "evaluate_every": 7, "english": None}
    return lambda out, **more: make_recipe(out, **{**few, "sample_tokens": 0, "heldout_blocks": 4, "loss": "bases", **more})


@pytest.fixture(scope="module")
def whole(make, nursery, tmp_path_factory) -> Callable[..., Path]:
    """Folder of a run that nobody disturbed."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def run(**more) -> Path:
        name = "-".join(f"{key}={value}" for key, value in more.items()) or "bases"
        if name not in made:
            done = nursery.run(make(folder / name, **more))
            assert done.codes == [0], done.text[-3000:]
            made[name] = done.text
        (folder / name / "said.txt").write_text(made[name])
        return folder / name

    return run


def test_golden_losses_of_bases(whole):
    found = losses(whole())
    if os.environ.get("LLAMA_GENE_RECORD"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)
    assert np.mean(found[-3:]) < 0.9 * found[0]


def test_heldout_bits_fall_and_are_cross_entropy(whole):
    """Before any training both runs have one model, so one measure gives one number."""
    bases, tokens = (history(whole(**way), "heldout") for way in ({}, {"loss": "auto"}))
    assert bases[0] == tokens[0]
    assert bases[-1]["heldout"]["dna"] < bases[0]["heldout"]["dna"]
    assert bases[-1]["heldout"]["text"] < bases[0]["heldout"]["text"]
    # of a model that knows nothing, a triplet's cross-entropy is the log of all ids, the bases' together three times log 4
    assert bases[0]["heldout"]["dna"] > math.log2(64) / 3


def test_the_steps_before_the_switch_are_those_of_cross_entropy(whole):
    switched, tokens, bases = (losses(whole(**way)) for way in ({"bases_from": SWITCH}, {"loss": "auto"}, {}))
    assert switched[:SWITCH] == tokens[:SWITCH]
    assert switched[SWITCH] != tokens[SWITCH]
    assert tokens[0] != bases[0]
    said = (whole(bases_from=SWITCH) / "said.txt").read_text()
    assert said.count(f"step {SWITCH + 1}: from here on the loss is by bases") == 1


def test_a_run_killed_on_both_sides_of_the_switch_continues_exactly(whole, make, nursery, tmp_path):
    wanted = make(tmp_path / "model", bases_from=SWITCH)
    for step in (SWITCH + 1, 2 * SAVE_EVERY + 1):  # goes on from step 4 and from step 8
        assert nursery.run(wanted, die={"event": "step", "step": step}).codes == [-9]
    refused = nursery.run(wanted.model_copy(update={"bases_from": SWITCH - 1}))
    assert refused.codes == [2]
    assert f"with bases_from={SWITCH}, now it is {SWITCH - 1}" in refused.text
    assert nursery.run(wanted).codes == [0]
    assert_same(whole(bases_from=SWITCH), wanted.out)


@pytest.mark.parametrize(
    "way",
    [{"deepspeed": "zero3"}, {"deepspeed": None, "train": "lora", "rows": "all"}, {"train": "rows", "rows": "new", "precision": "bf16"}],
    ids=str,
)
def test_every_way_of_training(make, nursery, tmp_path, way):
    wanted = make(tmp_path / "model", steps=6, bases_from=2, **way)
    done = nursery.run(wanted)
    assert done.codes == [0], done.text[-3000:]
    assert all(map(math.isfinite, losses(wanted.out)))


def test_two_ranks_have_the_losses_of_one(whole, make, nursery, tmp_path):
    """The ranks switch together, and each counts its own share of k-mers and text."""
    wanted = make(tmp_path / "model", ranks=2, micro_batch=2, deepspeed="zero2", bases_from=SWITCH)
    done = nursery.run(wanted, ranks=2)
    assert done.codes == [0, 0], done.text[-3000:]
    assert losses(wanted.out) == pytest.approx(losses(whole(bases_from=SWITCH)), abs=1e-4)


def test_a_switch_after_the_last_step_is_refused(make, tmp_path):
    for command in (train, preview):
        with pytest.raises(UserError, match=rf"bases_from={STEPS}: the run has {STEPS} steps, none of them by bases"):
            command(make(tmp_path / "out", bases_from=STEPS))
    assert not list(tmp_path.iterdir())


def test_a_spike_is_one_among_losses_of_its_own_kind(make, tmp_path):
    """The window of the guard begins anew at the switch: another measure is no spike."""
    trainer = GeneTrainer.__new__(GeneTrainer)
    trainer.recipe = make(tmp_path / "out", bases_from=20)
    seen = []
    for done in (19, 20, 23):
        trainer.state = type("State", (), {"global_step": done})()
        seen.append([step for step in range(1, done + 1) if trainer._alike(step)])
    assert seen == [[*range(1, 20)], [], [21, 22, 23]]
    guard = Guard(Spikes(then="stop", window=8))
    assert not guard.is_spike(9.0, [1.0] * len(seen[1]))


def test_tables_are_read_from_the_tokenizer(kmers_folder):
    """RNA shares the k-mers of DNA, so there are two tables; each id is that of its letters."""
    dna, protein = kmer_tables(kmers_folder)
    assert (dna.k, dna.letters, protein.k, protein.letters) == (3, 4, 2, 20)
    encoders = read_encoders(kmers_folder)
    for table, modality, kmer, number in ((dna, "rna", "CUG", 16 + 3 * 4 + 2), (protein, "protein", "DY", 2 * 20 + 19)):
        assert encoders[modality].encode(kmer).tolist() == [table.ids[number]]
