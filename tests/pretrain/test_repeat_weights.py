"""Weights of repeats: from a soft-masked file into the shards, into the batch, and honoured by every loss."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from data_convert.corpus.documents import Document
from data_convert.corpus.encode import Encoder
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.shards import COLUMNS, load_shards
from pretrain.bits import count_parts, heldout_bits
from pretrain.order import collate
from tokenizer.encoders import read_encoders
from training.loss import IGNORED, KmerTable, score_in_head
from training.trainer import RunTrainer

WEIGHT = 0.1


def masked(letters: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    text = ""
    while len(text) < letters:
        run = "".join(draw.choices("ACGT", k=draw.randint(1, 9)))
        text += run.lower() if draw.random() < 0.5 else run
    return text[:letters]


def by_letter(text: str, ids: list[int], public: Tokenizer) -> list[float]:
    """The weight of each token, letter by letter, as the tokenizer decodes it; tags and ends of documents count whole."""
    place, found = 0, []
    for number in ids:
        token = public.decode([number], skip_special_tokens=False).strip()
        if not (set(token) <= set("ACGTN")):
            found.append(1.0)
            continue
        letters = text[place : place + len(token)]
        place += len(token)
        found.append(sum(WEIGHT if letter.islower() else 1.0 for letter in letters) / len(letters))
    assert place == len(text)
    return found


@pytest.mark.parametrize("folder", ["extended_folder", "kmers_folder"])
@pytest.mark.parametrize("words", ["", "E. coli, gene: "])
def test_a_token_weighs_what_its_letters_do(folder: str, words: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(folder)
    encoder, public = Encoder(path, {"dna"}, 64), Tokenizer.from_file(str(path / "tokenizer.json"))
    text = masked(400)
    repeats = "".join("01"[letter.islower()] for letter in text).encode()
    (fragments,) = encoder.encode([Document("x", "dna", text.upper(), words=words, repeats=repeats)], WEIGHT)
    assert fragments is not None
    assert len(fragments) > 2
    place = 0
    for fragment in fragments:
        assert fragment.weights is not None
        here = text[place : place + fragment.letters]
        at = fragment.ids.tolist().index(public.token_to_id("<dna>"))
        assert fragment.weights[:at].tolist() == [1.0] * at
        assert fragment.weights[at:].tolist() == pytest.approx(by_letter(here, fragment.ids[at:].tolist(), public))
        place += fragment.letters
    assert place == len(text)


@pytest.fixture(scope="module")
def shards(kmers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "a.fa").write_text("".join(f">a{number}\n{masked(150, number)}\n" for number in range(20)))
    (folder / "b.fa").write_text("".join(f">b{number}\n{masked(150, 100 + number).upper()}\n" for number in range(20)))
    (folder / "p.fa").write_text("".join(f">p{number}\n{'MKVLAW' * (number + 3)}\n" for number in range(20)))
    sources = [
        Source(modality="dna", files=[folder / "a.fa"], repeat_weight=WEIGHT, heldout_share=0.2),
        Source(modality="dna", files=[folder / "b.fa"], heldout_share=0.2),
        Source(modality="protein", files=[folder / "p.fa"], heldout_share=0.2),
    ]
    pack(PackRecipe(tokenizer=kmers_folder, out=folder / "out", block_tokens=128, sources=sources, verify=True))
    return folder


def test_shards_carry_them(shards: Path, kmers_folder: Path) -> None:
    public = Tokenizer.from_file(str(kmers_folder / "tokenizer.json"))
    texts = {f"a{number}": masked(150, number) for number in range(20)} | {
        f"b{number}": masked(150, 100 + number).upper() for number in range(20)
    }
    met = set()
    for row in load_shards(shards / "out", "train"):
        if row["modality"] == "protein":
            assert row["weights"] == []
            continue
        ends = np.cumsum(row["seq_lengths"])
        if row["weights"] == []:
            assert all(name.startswith("b") for name in row["ids"])
            continue
        assert len(row["weights"]) == 128
        for name, ids, weights in zip(row["ids"], np.split(row["input_ids"], ends), np.split(row["weights"], ends), strict=False):
            assert weights.tolist() == pytest.approx(by_letter(texts[name], ids.tolist(), public))
            met.add(name[0])
    assert met == {"a", "b"}


def test_plain_shards_are_as_they_were(shards: Path, kmers_folder: Path, tmp_path: Path) -> None:
    pack(PackRecipe(tokenizer=kmers_folder, out=tmp_path / "out", sources=[Source(modality="dna", files=[shards / "a.fa"])]))
    assert tuple(load_shards(tmp_path / "out", "train").column_names) == COLUMNS


def model_of(folder: Path, way: str) -> tuple[Any, list[KmerTable]]:
    encoder: Any = read_encoders(folder, ["dna"])["dna"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() + 8,
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64, initializer_range=0.2,
    )  # fmt: skip
    model, tables = LlamaForCausalLM(config), [KmerTable(encoder.k, 4, encoder.kmer_ids.astype(np.int64))]
    score_in_head(model, way, tables)
    return model, tables


@pytest.mark.parametrize("way", ["full", "chunked", "bases"])
def test_every_loss_honours_them(shards: Path, kmers_folder: Path, way: str) -> None:
    """Against each label by itself: the weighted sum, and its gradient."""
    model, _ = model_of(kmers_folder, "chunked" if way == "bases" else way)
    rows = [row for row in load_shards(shards / "out", "train") if row["weights"]][:1]
    rows += [row for row in load_shards(shards / "out", "train") if row["modality"] == "protein"][:1]
    batch = collate(rows)
    weights = batch.pop("weights")
    loss = model(**batch, weights=weights, bases=way == "bases")["loss"]
    loss.backward()
    gradient = model.model.embed_tokens.weight.grad.clone()
    model.zero_grad()
    expected = torch.zeros(())
    for row, place in (batch["labels"] != IGNORED).nonzero().tolist():
        alone = torch.full_like(batch["labels"], IGNORED)
        alone[row, place] = batch["labels"][row, place]
        part = model(**{**batch, "labels": alone}, bases=way == "bases")["loss"] * weights[row, place]
        part.backward()
        expected += part.detach()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(gradient, model.model.embed_tokens.weight.grad, atol=1e-4)
    if way != "bases":  # and against torch itself
        logits = model(input_ids=batch["input_ids"][:1, : rows[0]["seq_lengths"][0]]).logits[0]
        size = rows[0]["seq_lengths"][0]
        each = F.cross_entropy(logits[:-1], torch.tensor(rows[0]["input_ids"][1:size]), reduction="none")
        only = {**batch, "labels": batch["labels"].clone()}
        only["labels"][0, size:] = only["labels"][1] = IGNORED
        assert float(model(**only, weights=weights)["loss"]) == pytest.approx(float((each * weights[0, 1:size]).sum()), rel=1e-5)


def test_a_step_is_divided_by_the_weights_of_what_is_learnt(shards: Path) -> None:
    rows = [row for row in load_shards(shards / "out", "train") if row["modality"] == "dna"][:3]
    silent = np.array(sorted({rows[0]["input_ids"][1], rows[0]["input_ids"][4]}))
    batch = collate(rows, silent)
    by_hand = sum(
        weight
        for row in rows
        for weight, number, first in zip(row["weights"] or [1.0] * 128, row["input_ids"], firsts(row), strict=True)
        if number not in silent and not first
    )
    trainer: Any = SimpleNamespace(args=SimpleNamespace(world_size=1))
    counted = RunTrainer._get_num_items_in_batch(trainer, [batch], torch.device("cpu"))
    assert float(counted) == pytest.approx(by_hand, rel=1e-6)


def firsts(row: dict[str, Any]) -> list[bool]:
    """Whether each token is the first of its document, or padding."""
    found = [True] * len(row["input_ids"])
    place = 0
    for length in row["seq_lengths"]:
        found[place + 1 : place + length] = [False] * (length - 1)
        place += length
    return found


def test_measures_do_not_weigh(shards: Path, kmers_folder: Path) -> None:
    model, _ = model_of(kmers_folder, "chunked")
    rows = [row for row in load_shards(shards / "out", "heldout") if row["modality"] == "dna"]
    silent = list(Tokenizer.from_file(str(kmers_folder / "tokenizer.json")).get_added_tokens_decoder())
    plain = [{**row, "weights": []} for row in rows]
    assert any(row["weights"] for row in rows)
    assert heldout_bits(model, rows, silent, 2) == heldout_bits(model, plain, silent, 2)


def test_parts_of_mixed_documents_and_no_words_among_bases(kmers_folder: Path) -> None:
    """Each part's bits, token by token; the words before a sequence count for nothing."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(kmers_folder))
    encoder, letters = Encoder(kmers_folder, {"dna", "protein", "mixed"}, 128), "ACGTTGCAGG" * 6
    texts = [
        Document("a", "mixed", f"naïve <dna>{letters}</dna> makes <protein>MKVLAWS</protein>."),
        Document("b", "mixed", f"<protein>MKVLLL</protein> of <dna>{letters[:31]}</dna>"),
        Document("c", "dna", letters, words="E. coli: "),
    ]
    found = [fragment for of in encoder.encode(texts) for fragment in of or []]
    pad = [encoder.pad] * 128
    rows = [
        {"input_ids": (ids := [n for part in parts for n in part.ids.tolist()]) + pad[len(ids) :], "modality": modality,
         "seq_lengths": [len(part.ids) for part in parts], "letters": [part.letters for part in parts]}
        for modality, parts in (("mixed", found[:2]), ("dna", found[2:]))
    ]  # fmt: skip
    count_parts(rows, tokenizer)
    assert rows[0]["letters_of_parts"] == [{"text": 6 + 8 + 1, "dna": 60, "protein": 7}, {"text": 4, "dna": 31, "protein": 6}]
    model, _ = model_of(kmers_folder, "chunked")
    silent = [number for number, token in tokenizer.added_tokens_decoder.items()]
    bits = heldout_bits(model, rows, silent, 2)
    nats: dict[str, float] = {}
    for row, names in zip(rows, ({}, {"dna": "dna"}), strict=True):
        place = 0
        for length in row["seq_lengths"]:
            ids = row["input_ids"][place : place + length]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0]
            inside = "text"
            for at, number in enumerate(ids):
                tag = tokenizer.convert_ids_to_tokens(number).strip("<>")
                inside = tag if tag in ("dna", "protein") else "text" if tag in ("/dna", "/protein") else inside
                name = names.get(inside) if names else f"mixed/{inside}"
                if number not in silent and name and at:
                    nats[name] = nats.get(name, 0) + F.cross_entropy(logits[at - 1], torch.tensor(number)).item()
            place += length
    assert set(bits) == {"mixed/text", "mixed/dna", "mixed/protein", "dna"}
    for name, value in bits.items():
        assert value["bits_per_letter"] * value["letters"] == pytest.approx(nats[name] / np.log(2), rel=1e-4)
    assert (bits["mixed/protein"]["unit"], bits["mixed/text"]["unit"], bits["dna"]["letters"]) == ("residue", "byte", 60)
