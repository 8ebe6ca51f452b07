"""Held-out bits per letter against a plain loop over separate documents."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from artefacts.errors import UserError
from pretrain.bits import ENGLISH, english_blocks, groups, heldout_bits, name_sources
from training.english import paragraphs
from training.loss import score_in_head

VOCAB, BLOCK = 50, 32
PAD, BOS, OPEN, CLOSE, EOS = range(5)
SILENT = [PAD, BOS, OPEN, CLOSE, EOS]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config)
    score_in_head(model, "chunked")
    return model


def row(modality: str, lengths: list[int], letters: list[int], seed: int) -> dict[str, Any]:
    """Documents of BOS <tag> pieces </tag> EOS, padded to a block."""
    draw = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    for length in lengths:
        ids += [BOS, OPEN, *torch.randint(5, VOCAB, (length - 4,), generator=draw).tolist(), CLOSE, EOS]
    ids += [PAD] * (BLOCK - len(ids))
    return {"input_ids": ids, "seq_lengths": lengths, "letters": letters, "modality": modality}


ROWS = [
    row("dna", [12, 9], [31, 17], 0),
    row("protein", [20], [33], 1),
    row("dna", [32], [90], 2),
    row("dna", [6, 6, 6], [5, 4, 3], 3),
    row("text", [10, 12], [40, 44], 4),
]


def by_hand(model: Any, modality: str) -> tuple[float, int, int, int]:
    """Bits per letter, letters, documents and counted tokens of one modality, document by document."""
    nats, letters, documents, tokens = 0.0, 0, 0, 0
    model.eval()
    for block in ROWS:
        if block["modality"] != modality:
            continue
        start = 0
        for length, spelt in zip(block["seq_lengths"], block["letters"], strict=True):
            ids = block["input_ids"][start : start + length]
            with torch.no_grad():
                logits_TV = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            for place in range(1, length):
                if ids[place] not in SILENT:
                    nats += F.cross_entropy(logits_TV[place - 1], torch.tensor(ids[place])).item()
                    tokens += 1
            start, letters, documents = start + length, letters + spelt, documents + 1
    return nats / math.log(2) / letters, letters, documents, tokens


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_equals_separate_documents(model, batch):
    model.train()
    found = heldout_bits(model, ROWS, SILENT, batch)
    assert model.training, "the measurement must leave the model in training mode"
    assert list(found) == ["dna", "protein", "text"]
    for modality, value in found.items():
        bits, letters, documents, _ = by_hand(model, modality)
        assert value["bits_per_letter"] == pytest.approx(bits, rel=1e-5)
        assert (value["letters"], value["documents"]) == (letters, documents)
    assert found["dna"]["bound"] == 2.0
    assert [found[name]["unit"] for name in found] == ["base", "residue", "byte"]


def test_a_uniform_model(model):
    """Nothing but the letters' tokens counts: every one costs log2(V) bits."""
    torch.nn.init.zeros_(model.lm_head.weight)
    for modality, value in heldout_bits(model, ROWS, SILENT, 2).items():
        _, letters, _, tokens = by_hand(model, modality)
        assert value["bits_per_letter"] == pytest.approx(math.log2(VOCAB) * tokens / letters, rel=1e-6)


def test_sources_are_told_apart_where_the_shards_name_them(model):
    rows = [{**block, "sources": [f"s{place % 2}" for place in range(len(block["letters"]))]} for block in ROWS]
    found = heldout_bits(model, rows, SILENT, 2)
    assert [name for name in found if name.startswith("dna")] == ["dna", "dna/s0", "dna/s1"]
    parts = [found["dna/s0"], found["dna/s1"]]
    for name in ("letters", "documents"):
        assert found["dna"][name] == sum(part[name] for part in parts)
    whole = sum(part["bits_per_letter"] * part["letters"] for part in parts) / found["dna"]["letters"]
    assert found["dna"]["bits_per_letter"] == pytest.approx(whole)
    assert found["dna/s1"]["unit"] == "base"
    assert found["dna"] == pytest.approx(heldout_bits(model, ROWS, SILENT, 2)["dna"])
    assert groups(ROWS[0]) == [["dna"], ["dna"]]


def test_sources_get_the_names_of_their_files():
    rows: list[dict[str, Any]] = [
        {"modality": "dna", "files": [0, 2]},
        {"modality": "dna", "files": [2]},
        {"modality": "text", "files": [1]},
    ]
    name_sources(rows, ["data/a.fa", "b.txt", "data/c.fa"])
    assert [row.get("sources") for row in rows] == [["a.fa", "c.fa"], ["c.fa"], None]
    name_sources(rows, ["data/a.fa", "b.txt", "more/a.fa"])
    assert rows[0]["sources"] == ["data/a.fa", "more/a.fa"]
    plain: list[dict[str, Any]] = [{"modality": "dna"}]
    name_sources(plain, None)
    name_sources(plain, ["a.fa"])
    assert "sources" not in plain[0]


@pytest.mark.parametrize("block", [48, 128, 4096])
def test_the_fixed_english_text_is_cut_but_not_lost(extended_folder, block):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(extended_folder)
    rows = english_blocks(tokenizer, "english", block)
    parts = paragraphs("english")
    assert {len(row["input_ids"]) for row in rows} == {block}
    assert {row["modality"] for row in rows} == {ENGLISH}
    found: list[int] = []
    for row in rows:
        start = 0
        for length in row["seq_lengths"]:
            assert row["input_ids"][start] == tokenizer.bos_token_id
            found += row["input_ids"][start + 1 : start + length]
            start += length
    assert found == [token for part in parts for token in tokenizer(part, add_special_tokens=False).input_ids]
    assert sum(sum(row["letters"]) for row in rows) == sum(len(part.encode()) for part in parts)
    with pytest.raises(UserError, match="neither a file nor one of english"):
        english_blocks(tokenizer, "latin", block)
