"""Batched, cached scoring against one plain forward pass per prompt and answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.likelihood import choice_logprobs, greedy

LENGTHS = [3, 17, 1, 9, 17]
ANSWERS = {
    "single tokens": [[5], [9], [11]],
    "several tokens": [[5, 6, 7], [8, 9, 10]],
    "mixed": [[5], [5, 6], [12, 13, 14, 15, 16, 17], [7]],
    "one choice": [[20, 21]],
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


@torch.no_grad()
def brute_force(model: Any, prompt: list[int], answer: list[int]) -> float:
    logprobs_TV = model(torch.tensor([prompt + answer]), use_cache=False).logits[0].log_softmax(-1)
    return sum(logprobs_TV[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS.keys())
def test_equals_brute_force(model, tokenizer, prompts, answers):
    found = choice_logprobs(model, prompts, answers, tokenizer.pad_token_id)
    assert found.shape == (len(prompts), len(answers))
    expected = torch.tensor([[brute_force(model, prompt, answer) for answer in answers] for prompt in prompts])
    assert (found - expected).abs().max() < 1e-4
    assert expected.std() > 0.1, "a test over equal numbers could not fail"


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS.keys())
def test_independent_of_the_batch(model, tokenizer, prompts, answers):
    pad = tokenizer.pad_token_id
    together = choice_logprobs(model, prompts, answers, pad)
    order = [4, 2, 0, 3, 1]
    assert (choice_logprobs(model, [prompts[i] for i in order], answers, pad) - together[order]).abs().max() < 1e-4
    for prompt, row in zip(prompts, together, strict=True):
        assert (choice_logprobs(model, [prompt], answers, pad)[0] - row).abs().max() < 1e-4
    alone = [choice_logprobs(model, prompts, [answer], pad)[:, 0] for answer in answers]
    assert (torch.stack(alone, 1) - together).abs().max() < 1e-4


def test_greedy_equals_one_by_one(model, tokenizer, prompts):
    found = greedy(model, tokenizer, prompts, 8)
    for prompt, text in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        assert text == tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    assert len(set(found)) > 1
