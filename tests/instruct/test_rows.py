"""Rows of a run: whole records, each as often as it should be, isolated from their neighbours; and the loss over them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import flash_stand_in
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from artefacts.errors import Ledger
from instruct.tune.encode import Encoded, encode
from instruct.tune.recipe import InstructRecipe
from instruct.tune.rows import OPEN_ROWS, PackedRows, order_of, plan, weights_of
from instruct.tune.tune import AnswerTrainer
from training.loss import IGNORED, score_in_head
from training.recipe import shared_arguments


def arguments(recipe: InstructRecipe) -> SFTConfig:
    """Of a run of one step."""
    return SFTConfig(**shared_arguments(recipe, 1, 1), max_length=None, dataset_kwargs={"skip_prepare_dataset": True})


TASKS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60)


@given(TASKS, st.integers(0, 9), st.integers(1, 3), st.integers(1, 8), st.booleans(), st.data())
def test_a_run_holds_every_record_of_its_epochs(tasks, seed, epochs, per_step, packing, data):
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=len(tasks), max_size=len(tasks)))
    order = order_of(tasks, False, seed)
    rows = plan(order, lengths, epochs * len(tasks), per_step, 20 if packing else None)
    assert len(rows) % per_step == 0
    assert all(rows)
    counts = Counter(record for row in rows for record in row)
    assert min(counts[record] for record in range(len(tasks))) >= epochs
    # what is more fills the last step
    assert sum(counts.values()) - epochs * len(tasks) < per_step * (20 if packing else 1) + OPEN_ROWS
    assert all(sum(lengths[record] for record in row) <= 20 for row in rows)
    assert rows == plan(order_of(tasks, False, seed), lengths, epochs * len(tasks), per_step, 20 if packing else None)


def test_packing_leaves_little_room_and_other_seeds_other_rows():
    draw = np.random.default_rng(0)
    lengths = draw.integers(20, 200, 4000).tolist()
    rows = plan(order_of(["a"] * 4000, False, 0), lengths, 4000, 4, 512)
    assert sum(lengths) / (512 * len(rows)) > 0.97
    assert rows != plan(order_of(["a"] * 4000, False, 1), lengths, 4000, 4, 512)


def test_tasks_are_spread_evenly_and_equally_when_balanced():
    tasks = ["a"] * 300 + ["b"] * 60
    for balance, share in ((False, 1 / 6), (True, 1 / 2)):
        order = order_of(tasks, balance, 0)
        assert order.size == 360
        for start in range(0, 720, 36):
            found = sum(tasks[order[place]] == "b" for place in range(start, start + 36))
            assert abs(found - 36 * share) <= 2


def test_steps_override_the_records():
    assert len(plan(order_of(["a"] * 5, False, 0), [3] * 5, 5, 4, None, steps=7)) == 28


@pytest.fixture(scope="module")
def encoded(records: Path, extended_folder: Path) -> Encoded:
    return encode(AutoTokenizer.from_pretrained(extended_folder), records / "train.jsonl", 128, Ledger())


@pytest.mark.parametrize("attention", ["sdpa", "eager", flash_stand_in.NAME])
def test_packed_equals_separate(encoded, extended_folder, attention):
    """Loss and gradients of records in one row are those of each alone; a row that let them see each other would differ."""
    stood_in = attention == flash_stand_in.NAME
    model = AutoModelForCausalLM.from_pretrained(extended_folder, attn_implementation="sdpa" if stood_in else attention)
    if stood_in:
        flash_stand_in.put_into(model)
    score_in_head(model, "chunked")
    groups, found = ([[0, 25, 7], [30, 3]], [[0], [25], [7], [30], [3]]), []
    for rows in groups:
        packed = PackedRows(encoded, rows, None, 0)
        batch = packed.collate([packed[place] for place in range(len(rows))])
        model.zero_grad()
        model(**batch)["loss"].backward()
        with torch.no_grad():
            each = model(**batch, each=True)["loss"]
        found.append((each, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-3, atol=1e-5)


def test_weights_make_alike_what_they_should(encoded):
    order = order_of(encoded.tasks, False, 0)
    lengths = np.array(encoded.answer_tokens)
    assert weights_of(encoded, order, "token") is None
    assert len(set(lengths)) > 1
    np.testing.assert_allclose(np.array(weights_of(encoded, order, "record")) * lengths, 1)
    tasks = np.array(encoded.tasks)
    shares = np.array(weights_of(encoded, order, "task")) * lengths
    assert shares[tasks == "sim/promoter"].sum() == pytest.approx(shares[tasks == "sim/stability"].sum())
    # tokens of one task count alike
    assert len({round(weight, 9) for weight, task in zip(weights_of(encoded, order, "task"), tasks, strict=True) if task == tasks[0]}) == 1


@pytest.mark.parametrize("loss_per", ["token", "record", "task"])
def test_a_step_is_the_same_however_it_is_cut_and_equals_the_plain_formula(encoded, extended_folder, make_tuning, tmp_path, loss_per):
    """8 rows at once, or 2 x 4 by accumulation, or packed: one gradient, that of the weighted mean written out."""
    order = order_of(encoded.tasks, False, 0)
    weights = weights_of(encoded, order, loss_per)
    chosen = [order[place] for place in range(8)]
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    found = []
    for rows, passes in (([[record] for record in chosen], 1), ([[record] for record in chosen], 4), ([chosen[:5], chosen[5:]], 1)):
        recipe = make_tuning(
            tmp_path / "out", train="all", rows="all", loss_per=loss_per, micro_batch=len(rows) // passes, accumulation=passes
        )
        trainer = AnswerTrainer(
            recipe, {}, PackedRows(encoded, rows, weights, tokenizer.pad_token_id), None, tokenizer,
            model=AutoModelForCausalLM.from_pretrained(extended_folder), args=arguments(recipe),
        )  # fmt: skip
        batches, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), passes, torch.device("cpu"))
        total = sum(trainer.training_step(trainer.model, dict(batch), count) for batch in batches)
        found.append((float(total), trainer.model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    plain = AutoModelForCausalLM.from_pretrained(extended_folder)
    numerator, denominator = torch.zeros(()), 0.0
    for record in chosen:
        ids = torch.tensor(encoded.ids[record].astype(np.int64))
        start, weight = encoded.starts[record], 1.0 if weights is None else weights[record]
        logits = plain(ids[None]).logits[0, start - 1 : -1]
        numerator = numerator + weight * F.cross_entropy(logits, ids[start:], reduction="sum")
        denominator += weight * (len(ids) - start)
    loss = numerator / denominator
    loss.backward()
    for value, gradient in found:
        assert value == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(gradient, plain.model.layers[0].mlp.up_proj.weight.grad, rtol=1e-3, atol=1e-6)


def test_loss_and_gradients_equal_trls(encoded, extended_folder, make_tuning, tmp_path):
    """TRL's own trainer on the same three records, padded by its own collator."""
    chosen = [0, 26, 5]
    adapter = partial(
        LoraConfig, r=4, target_modules=["q_proj", "up_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    )
    labels = [[IGNORED] * encoded.starts[record] + encoded.ids[record][encoded.starts[record] :].tolist() for record in chosen]
    data = Dataset.from_dict({"input_ids": [encoded.ids[record] for record in chosen], "labels": labels})
    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    recipe = make_tuning(tmp_path / "out", micro_batch=3)
    ours = AnswerTrainer(
        recipe, {}, PackedRows(encoded, [[record] for record in chosen], None, tokenizer.pad_token_id), None, tokenizer,
        model=AutoModelForCausalLM.from_pretrained(extended_folder), args=arguments(recipe), peft_config=adapter(),
    )  # fmt: skip
    theirs = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(extended_folder), train_dataset=data, peft_config=adapter(),
        processing_class=tokenizer,
        args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=3, report_to="none"),
    )  # fmt: skip
    found = []
    for trainer in (ours, theirs):
        torch.manual_seed(0)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:  # zero at the start, which would hide the gradient of A
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
            elif "lora_A" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name) + 1))
        batches, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, torch.device("cpu"))
        loss = trainer.compute_loss(trainer.model, dict(batches[0]), num_items_in_batch=count)
        loss.backward()
        found.append((loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1].keys() == found[1][1].keys()
    assert any("lora_A" in name for name in found[0][1])
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-3, atol=1e-6)
