"""The loss in chunks is the loss, and so are its gradients."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from artefacts.errors import UserError
from training.loss import ALL, IGNORED, LEAST, ChunkedLoss, KmerTable, score_in_head, way_for


def llama(tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=90,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
    )


@settings(max_examples=30)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_value_and_gradients(tokens, chunk, seed, weighted):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 7, generator=draw, dtype=torch.float64)
    weight = torch.randn(11, 7, generator=draw, dtype=torch.float64)
    labels = torch.randint(11, (tokens,), generator=draw)
    shares = torch.rand(tokens, generator=draw, dtype=torch.float64) if weighted else None
    results = []
    for chunked in (True, False):
        one, other = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            loss = ChunkedLoss.apply(one, other, labels, chunk, ALL, shares)
        else:
            loss = (F.cross_entropy(one @ other.t(), labels, reduction="none") * (1 if shares is None else shares)).sum()
        (3 * loss).backward()
        results.append((loss.detach().double(), one.grad, other.grad))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_not_trained_get_no_gradient(dtype):
    torch.manual_seed(1)
    hidden, weight, labels = torch.randn(20, 8, dtype=dtype), torch.randn(50, 8, dtype=dtype), torch.randint(50, (20,))
    found = []
    for trained in (slice(None), slice(30, 41)):
        one, other = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        ChunkedLoss.apply(one, other, labels, 7, trained).backward()
        found.append((one.grad, other.grad))
    (all_hidden, all_weight), (part_hidden, part_weight) = found
    assert torch.equal(all_hidden, part_hidden)
    assert torch.allclose(all_weight[30:41], part_weight[30:41], atol=1e-6 if dtype == torch.float32 else 1e-1)
    assert all_weight[:30].abs().sum() > 0
    assert not part_weight[:30].any()
    assert not part_weight[41:].any()


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[100.0, 0.0], [-100.0, 50.0]], requires_grad=True)
    weight = torch.tensor([[10.0, 0.0], [-10.0, 1.0], [0.0, 9.0]], requires_grad=True)
    labels = torch.tensor([1, 0])
    loss = ChunkedLoss.apply(hidden, weight, labels, 1)
    assert loss.item() == pytest.approx(F.cross_entropy(hidden @ weight.t(), labels, reduction="sum").item(), rel=1e-6)
    loss.backward()
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("way", ["chunked", "full"])
def test_a_scoring_model_equals_transformers(tied, way, monkeypatch):
    monkeypatch.setattr("training.loss.CHUNK_BYTES", 4 * 90 * 5)  # chunks of five tokens
    plain, scoring = llama(tied), llama(tied)
    names = [name for name, _ in plain.named_parameters()]
    score_in_head(scoring, way)
    assert [name for name, _ in scoring.named_parameters()] == names
    assert list(scoring.state_dict()) == list(plain.state_dict())
    ids = torch.randint(90, (2, 12))
    labels = ids.clone()
    labels[0, :4] = labels[1, 7:] = IGNORED
    positions = torch.arange(12).expand(2, 12)
    inputs = {"input_ids": ids, "position_ids": positions}
    theirs = plain(**inputs, labels=labels, num_items_in_batch=13, use_cache=False).loss
    mine = scoring(**inputs, labels=labels)["loss"] / 13
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    theirs.backward()
    mine.backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), scoring.named_parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6), name
    assert torch.equal(plain(ids).logits, scoring(ids).logits)
    with torch.no_grad():
        each = scoring(**inputs, labels=labels, each=True)["loss"]
    assert each.shape == ((labels[:, 1:] != IGNORED).sum(),)
    assert each.sum().item() == pytest.approx(13 * theirs.item(), rel=1e-5)


def test_the_signature_that_generate_reads_is_kept():
    plain, scoring = llama(), llama()
    score_in_head(scoring, "chunked")
    assert inspect.signature(scoring.forward) == inspect.signature(plain.forward)


def test_a_frozen_head_gets_no_gradient():
    model = llama()
    score_in_head(model, "chunked")
    model.lm_head.weight.requires_grad_(False)
    ids = torch.randint(90, (1, 9))
    model(input_ids=ids, position_ids=torch.arange(9)[None], labels=ids)["loss"].backward()
    assert model.lm_head.weight.grad is None
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_bf16_is_near():
    torch.manual_seed(3)
    hidden, weight, labels = torch.randn(64, 32), torch.randn(500, 32) * 0.1, torch.randint(500, (64,))
    exact = F.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    one, other = hidden.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_()
    loss = ChunkedLoss.apply(one, other, labels, 7)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)
    loss.backward()
    assert one.grad.dtype == other.grad.dtype == torch.bfloat16


def test_no_array_of_tokens_by_ids_is_kept():
    """What backward needs is as large as hidden states and head, not as the logits."""
    hidden = torch.randn(2000, 8, requires_grad=True)
    weight = torch.randn(5000, 8, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor):
        loss = ChunkedLoss.apply(hidden, weight, torch.randint(5000, (2000,)), 64)
    kept = sum(tensor.numel() for tensor in loss.grad_fn.gradients) + sum(sizes)
    assert kept == hidden.numel() + weight.numel()


def test_ways():
    assert way_for("full", gpu=True) == "full"
    assert way_for("auto", gpu=False) == "chunked"


def test_a_head_with_a_bias_is_refused():
    model = llama()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(90))
    with pytest.raises(UserError, match="bias"):
        score_in_head(model, "chunked")


NUCLEOTIDES = KmerTable(2, 4, np.random.default_rng(4).permutation(np.arange(3, 24))[:16])  # five other ids lie among them
RESIDUES = KmerTable(1, 5, np.arange(30, 35))


def of_bases(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, tables: list[KmerTable]) -> torch.Tensor:
    """[N] By the definition: all logits, and a sum over k-mers for every place of every target."""
    chances = (hidden @ weight.t()).softmax(dim=1)
    losses = -chances[torch.arange(len(labels)), labels].log()
    for table in tables:
        spelled = list(itertools.product(range(table.letters), repeat=table.k))
        for row, label in enumerate(labels.tolist()):
            if label in table.ids:
                own = spelled[table.ids.tolist().index(label)]
                alike = [[number for number, other in enumerate(spelled) if other[place] == own[place]] for place in range(table.k)]
                losses[row] = sum(-chances[row, table.ids[numbers]].sum().log() for numbers in alike)
    return losses


@settings(max_examples=30)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 99), st.booleans(), st.sampled_from([ALL, slice(2, 20)]))
def test_value_and_gradients_of_bases(tokens, chunk, seed, weighted, trained):
    """Of k-mers, letters and other ids in one batch, against autograd over all logits."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 7, generator=draw, dtype=torch.float64)
    weight = torch.randn(40, 7, generator=draw, dtype=torch.float64)
    labels = torch.randint(40, (tokens,), generator=draw)
    shares = torch.rand(tokens, generator=draw, dtype=torch.float64) if weighted else None
    results = []
    for chunked in (True, False):
        one, other = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            loss = ChunkedLoss.apply(one, other, labels, chunk, trained, shares, [NUCLEOTIDES, RESIDUES])
        else:
            loss = (of_bases(one, other, labels, [NUCLEOTIDES, RESIDUES]) * (1 if shares is None else shares)).sum()
        (3 * loss).backward()
        results.append((loss.detach().double(), one.grad, other.grad[trained]))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-5)


def test_letters_and_other_targets_keep_their_cross_entropy():
    """Bit for bit where the label is in no table; of single letters, to the last digits of float32."""
    torch.manual_seed(5)
    hidden, weight = torch.randn(30, 8), torch.randn(40, 8)
    for labels, tables, apart in ((torch.randint(24, 30, (30,)), [NUCLEOTIDES], 0.0), (torch.randint(30, 35, (30,)), [RESIDUES], 1e-5)):
        found = []
        for known in ((), tables):
            one, other = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
            loss = ChunkedLoss.apply(one, other, labels, 7, ALL, None, known)
            loss.backward()
            found.append((loss.detach(), one.grad, other.grad))
        for before, after in zip(*found, strict=True):
            assert torch.allclose(before, after, atol=apart, rtol=apart)


TRIPLETS = KmerTable(3, 4, np.arange(64)[::-1].copy())


@pytest.mark.parametrize("table", [NUCLEOTIDES, RESIDUES, TRIPLETS], ids=["pairs", "letters", "triplets"])
def test_the_bases_of_a_place_share_the_mass_of_all_kmers(table):
    logits = torch.randn(6, 64, dtype=torch.float64)
    chances = logits.softmax(dim=1)
    of_bases_RM = chances[:, table.span] @ table.places(chances)[:-1]
    mass = chances[:, torch.from_numpy(table.ids.astype(np.int64))].sum(dim=1)
    of_places = of_bases_RM.view(6, table.k, table.letters).sum(dim=2)
    assert torch.allclose(of_places, mass[:, None].expand(6, table.k))


def test_a_base_that_is_ruled_out_keeps_the_loss_finite():
    weight = torch.eye(24)
    labels = torch.from_numpy(NUCLEOTIDES.ids[[0]])
    hidden = torch.zeros(1, 24)
    hidden[0, int(NUCLEOTIDES.ids[5])] = 1000.0  # another base at both places
    hidden.requires_grad_()
    loss = ChunkedLoss.apply(hidden, weight, labels, 1, ALL, None, [NUCLEOTIDES])
    assert loss.item() == pytest.approx(-2 * math.log(LEAST))
    loss.backward()
    assert torch.isfinite(hidden.grad).all()
    assert hidden.grad[0, int(NUCLEOTIDES.ids[5])] > 0


def test_bases_in_bf16_are_near():
    torch.manual_seed(3)
    hidden, weight, labels = torch.randn(64, 32), torch.randn(500, 32) * 0.1, torch.from_numpy(NUCLEOTIDES.ids).repeat(4)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        one = hidden.to(dtype, copy=True).requires_grad_()
        loss = ChunkedLoss.apply(one, weight.to(dtype), labels, 7, ALL, None, [NUCLEOTIDES])
        loss.backward()
        assert one.grad.dtype == dtype
        found.append((loss.item(), one.grad.float().flatten()))
    (exact, slope), (near, other) = found
    assert near == pytest.approx(exact, rel=2e-3)
    assert F.cosine_similarity(slope, other, dim=0) > 0.999


@pytest.mark.parametrize("way", ["chunked", "full"])
def test_a_model_scores_bases_only_when_asked(way):
    """And measures (`each`) stay cross-entropy."""
    plain, scoring = llama(), llama()
    score_in_head(plain, way)
    score_in_head(scoring, way, [NUCLEOTIDES])
    ids = torch.from_numpy(NUCLEOTIDES.ids[[3, 1, 4, 1, 5, 9, 2, 6]])[None]
    inputs = {"input_ids": ids, "position_ids": torch.arange(8)[None], "labels": ids}
    assert torch.equal(plain(**inputs)["loss"], scoring(**inputs)["loss"])
    assert torch.equal(plain(**inputs, each=True)["loss"], scoring(**inputs, each=True, bases=True)["loss"])
    hidden = scoring.model(input_ids=ids, position_ids=inputs["position_ids"]).last_hidden_state[0, :-1]
    expected = of_bases(hidden, scoring.lm_head.weight, ids[0, 1:], [NUCLEOTIDES]).sum()
    assert scoring(**inputs, bases=True)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


PARTS = {
    "all": None,
    "lora": {"target_modules": ["q_proj"]},
    "copies": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "rows-alone": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 9], "lm_head": [3, 9]}},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", PARTS)
def test_bases_in_every_way_of_training(parts, weighted, monkeypatch):
    """Loss and gradients of what is trained, adapters and single rows too, against all logits of the same model."""
    monkeypatch.setattr("training.loss.CHUNK_BYTES", 4 * 90 * 5)
    model = llama()
    if PARTS[parts] is not None:
        model = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **PARTS[parts]))
    base = model if PARTS[parts] is None else model.get_base_model()
    ids = torch.cat((torch.from_numpy(NUCLEOTIDES.ids), torch.arange(24, 34))).view(2, 13)
    labels = ids.clone()
    labels[0, :4] = IGNORED
    places, shares = torch.arange(13).expand(2, 13), torch.rand(2, 13)
    counted = labels[:, 1:] != IGNORED
    logits = model(input_ids=ids, position_ids=places, use_cache=False).logits[:, :-1][counted]
    losses = of_bases(logits, torch.eye(90), labels[:, 1:][counted], [NUCLEOTIDES])
    expected = (losses * shares[:, 1:][counted]).sum() if weighted else losses.sum()
    expected.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    score_in_head(base, "chunked", [NUCLEOTIDES])
    more = {"weights": shares} if weighted else {}
    loss = model(input_ids=ids, position_ids=places, labels=labels, bases=True, **more)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(gradients) > 1
    for name, value in model.named_parameters():
        if value.grad is not None:
            assert torch.allclose(value.grad, gradients[name], atol=1e-5), name
