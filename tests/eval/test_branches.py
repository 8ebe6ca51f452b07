"""Reading only the branches that matter: the likeliest answer stays, the others stay within what is promised."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from eval.ask.branches import score
from eval.ask.likelihood import answered, read, separately
from eval.ask.trie import Trie

VOCABULARY = 120


class Plain:
    """A tokenizer whose texts are ids."""

    pad_token_id = 0

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def sharpened(model):
    """The model with its logits multiplied: nearly flat to nearly certain."""
    head = model.lm_head.weight.data.clone()

    def by(factor: float) -> Any:
        model.lm_head.weight.data = head * factor
        return model

    yield by
    model.lm_head.weight.data = head


def drawn_labels(draw: random.Random, count: int, few: int, most: int, ended: bool) -> list[list[int]]:
    """`count` different labels; of few tokens many begin alike or begin others."""
    labels: set[tuple[int, ...]] = set()
    while len(labels) < count:
        labels.add(tuple(draw.choices(range(2, 2 + few), k=draw.randint(1, most))))
    return [[*label, *([1] if ended else [])] for label in sorted(labels)]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    factor=st.sampled_from([0.1, 1.0, 4.0, 12.0, 40.0]),
    few=st.sampled_from([5, 20, 100]),
    most=st.integers(3, 6),
    ended=st.booleans(),
    nats=st.sampled_from([0.5, 3.0, 20.0]),
)
def test_pruned_is_naive_where_it_counts(model, seed, factor, few, most, ended, nats):
    draw = random.Random(seed)
    answers = drawn_labels(draw, 100, few, most, ended)
    prompts = [draw.choices(range(VOCABULARY), k=draw.randint(1, 12)) for _ in range(5)]
    head = model.lm_head.weight.data
    model.lm_head.weight.data = head * factor
    try:
        expected = separately(model, prompts, answers, 0)
        prefix, trie = read(model, prompts, 0), Trie(answers)
        length = prefix.cache.get_seq_length()
        found, best = score(model, prefix, trie, nats)
        whole, every = score(model, prefix, trie)
        assert prefix.cache.get_seq_length() == length, "the prefix stays as it was"
    finally:
        model.lm_head.weight.data = head
    near = 1e-4 * max(1.0, factor)  # logits of hundreds have that much less room behind the point
    top = expected.amax(1, keepdim=True)
    assert (whole - expected).abs().max() < near
    # another label may be the first of equals only
    assert (expected.gather(1, found.argmax(1, keepdim=True)) >= top - near).all()
    assert torch.equal(found.argmax(1), whole.argmax(1)) or factor > 10
    read_whole = torch.tensor([[all_read(trie, answer, row) for answer in answers] for row in best.tolist()])
    assert (found - expected)[read_whole].abs().max() < near
    if not read_whole.all():
        assert (found >= expected - near)[~read_whole].all()
        assert (found <= top - nats + near)[~read_whole].all()
    known = best >= 0
    assert (torch.where(known, best, every) == every).float().mean() > 0.99, "the likeliest tokens of the nodes that were read"
    error = (found.double().softmax(1) - expected.double().softmax(1)).abs().max()
    assert error <= len(answers) * torch.tensor(-nats).exp() + near


def all_read(trie: Trie, answer: list[int], best: list[int]) -> bool:
    node = 0
    for token in answer:
        if best[node] < 0:
            return False
        node = trie.children[node].get(token, 0)
    return True


def test_a_sharp_model_reads_little_and_a_flat_one_all(sharpened):
    draw = random.Random(1)
    answers = drawn_labels(draw, 100, 20, 5, True)
    prompts = [draw.choices(range(VOCABULARY), k=9) for _ in range(6)]
    trie = Trie(answers)

    def share(factor: float, nats: float | None) -> float:
        known = sharpened(factor)
        return float((score(known, read(known, prompts, 0), trie, nats)[1] >= 0).float().mean())

    assert share(0.1, 20.0) == share(12.0, None) == 1.0
    assert share(12.0, 20.0) < 0.3
    assert share(12.0, 5.0) < share(12.0, 20.0)


def test_few_nodes_are_read_whole(sharpened):
    answers = [[5, 6, 7, 1], [8, 9, 10, 1], [8, 9, 11, 1]]
    model = sharpened(40.0)
    assert (score(model, read(model, [[3, 4], [5]], 0), Trie(answers), 0.5)[1] >= 0).all()


def test_greedy_text_is_the_free_one(sharpened):
    """Whether the greedy answer lies among the candidates, leaves them, or goes where nothing was read."""
    draw = random.Random(2)
    model = sharpened(4.0)
    prompts = [draw.choices(range(VOCABULARY), k=draw.randint(2, 9)) for _ in range(8)]
    free = [
        model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=6)[
            0, len(prompt) :
        ]
        for prompt in prompts
    ]
    said = [ids.tolist() for ids in free]
    answers = [*drawn_labels(draw, 60, 100, 5, True), *said[:3], *(ids[:2] for ids in said[3:6])]
    assert len(Trie(answers)) > 32
    rows, texts = answered(model, Plain(), prompts, answers, 6, prune_nats=2.0)
    assert texts == [" ".join(map(str, ids)) for ids in said]
    exact, same = answered(model, Plain(), prompts, answers, 6)
    assert same == texts
    assert torch.equal(torch.tensor(rows).argmax(1), torch.tensor(exact).argmax(1))
    assert not torch.allclose(torch.tensor(rows), torch.tensor(exact), atol=1e-4), "something was left out"
