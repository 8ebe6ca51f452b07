"""Packed documents do not see each other, and every label is where it belongs."""

from __future__ import annotations

from typing import Any

import flash_stand_in
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from artefacts.errors import UserError
from pretrain.order import IGNORED, collate, unlearnt_ids
from training.loss import score_in_head

VOCAB, BLOCK, PAD = 60, 40, 0


def tiny_llama(attention: str) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=0.2,  # with the default 0.02 attention hardly matters, and a leak would hardly show
        attn_implementation="sdpa" if attention == flash_stand_in.NAME else attention,
    )
    model = LlamaForCausalLM(config).eval()
    if attention == flash_stand_in.NAME:
        flash_stand_in.put_into(model)
    return model


# on a CPU, flex attention is compiled first, for more than a minute and by g++: not run by us
FLEX = pytest.param("flex_attention", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="flex attention needs a GPU here"))
WAYS = ["sdpa", "eager", FLEX]


@pytest.fixture(scope="module", params=WAYS)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_llama(request.param)


def block(lengths: list[int], seed: int = 0) -> dict[str, Any]:
    """A block of random documents, padded, in the form of the shards."""
    ids = torch.randint(1, VOCAB, (sum(lengths),), generator=torch.Generator().manual_seed(seed)).tolist()
    return {"input_ids": ids + [PAD] * (BLOCK - len(ids)), "seq_lengths": lengths}


def documents(row: dict[str, Any]) -> list[tuple[int, list[int]]]:
    """(start, ids) of each document of a block."""
    starts = [sum(row["seq_lengths"][:index]) for index in range(len(row["seq_lengths"]))]
    return [(start, row["input_ids"][start : start + length]) for start, length in zip(starts, row["seq_lengths"], strict=True)]


def largest_difference(model: Any, rows: list[dict[str, Any]], **more: Any) -> float:
    """Between the logits of the packed rows and those of every document on its own."""
    batch = collate(rows)
    with torch.no_grad():
        packed_BTV = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False, **more).logits
        found = 0.0
        for index, row in enumerate(rows):
            for start, ids in documents(row):
                alone_TV = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
                found = max(found, (packed_BTV[index, start : start + len(ids)] - alone_TV).abs().max().item())
    return found


def test_packed_equals_separate(model):
    rows = [block([13, 1, 7, 12]), block([40], 1), block([3, 5], 2), block([20, 20], 3)]  # two padded, two full, one undivided
    assert largest_difference(model, rows) < 1e-5
    assert largest_difference(model, rows[:1]) < 1e-5


def test_an_attention_mask_would_break_isolation(model):
    rows = [block([13, 1, 7, 12]), block([20, 20], 3)]
    assert largest_difference(model, rows, attention_mask=torch.ones(2, BLOCK, dtype=torch.long)) > 0.05


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(1, 13), min_size=1, max_size=3), min_size=1, max_size=3), st.integers(0, 999))
def test_any_lengths_are_isolated(lengths, seed):
    model = tiny_llama("sdpa")
    assert largest_difference(model, [block(row, seed + index) for index, row in enumerate(lengths)]) < 1e-5


@given(st.lists(st.integers(1, 10), min_size=1, max_size=4), st.integers(0, 999))
def test_labels(lengths, seed):
    row = block(lengths, seed)
    batch = collate([row])
    expected = [IGNORED] * BLOCK
    for start, ids in documents(row):
        expected[start + 1 : start + len(ids)] = ids[1:]
    assert batch["labels"][0].tolist() == expected
    assert batch["input_ids"][0].tolist() == row["input_ids"]
    positions = [place for length in [*lengths, BLOCK - sum(lengths)] for place in range(length)]
    assert batch["position_ids"][0].tolist() == positions
    assert "attention_mask" not in batch


@pytest.mark.parametrize("attention", [*WAYS, flash_stand_in.NAME])
def test_the_loss_of_a_block_is_that_of_its_documents(attention):
    """Packed or each on its own: the same sum, so nothing is learnt across a border, nor lost at one."""
    model = tiny_llama(attention)
    score_in_head(model, "chunked")
    rows = [block([13, 1, 7, 12]), block([20, 20], 3)]
    with torch.no_grad():
        packed = model(**collate(rows))["loss"].item()
        alone = 0.0
        for row in rows:
            for _, ids in documents(row):
                single = {"input_ids": ids, "seq_lengths": [len(ids)]}
                alone += model(**collate([single]))["loss"].item()
    assert packed == pytest.approx(alone, rel=1e-5)


def test_tags_and_unknown_bases_are_read_but_not_learnt(extended_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(extended_folder)

    def learnt(text: str, kinds: list[str]) -> list[str]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        labels = collate([{"input_ids": ids, "seq_lengths": [len(ids)]}], unlearnt_ids(extended_folder, kinds))["labels"][0].numpy()
        return tokenizer.convert_ids_to_tokens([number for number in labels if number != IGNORED])

    text = "A <dna>ACGNNNNNNNNNACG</dna> and <protein>MNNNK</protein>"
    everything = learnt(text, [])
    without_n, without_tags, without_both = (learnt(text, kinds) for kinds in (["N"], ["tags"], ["N", "tags"]))
    tags = ["<dna>", "</dna>", "<protein>", "</protein>"]
    assert [token for token in everything if token in tags] == tags
    assert without_tags == [token for token in everything if token not in tags]
    assert [token for token in without_n if token in tags] == tags
    assert without_both == [token for token in without_n if token not in tags]
    protein = tokenizer("<protein>MNNNK</protein>", add_special_tokens=False).input_ids
    unlearnt = unlearnt_ids(extended_folder, ["N"])
    assert not np.isin(protein, unlearnt).any(), "N in a protein is asparagine"
    run = tokenizer("<dna>" + "N" * 30 + "</dna>", add_special_tokens=False).input_ids[1:-1]
    assert np.isin(run, unlearnt).all()
    assert not np.isin(tokenizer("<dna>ACGTRYACGT</dna>", add_special_tokens=False).input_ids, unlearnt).any()


def test_n_needs_an_alphabet_of_its_own(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="needs a tokenizer of `tokenizer extend`"):
        unlearnt_ids(tmp_path, ["N"])
