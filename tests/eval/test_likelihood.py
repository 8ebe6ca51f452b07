"""Batched, cached scoring against one plain forward pass per prompt and answer."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM, MistralConfig, MistralForCausalLM

from eval.ask.likelihood import answered, greedy, separately, stop_ids, takes_trees
from eval.ask.trie import Trie

LENGTHS = [3, 17, 1, 9, 17]
ANSWERS = {
    "single tokens": [[5], [9], [11]],
    "several tokens": [[5, 6, 7], [8, 9, 10]],
    "mixed": [[5], [5, 6], [12, 13, 14, 15, 16, 17], [7]],
    "one choice": [[20, 21]],
    "one begins another": [[5, 6], [5, 6, 7], [5, 6, 7, 8], [5]],
    "a hundred, sharing beginnings": [[*random.Random(seed).choices([5, 6, 7], k=1 + seed % 6), 30 + seed] for seed in range(100)],
}


@pytest.fixture(scope="module")
def model(extended_folder) -> Any:
    found = AutoModelForCausalLM.from_pretrained(extended_folder)
    torch.manual_seed(0)
    for parameter in found.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)  # as created, the model says nearly the same after every prompt
    return found.eval()


@pytest.fixture(scope="module")
def tokenizer(extended_folder) -> Any:
    return AutoTokenizer.from_pretrained(extended_folder)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(0, 400, (length,), generator=draw).tolist() for length in LENGTHS]


def choice_logprobs(model: Any, tokenizer: Any, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """[prompts, answers]"""
    return torch.tensor(answered(model, tokenizer, prompts, answers, 0, greedy_text=False)[0])


@torch.no_grad()
def brute_force(model: Any, prompt: list[int], answer: list[int]) -> float:
    logprobs_TV = model(torch.tensor([prompt + answer]), use_cache=False).logits[0].log_softmax(-1)
    return sum(logprobs_TV[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS.keys())
def test_equals_brute_force(model, tokenizer, prompts, answers):
    found = choice_logprobs(model, tokenizer, prompts, answers)
    assert found.shape == (len(prompts), len(answers))
    expected = torch.tensor([[brute_force(model, prompt, answer) for answer in answers] for prompt in prompts])
    assert (found - expected).abs().max() < 1e-4
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert expected.std() > 0.1, "a test over equal numbers could not fail"


@pytest.mark.parametrize("answers", list(ANSWERS.values())[:-1], ids=list(ANSWERS)[:-1])
def test_independent_of_the_batch(model, tokenizer, prompts, answers):
    together = choice_logprobs(model, tokenizer, prompts, answers)
    order = [4, 2, 0, 3, 1]
    assert (choice_logprobs(model, tokenizer, [prompts[i] for i in order], answers) - together[order]).abs().max() < 1e-4
    for prompt, row in zip(prompts, together, strict=True):
        assert (choice_logprobs(model, tokenizer, [prompt], answers)[0] - row).abs().max() < 1e-4
    alone = [choice_logprobs(model, tokenizer, prompts, [answer])[:, 0] for answer in answers]
    assert (torch.stack(alone, 1) - together).abs().max() < 1e-4


def test_a_shared_beginning_is_read_once(model, tokenizer, prompts, monkeypatch):
    """Padding then stands between the question and the rest."""
    question = torch.randint(0, 400, (12,), generator=torch.Generator().manual_seed(3)).tolist()
    long = [question + prompt for prompt in prompts]
    answers = ANSWERS["mixed"]
    read: list[tuple[int, ...]] = []
    forward = model.forward

    @functools.wraps(forward)
    def noting(**inputs: Any) -> Any:
        read.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", noting)
    found = choice_logprobs(model, tokenizer, long, answers)
    texts = greedy(model, tokenizer, long, 4)
    monkeypatch.undo()
    assert read[:2] == [(1, 12), (5, 17)]
    expected = torch.tensor([[brute_force(model, prompt, answer) for answer in answers] for prompt in long])
    assert (found - expected).abs().max() < 1e-4
    assert texts == [greedy(model, tokenizer, [prompt], 4)[0] for prompt in long]


def test_greedy_equals_one_by_one(model, tokenizer, prompts):
    found = greedy(model, tokenizer, prompts, 8)
    for prompt, text in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        assert text == tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    assert len(set(found)) > 1


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=12))
def test_tree_holds_every_candidate_once(answers):
    trie = Trie(answers)
    inner = {tuple(answer[:length]) for answer in answers for length in range(1, len(answer))}
    assert len(trie) == len(inner), "nodes are the distinct beginnings"
    edges = torch.tensor([[float(token + 10 * node) for node, token in trie.edges]])
    for answer, total in zip(answers, trie.total(edges)[0].tolist(), strict=True):
        node, expected = 0, 0.0
        for token in answer:
            expected += token + 10 * node
            node = trie.children[node].get(token, -1)
        assert total == expected
    ways = [()]
    for token, parent in zip(trie.tokens, trie.parents, strict=True):
        ways.append((*ways[parent], token))
    for row, way in enumerate(ways[1:]):
        assert [ways[1:][column] for column in trie.sees()[row].nonzero()[:, 0].tolist()] == [way[: n + 1] for n in range(len(way))]


def test_greedy_inside_the_tree_is_greedy_outside(model, tokenizer, prompts):
    """The answers that the model would give are made candidates, so that its greedy answers lie in the tree; one leaves it."""
    outs = [model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6)[0, len(prompt) :].tolist() for prompt in prompts]
    before, stop = model.generation_config.eos_token_id, outs[0][-1]
    stops = [*stop_ids(model), stop]  # an end that the model comes to
    outs = [ids[: next((place for place, token in enumerate(ids) if token in stops), 6) + 1] for ids in outs]
    answers = [*outs[:3], [5, 6]]
    inside = [ids in answers and ids[-1] in stops for ids in outs]
    assert True in inside
    assert False in inside
    model.generation_config.eos_token_id = stops
    rows, texts = answered(model, tokenizer, prompts, answers, 6)
    model.generation_config.eos_token_id = before
    assert texts == [tokenizer.decode(ids, skip_special_tokens=True) for ids in outs]
    assert torch.allclose(torch.tensor(rows), separately(model, prompts, answers, tokenizer.pad_token_id), atol=1e-4)


def test_eager_attention(model, tokenizer, prompts):
    answers = ANSWERS["a hundred, sharing beginnings"]
    expected = choice_logprobs(model, tokenizer, prompts, answers)
    model.set_attn_implementation("eager")
    found = choice_logprobs(model, tokenizer, prompts, answers)
    model.set_attn_implementation("sdpa")
    assert (found - expected).abs().max() < 1e-4


SMALL = {"vocab_size": 420, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
WINDOW = MistralConfig(**SMALL, num_key_value_heads=1, intermediate_size=32, sliding_window=8)
OTHERS = {
    "short window": (MistralForCausalLM, WINDOW),
    "no positions from outside": (
        BloomForCausalLM,
        BloomConfig(vocab_size=420, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.3),
    ),
}


@pytest.mark.parametrize(("kind", "config"), OTHERS.values(), ids=OTHERS.keys())
def test_models_that_take_no_trees(kind, config, tokenizer, prompts):
    torch.manual_seed(0)
    model = kind(config).eval()
    assert not takes_trees(model, 20)
    low = [[token % 400 for token in prompt] for prompt in prompts]
    answers = [[5, 6], [5, 6, 7], [9]]
    found = choice_logprobs(model, tokenizer, low, answers)
    expected = torch.tensor([[brute_force(model, prompt, answer) for answer in answers] for prompt in low])
    assert (found - expected).abs().max() < 1e-4
    assert len(greedy(model, tokenizer, low, 4)) == len(low)
