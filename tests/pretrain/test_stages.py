"""Stages of a run: a run that is killed on either side of a border goes on as if it had not been."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import Nursery
from test_resume import assert_same
from test_train import history
from transformers import AutoConfig, AutoModelForCausalLM

from artefacts.errors import UserError
from data_convert.corpus.pack import PackRecipe, Source, pack
from pretrain.order import BlockOrder, OrderedBlocks, Stretch
from pretrain.recipe import Mixture, PretrainRecipe, Stage
from pretrain.stages import rates
from pretrain.train import preview
from training.checkpoints import newest_complete

THETA = 40_000.0
NAMES = ("dna", "protein", "text")


@pytest.fixture(scope="module")
def long_shards(tmp_path_factory, corpus, extended_folder):
    """Blocks twice as long as those of the other shards, of DNA alone."""
    folder = tmp_path_factory.mktemp("long")
    out, letters = folder / "shards", "".join((corpus / "dna.train.fa").read_text().splitlines()[1::2])
    records = (letters[start : start + 720] for start in range(0, len(letters), 720))
    (folder / "long.fa").write_text("".join(f">{number}\n{record}\n" for number, record in enumerate(records)))
    source = Source(modality="dna", files=[folder / "long.fa"], heldout_files=[corpus / "dna.heldout.fa"])
    pack(PackRecipe(tokenizer=extended_folder, out=out, block_tokens=256, sources=[source]))
    return out


@pytest.fixture(scope="module")
def make_staged(make_recipe, long_shards):
    """Two mixtures, then longer blocks with another rotary base: borders behind steps 5 and 9."""

    def make(out, **more):
        stages = [
            {"steps": 5, "share": {"dna": 1}},
            {"tokens": 4 * 4 * 128, "share": {"text": 1, "protein": 1}, "learning_rate": 5e-3},
            {"steps": 4, "shards": str(long_shards), "rope_theta": THETA, "share": {"dna": 1}},
        ]
        few = {"sample_tokens": 0, "heldout_blocks": 2, "english": None, "save_every": 3, "evaluate_every": 99, "weight_decay": 0.5}
        few |= {"steps": None, "stages": stages, "schedule": "warmup_stable_decay", "embedding_learning_rate": 2e-2}
        return make_recipe(out, **{**few, **more})

    return make


WAYS = {"zero1": {}, "plain-lora": {"deepspeed": None, "train": "lora", "lora": {"dropout": 0.2}}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_staged, nursery: Nursery):
    folder = tmp_path_factory.mktemp("whole")
    for way, more in WAYS.items():
        done = nursery.run(make_staged(folder / way, **more))
        assert done.codes == [0], done.text[-3000:]
    return folder


@pytest.mark.parametrize(("way", "step", "saved"), [("zero1", 5, 3), ("zero1", 7, 6), ("zero1", 10, 9), ("plain-lora", 10, 9)])
def test_killed_on_either_side_of_a_border(nursery, make_staged, whole, tmp_path, way, step, saved):
    """Resumed before a border, between two, and from a checkpoint that is on one."""
    wanted = make_staged(tmp_path / "model", **WAYS[way])
    assert nursery.run(wanted, die={"event": "step", "step": step}).codes == [-9]
    newest = newest_complete(tmp_path / "model.checkpoints")
    assert newest is not None
    assert newest.name == f"checkpoint-{saved}"
    done = nursery.run(wanted)
    assert done.codes == [0], done.text[-3000:]
    assert_same(whole / way, wanted.out)


@pytest.mark.parametrize("way", WAYS)
def test_the_result_has_the_last_base_and_context(whole, extended_folder, way):
    before, after = (AutoConfig.from_pretrained(folder) for folder in (extended_folder, whole / way))
    assert before.rope_parameters["rope_theta"] != THETA
    assert after.rope_parameters["rope_theta"] == THETA
    assert after.max_position_embeddings == max(256, before.max_position_embeddings)
    model = AutoModelForCausalLM.from_pretrained(whole / way)
    size = 2 * len(model.model.rotary_emb.inv_freq)
    expected = THETA ** (-torch.arange(0, size, 2) / size)
    assert torch.allclose(model.model.rotary_emb.inv_freq, expected, rtol=1e-5)


def test_what_was_read_and_measured(whole):
    losses = json.loads((whole / "zero1" / "losses.json").read_text())
    assert losses["steps"] == 13
    assert losses["tokens"] == 9 * 4 * 128 + 4 * 4 * 256
    assert losses["blocks"]["dna"] == 9 * 4
    assert [line["step"] for line in history(whole / "zero1", "heldout")] == [0, 5, 9, 13], "at every border"
    rate = [line["learning_rate"] for line in history(whole / "zero1", "loss")]
    assert rate[4] == pytest.approx(2 * rate[5])
    assert rate[10] > rate[11] > rate[12] > 0


def test_one_stage_is_the_run_without(nursery, make_staged, tmp_path):
    for name, more in (("with", {"stages": [{"steps": 4}]}), ("without", {"stages": [], "steps": 4})):
        done = nursery.run(make_staged(tmp_path / name, schedule="cosine", deepspeed=None, **more))
        assert done.codes == [0], done.text[-3000:]
    assert_same(tmp_path / "with", tmp_path / "without")


def test_another_plan_is_refused(nursery, make_staged, tmp_path):
    wanted = make_staged(tmp_path / "model")
    assert nursery.run(wanted, die={"event": "step", "step": 4}).codes == [-9]
    other = [*wanted.stages[:2], wanted.stages[2].model_copy(update={"rope_theta": 1e6})]
    refused = nursery.run(wanted.model_copy(update={"stages": other}))
    assert refused.codes == [2]
    assert "holds checkpoints of a run with stages=" in refused.text


def test_the_plan_is_drawn(make_staged, tmp_path, capsys):
    wanted = make_staged(tmp_path / "model")
    preview(wanted)
    there = capsys.readouterr().out
    assert "steps: 13" in there
    rows = [line.split("  ") for line in there.splitlines() if line[:1].isdigit() and "RoPE" not in line]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[:3] for row in rows] == [["1", "1-5", "2,560"], ["2", "6-9", "2,048"], ["3", "10-13", "4,096"]]
    assert rows[0][3] == rows[2][3] == "dna 100.0 %"
    assert rows[1][3].startswith("protein ")
    assert [row[-1] for row in rows] == ["the model's", "the model's", "40,000"]
    assert rows[2][5] == "1.00e-02 to 2.50e-03"
    preview(wanted.model_copy(update={"shards": tmp_path / "absent"}))
    absent = capsys.readouterr().out
    assert "nothing was checked against them" in absent
    assert "protein 50.0 %, text 50.0 %" in absent.replace("text 50.0 %, protein 50.0 %", "protein 50.0 %, text 50.0 %")


def test_longer_blocks_need_another_base(make_staged, extended_folder, long_shards, tmp_path):
    model = tmp_path / "short"
    shutil.copytree(extended_folder, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 128}))
    wanted = make_staged(tmp_path / "out", model=model)
    preview(wanted)
    without = [*wanted.stages[:2], wanted.stages[2].model_copy(update={"rope_theta": None})]
    with pytest.raises(UserError, match=r"the longest document has 2\d\d tokens, the model's context is 128"):
        preview(wanted.model_copy(update={"stages": without}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stages": [{"steps": 3, "tokens": 9}]}, "steps or tokens, one of the two"),
        ({"stages": [{"steps": 3}], "steps": 3}, "the stages say when what begins and ends; leave steps out"),
        ({"stages": [{"steps": 3}], "schedule": "warmup_stable_decay"}, "give two or more"),
        ({"schedule": "warmup_stable_decay", "decay": 0.9, "warmup": 0.2}, "more than the whole run"),
    ],
)
def test_plans_that_contradict_themselves(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        PretrainRecipe(model=tmp_path, shards=tmp_path, out=tmp_path / "out", **more)


@given(st.integers(2, 60), st.integers(1, 60), st.floats(0, 0.3), st.floats(0.1, 3))
@settings(max_examples=30)
def test_warm_up_stable_decay(tmp_path_factory, stable, decay, warmup, ratio):
    """Up along a line, then what each stage says, then down along a line to nothing behind the last step."""
    folder = tmp_path_factory.getbasetemp()
    stages = [Stage(steps=stable), Stage(steps=decay, learning_rate=1e-3 * ratio)]
    recipe = PretrainRecipe(
        model=folder, shards=folder, out=folder / "o", stages=stages, schedule="warmup_stable_decay", warmup=warmup, learning_rate=1e-3
    )
    steps = stable + decay
    factor = rates(recipe, steps).lr_lambdas[0]
    rising = int(np.ceil(steps * warmup))
    for step in range(steps):
        scale = ratio if step >= stable else 1
        if step < rising:
            expected = scale * step / rising
        elif rising <= stable:
            expected = scale * (1 if step < stable else (steps - step) / decay)
        else:
            continue
        assert factor(step) == pytest.approx(expected)


@given(
    st.fixed_dictionaries({name: st.integers(1, 20) for name in NAMES}),
    st.lists(st.tuples(st.integers(1, 30), st.fixed_dictionaries({name: st.floats(0.1, 5) for name in NAMES})), min_size=1, max_size=4),
)
def test_a_stage_goes_on_where_the_last_one_stopped(blocks, plan):
    """No block is read twice before all of its modality were read, whatever the stages."""
    modalities = np.array([name for name, count in blocks.items() for _ in range(count)])
    stretches, start, read = [], 0, Counter[str]()
    for length, share in plan:
        order = BlockOrder(modalities, np.full(len(modalities), 100), Mixture(share=share), 0, read)
        stretches.append(Stretch(start, list(range(len(modalities))), order, 128))
        read.update(order.consumed(length))
        start += length
    found = OrderedBlocks(stretches, start)
    times = Counter(found[position] for position in range(start))
    assert found.consumed(start) == dict(read)
    assert found.room_between(0, start) == {128: 128 * start}
    for name in NAMES:
        of_name = [times[row] for row in np.flatnonzero(modalities == name).tolist()]
        assert sum(of_name) == read[name]
        assert max(of_name) - min(of_name) <= 1
    for position in range(start):
        here = Counter(modalities[found[place]] for place in range(position))
        assert {name: count for name, count in found.consumed(position).items() if count} == dict(here)
