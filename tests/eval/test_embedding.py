"""Windows, long sequences, memory trouble, other encoders: the rows are always those of the whole sequence."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luca_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, EsmConfig, EsmModel, EsmTokenizer

from artefacts.errors import UserError
from eval.baselines import kmer as kmers
from eval.baselines.embedding import extract as extracting
from eval.baselines.embedding.encoder import Encoder, batches, pick_device
from eval.baselines.embedding.extract import Window, extract, first_pass, windows
from eval.baselines.embedding.open import OneHot, open_encoder
from eval.baselines.embedding.recipe import Extent
from eval.baselines.kmer import kmer_shares
from eval.baselines.lucaone.config import LucaOneConfig
from eval.baselines.lucaone.model import LucaOneModel
from eval.baselines.lucaone.tokenizer import LucaOneTokenizer

CPU = torch.device("cpu")
PROTEINS = ["MKVLAAGWTY", "M", "ACDEFGHIKLMNPQRSTVWY" * 9, "MKV", "WWYYHH" * 20]


class Placed(OneHot):
    """Rows that say which letter they are of, and whether the pass held its neighbours: nothing beyond the window."""

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        self.seen = max(getattr(self, "seen", 0), ids_BT.shape[1])
        return super().states(ids_BT, mask_BT, modalities)


# --- windows ---


def published(length: int, size: int, *, overlap: bool) -> list[tuple[int, int, int, int]]:
    """The right-hand modes as the description tells them, step by step."""
    found = [(0, size, 0, size)]
    if overlap:
        w = size // 2
        pos = size
        while pos < length - w:
            found.append((pos - w, pos + w, pos, pos + w))
            pos += w
        if pos < length:
            found.append((length - 2 * w, length, pos, length))
        return found
    segments = math.ceil(length / size)
    found += [(i * size, (i + 1) * size, i * size, (i + 1) * size) for i in range(1, segments - 1)]
    kept = length - (segments - 1) * size
    return [*found, (length - size, length, length - kept, length)]


@given(st.integers(1, 400), st.integers(2, 60), st.booleans(), st.sampled_from(["right", "left"]))
def test_windows_keep_every_letter_once_and_in_order(length: int, size: int, overlap: bool, side: Any) -> None:
    found = windows(length, size, overlap=overlap, side=side)
    kept = [place for w in found for place in range(w.keep_start, w.keep_stop)]
    assert kept == list(range(length))
    for w in found:
        assert 0 <= w.start <= w.keep_start < w.keep_stop <= w.stop <= length
        assert w.stop - w.start <= size
    first = first_pass(found, side)
    assert (first.start == 0) if side == "right" else (first.stop == length)
    if length > size:
        expected = [Window(*w) for w in published(length, size, overlap=overlap)]
        if side == "left":
            expected = [w.mirrored(length) for w in reversed(expected)]
        assert found == expected
        if overlap:  # all but the first pass see half a window beside the rows they add
            assert all(w.keep_start - w.start >= size // 2 or w.stop - w.keep_stop >= size // 2 for w in found if w != first)


def test_the_published_examples() -> None:
    assert [(w.start, w.stop) for w in windows(35, 10, overlap=True, side="right")] == [
        (0, 10),
        (5, 15),
        (10, 20),
        (15, 25),
        (20, 30),
        (25, 35),
    ]
    left = windows(35, 10, overlap=False, side="left")  # upstream returns rows 0-4, 25-34, 15-24, 25-34
    assert [(w.keep_start, w.keep_stop) for w in left] == [(0, 5), (5, 15), (15, 25), (25, 35)]
    assert [(w.start, w.stop) for w in left] == [(0, 10), (5, 15), (15, 25), (25, 35)]
    with pytest.raises(ValueError, match="too short"):
        windows(5, 1, overlap=True, side="right")


# --- stitching ---


@given(
    st.lists(st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=90), min_size=1, max_size=6),
    st.integers(2, 40),
    st.booleans(),
    st.sampled_from(["right", "left"]),
    st.integers(1, 80),
    st.booleans(),
    st.integers(5, 200),
)
def test_windowed_rows_are_the_whole_sequences(
    texts: list[str], size: int, overlap: bool, side: Any, limit: int, complete: bool, budget: int
) -> None:
    """For an encoder that sees one letter at a time, in every truncation mode."""
    encoder = Placed(budget, CPU)
    extent = Extent(
        trunc_type=side,
        truncation_seq_length=limit,
        embedding_complete=complete,
        embedding_complete_seg_overlap=overlap,
        embedding_fixed_len_a_time=size,
    )
    found = dict(extract(encoder, [("protein", text) for text in texts], extent))
    assert sorted(found) == list(range(len(texts)))
    for i, text in enumerate(texts):
        kept = text if complete else text[:limit] if side == "right" else text[-limit:]
        expected = np.eye(39, dtype=np.float32)[encoder.ids("protein", kept)]
        assert np.array_equal(found[i].own, expected)
        assert np.array_equal(found[i].matrix(special=True), np.concatenate([np.eye(39)[[2]], expected, np.eye(39)[[3]]]))
        assert found[i].passes == len(windows(len(kept), size, overlap=overlap, side=side))
    assert encoder.seen <= size + 2


class FirstLetter(OneHot):
    """The row of [CLS] says which letter the pass begins with."""

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        states_BTD = super().states(ids_BT, mask_BT, modalities)
        states_BTD[:, 0] = states_BTD[:, 1]
        return states_BTD


@pytest.mark.parametrize(("side", "letter"), [("right", "A"), ("left", "M")])
def test_special_rows_are_those_of_the_first_pass(side: Any, letter: str) -> None:
    """The first ten letters, or the last ten: ACDEFGHIKLMNPQRSTVWY has M as the tenth from its end."""
    encoder = FirstLetter(100, CPU)
    ((_, rows),) = extract(encoder, [("protein", "ACDEFGHIKLMNPQRSTVWY")], Extent(trunc_type=side, embedding_fixed_len_a_time=10))
    assert rows.passes == 2
    assert rows.vector("cls").argmax() == encoder.ids("protein", letter)[0]


class LittleMemory(Placed):
    """Fails as torch does when a batch has more tokens than fit."""

    def __init__(self, tokens: int) -> None:
        super().__init__(10_000, CPU)
        self.tokens, self.failures = tokens, 0

    def states(self, ids_BT: Tensor, mask_BT: Tensor, modalities: Sequence[str]) -> Tensor:
        if ids_BT.numel() > self.tokens:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return super().states(ids_BT, mask_BT, modalities)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_out_of_memory_halves_batches_then_windows_and_truncates_nothing(overlap: bool, side: Any) -> None:
    encoder = LittleMemory(120)
    texts = ["ACDEFGHIKL" * n for n in (3, 50, 9, 1, 70)]
    extent = Extent(trunc_type=side, truncation_seq_length=None, embedding_complete_seg_overlap=overlap)
    found = dict(extract(encoder, [("protein", text) for text in texts], extent))
    assert encoder.failures > 1
    for i, text in enumerate(texts):
        assert np.array_equal(found[i].own, np.eye(39)[encoder.ids("protein", text)])
    assert [found[i].passes > 1 for i in range(5)] == [False, True, False, False, True]


def test_then_the_cpu_and_at_last_a_clear_word(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = LittleMemory(20)
    with pytest.raises(UserError, match="memory does not hold"):
        list(extract(encoder, [("protein", "A" * 100)], Extent()))
    encoder.device = torch.device("cuda")  # of the name alone: the first pass fails before anything is put there
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def rows(batch: Any) -> list[np.ndarray]:
        if encoder.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        encoder.tokens = 10_000
        return Encoder.rows(encoder, batch)

    monkeypatch.setattr(encoder, "rows", rows)
    ((_, found),) = extract(encoder, [("protein", "A" * 100)], Extent())
    assert encoder.device == CPU
    assert len(found.own) == 100


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(OneHot):
        def states(self, *args: Any) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(extract(Broken(100, CPU), [("protein", "AC")], Extent()))


def test_groups_bound_memory_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extracting, "VALUES_AT_ONCE", 39 * 50)
    texts = ["A" * n for n in range(1, 40)]
    found = dict(extract(OneHot(64, CPU), [("protein", text) for text in texts], Extent()))
    assert [len(found[i].own) for i in range(39)] == [len(text) for text in texts]


def test_batches_side_by_side_give_the_same_rows_and_leave_the_threads_alone(lucaone_folder: Path) -> None:
    sequences = [("protein", PROTEINS[2][: 5 + 7 * i]) for i in range(24)]
    before, threads, found = torch.get_num_threads(), 3, {}
    try:
        for at_once in (1, threads):
            torch.set_num_threads(at_once)
            encoder = open_encoder(lucaone_folder, batch_tokens=200)
            found[at_once] = dict(extract(encoder, sequences, Extent()))
            assert torch.get_num_threads() == at_once
            encoder.rows = nothing  # type: ignore[method-assign]
            with pytest.raises(ValueError, match="broken"):  # of a worker, told here, and the others are not waited for
                list(extract(encoder, sequences, Extent()))
            assert torch.get_num_threads() == at_once
    finally:
        torch.set_num_threads(before)
    assert sorted(found[1]) == sorted(found[threads]) == list(range(24))
    for i in range(24):
        np.testing.assert_allclose(found[threads][i].own, found[1][i].own, atol=1e-5)


def nothing(batch: Any) -> list[np.ndarray]:
    raise ValueError("broken")


def test_batches_hold_the_budget_longest_first() -> None:
    lengths = [5, 40, 7, 7, 3, 100]
    found = list(batches(lengths, 40))
    assert [i for batch in found for i in batch] == [5, 1, 2, 3, 0, 4]
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 40 for batch in found)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 2000))
def test_batches_lose_nothing_and_pad_little(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        within = [lengths[i] for i in batch]
        assert min(within) >= 7 / 8 * max(within)
        assert len(batch) == 1 or len(batch) * max(within) <= budget


# --- encoders ---


@pytest.fixture(scope="module")
def lucaone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lucaone")
    torch.manual_seed(0)
    LucaOneModel(LucaOneConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)).save_pretrained(folder)
    LucaOneTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def esm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESM-2's shape and vocabulary with random weights."""
    folder = tmp_path_factory.mktemp("esm")
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    options = {
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "pad_token_id": 1,
        "mask_token_id": 32,
        "max_position_embeddings": 106,
    }
    EsmModel(EsmConfig(vocab_size=33, **size, **options), add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_lucaone_rows_are_its_models(lucaone_folder: Path) -> None:
    encoder = open_encoder(lucaone_folder, batch_tokens=150)
    model, tokenizer = LucaOneModel.from_pretrained(lucaone_folder).eval(), LucaOneTokenizer()
    items = [("protein", text) for text in PROTEINS] + [("dna", "ACGTNACGT" * 8)]
    found = dict(extract(encoder, items, Extent()))
    for i, (modality, letters) in enumerate(items):
        with torch.no_grad():
            expected = model(**tokenizer(letters, seq_type=modality, return_tensors="pt")).last_hidden_state[0].numpy()
        assert found[i].matrix(special=True) == pytest.approx(expected, abs=1e-5)
        assert found[i].matrix(special=False) == pytest.approx(expected[1:-1], abs=1e-5)
        assert found[i].vector("cls") == pytest.approx(expected[0], abs=1e-5)
        assert found[i].vector("mean") == pytest.approx(expected[1:-1].mean(0), abs=1e-5)
        assert found[i].vector("max") == pytest.approx(expected[1:-1].max(0), abs=1e-5)
    ((_, half),) = extract(open_encoder(lucaone_folder, bf16=True), items[:1], Extent())
    assert half.own.dtype == np.float32
    assert half.own == pytest.approx(found[0].own, abs=0.1)


def test_esm_rows_are_its_models_and_long_ones_come_in_windows(esm_folder: Path) -> None:
    encoder = open_encoder(esm_folder)
    model, tokenizer = EsmModel.from_pretrained(esm_folder, add_pooling_layer=False).eval(), EsmTokenizer.from_pretrained(esm_folder)
    assert encoder.frame("protein") == ([0], [2])
    assert encoder.longest == 102
    found = dict(extract(encoder, [("protein", text) for text in PROTEINS], Extent()))
    for i, text in enumerate(PROTEINS):
        with torch.no_grad():
            expected = model(**tokenizer(text[:102], return_tensors="pt")).last_hidden_state[0, 1:-1].numpy()
        assert len(found[i].own) == len(text)
        assert found[i].own[: len(expected)] == pytest.approx(expected, abs=1e-5)
    assert [found[i].passes for i in range(5)] == [1, 1, 2, 1, 2]


def test_bert_with_pieces_of_several_letters(tmp_path: Path) -> None:
    """A BPE over DNA, [CLS] and [SEP]; windows are cut between pieces."""
    dna_tokenizer(tmp_path)
    rng = np.random.default_rng(0)
    size = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40}
    BertModel(BertConfig(vocab_size=60, **size), add_pooling_layer=False).save_pretrained(tmp_path)
    encoder = open_encoder(tmp_path)
    letters = "".join(rng.choice(list("ACGT"), 400))
    ids = encoder.ids("dna", letters)
    assert 38 < len(ids) < 400
    ((_, rows),) = extract(encoder, [("dna", letters)], Extent(truncation_seq_length=None))
    assert len(rows.own) == len(ids)
    assert rows.passes == math.ceil(len(ids) / encoder.longest)
    assert np.array_equal(encoder.ids("rna", "ACGU"), encoder.ids("dna", "ACGT"))
    with pytest.raises(UserError, match="does not read protein"):
        list(extract(encoder, [("protein", "MKV")], Extent()))


def dna_tokenizer(folder: Path) -> None:
    """A BPE over DNA between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"], show_progress=False)
    rng = np.random.default_rng(0)
    bpe.train_from_iterator(["".join(rng.choice(list("ACGT"), 300)) for _ in range(20)], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=bpe, **names).save_pretrained(folder)


def dnabert2_state(config: dict[str, int], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """The names of the released file, its pooler and its head of masked tokens included."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {"embeddings.word_embeddings.weight": (config["vocab_size"], width), "embeddings.token_type_embeddings.weight": (2, width)}
    shapes |= {f"embeddings.LayerNorm.{end}": (width,) for end in ("weight", "bias")}
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        shapes |= {f"{layer}.attention.self.Wqkv.weight": (3 * width, width), f"{layer}.attention.self.Wqkv.bias": (3 * width,)}
        shapes |= {f"{layer}.attention.output.dense.weight": (width, width), f"{layer}.mlp.gated_layers.weight": (2 * inner, width)}
        shapes |= {f"{layer}.mlp.wo.weight": (width, inner)}
        for name in ("attention.output.dense.bias", "attention.output.LayerNorm.weight", "attention.output.LayerNorm.bias"):
            shapes[f"{layer}.{name}"] = (width,)
        shapes |= {f"{layer}.mlp.{name}": (width,) for name in ("wo.bias", "layernorm.weight", "layernorm.bias")}
    shapes["pooler.dense.weight"] = (width, width)
    state = {f"bert.{name}": torch.tensor(rng.normal(size=shape) * 0.3, dtype=torch.float32) for name, shape in shapes.items()}
    return {**state, "cls.predictions.bias": torch.zeros(config["vocab_size"])}


def test_dnabert2_by_its_formulas_and_without_its_code(tmp_path: Path) -> None:
    dna_tokenizer(tmp_path)
    size = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "intermediate_size": 20,
        "vocab_size": 60,
        "type_vocab_size": 2,
    }
    more = {"model_type": "bert", "alibi_starting_size": 512, "auto_map": {"AutoModel": "bert_layers.BertModel"}}
    (tmp_path / "config.json").write_text(json.dumps({**size, **more}))
    (tmp_path / "bert_layers.py").write_text("raise SystemExit('remote code ran')")
    state = dnabert2_state(size, np.random.default_rng(1))
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = open_encoder(tmp_path, batch_tokens=200)
    items = [("dna", "ACGT" * n) for n in (3, 20, 40)]
    found = dict(extract(encoder, items, Extent()))
    w = {name.removeprefix("bert."): tensor.double().numpy() for name, tensor in state.items()}
    slope = [2**-2.0, 2**-4.0, 2**-6.0, 2**-8.0, 2**-1.0, 2**-3.0]  # six heads: those of four, then every second of eight
    for i, (modality, letters) in enumerate(items):
        before, after = encoder.frame(modality)
        ids = np.array([*before, *encoder.ids(modality, letters), *after])
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = reference.norm(x, w, "embeddings.LayerNorm", 1e-12)
        distance = np.abs(np.arange(len(ids))[:, None] - np.arange(len(ids)))
        for n in range(2):
            at = f"encoder.layer.{n}"
            q, k, v = np.split(reference.linear(x, w, f"{at}.attention.self.Wqkv"), 3, axis=1)
            heads = [
                reference.softmax(q[:, s] @ k[:, s].T / 2 - slope[h] * distance, 1) @ v[:, s]
                for h in range(6)
                for s in [slice(4 * h, 4 * h + 4)]
            ]
            attended = reference.linear(np.concatenate(heads, axis=1), w, f"{at}.attention.output.dense")
            x = reference.norm(x + attended, w, f"{at}.attention.output.LayerNorm", 1e-12)
            gate, value = np.split(x @ w[f"{at}.mlp.gated_layers.weight"].T, 2, axis=1)
            x = reference.norm(x + reference.linear(reference.gelu(gate) * value, w, f"{at}.mlp.wo"), w, f"{at}.mlp.layernorm", 1e-12)
        assert found[i].matrix(special=True) == pytest.approx(x, abs=1e-4)
    del state["bert.encoder.layer.1.mlp.wo.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"wo\.bias is missing"):
        open_encoder(tmp_path)


def test_weights_that_do_not_fit_are_never_filled_with_chance(tmp_path: Path) -> None:
    """A model with remote code may call itself bert: AutoModel would start the rest at random and only log it."""
    dna_tokenizer(tmp_path)
    size = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=60, **size), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    assert open_encoder(tmp_path).width == 24
    save_file(
        {name.replace("query", "Wq"): tensor for name, tensor in model.state_dict().items()},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=r"weights do not fit a plain bert: .* is missing"):
        open_encoder(tmp_path)


# --- encoders without a model ---


@given(st.lists(st.text("ACDEFGHIKLMNPQRSTVWYX", min_size=1, max_size=90), min_size=1, max_size=4), st.booleans())
def test_one_row_of_words_or_of_placed_letters(texts: list[str], gene: bool) -> None:
    """Counts as the k-mer baseline has them, letters where they stand; the same in any batch, windows or not."""
    modality, size = ("dna", 4) if gene else ("protein", 20)
    items = [(modality, text) for text in texts]
    counted = kmer_shares(texts, modality).toarray()
    words, placed = (open_encoder(name) for name in ("kmer", "placed"))
    for i, rows in extract(words, items, Extent(embedding_complete=True, embedding_fixed_len_a_time=30)):
        chance = np.concatenate([np.full(size**k, float(size**k)) for k in range(1, (4 if gene else 2) + 1)])
        assert rows.matrix(special=True).shape == (1, 420)
        assert rows.own[0, : len(chance)] == pytest.approx(np.sqrt(counted[i, : len(chance)] * chance) - 1, abs=1e-5)
        assert not rows.own[0, len(chance) :].any()
    for i, rows in extract(placed, items, Extent()):
        alphabet, seen = kmers.PLAIN_LETTERS[modality], texts[i][: 1280 // size]
        table = rows.own[0].reshape(-1, size)
        assert [("".join(alphabet[c] for c in np.flatnonzero(row)) or "-") for row in table[: len(seen)]] == [
            letter if letter in alphabet else "-" for letter in seen
        ]
        assert not table[len(seen) :].any()


def test_batches_fit_the_caches_of_a_cpu(lucaone_folder: Path) -> None:
    assert open_encoder(lucaone_folder, gpu=-1).batch_tokens == 1024
    assert open_encoder(lucaone_folder, gpu=-1, batch_tokens=77).batch_tokens == 77


def test_names_that_are_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no model folder"):
        open_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of", "auto_map": {"AutoModel": "modeling.Own"}}')
    (tmp_path / "modeling.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(UserError, match="never run"):
        open_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        open_encoder(tmp_path)
    with pytest.raises(UserError, match="no such GPU"):
        pick_device(63)


def test_a_row_has_the_same_bits_whatever_was_made_before(extended_folder: Path) -> None:
    """A command that was killed goes on in the batches of the whole, not of what is left."""
    encoder = open_encoder(str(extended_folder), batch_tokens=200)
    draw = random.Random(0)
    sequences = [("protein", "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randrange(20, 60)))) for _ in range(30)]
    whole = dict(extract(encoder, sequences, Extent()))
    for wanted in ([0], [29, 3, 7], [], [i for i in range(30) if i != 16]):
        found = dict(extract(encoder, sequences, Extent(), wanted=wanted))
        assert sorted(found) == sorted(wanted)
        for i, rows in found.items():
            for part in ("before", "own", "after"):
                assert np.array_equal(getattr(rows, part), getattr(whole[i], part)), (i, part)
