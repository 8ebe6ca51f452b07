"""Log-likelihood of every candidate answer behind a prompt, on one shared prefix cache.

Shapes: P prompts, C candidates, T prompt tokens, L answer tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def choice_logprobs(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Sum of log-probabilities of each full answer, its end-of-turn token included.

    Args:
        prompts: P lists of prompt ids.
        answers: C lists of answer ids, the same candidates for every prompt.

    Returns:
        float32 [P, C] on the CPU.
    """
    device = next(model.parameters()).device
    ids_PT, mask_PT = left_padded(prompts, pad_id)
    ids_PT, mask_PT = ids_PT.to(device), mask_PT.to(device)
    first = model(input_ids=ids_PT, attention_mask=mask_PT, position_ids=positions(mask_PT), use_cache=True, logits_to_keep=1)
    logprobs_PV = first.logits[:, -1].float().log_softmax(-1)
    total_PC = logprobs_PV[:, torch.tensor([answer[0] for answer in answers], device=device)]
    longest = max(map(len, answers))
    if longest == 1:
        return total_PC.cpu()
    answers_CL = torch.tensor([[*answer, *[pad_id] * (longest - len(answer))] for answer in answers], device=device)
    real_CL = torch.tensor([[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers], device=device)
    P, C = len(prompts), len(answers)
    cache = first.past_key_values
    cache.batch_repeat_interleave(C)
    inputs = answers_CL[:, :-1].repeat(P, 1)
    mask = torch.cat([mask_PT.repeat_interleave(C, 0), torch.ones_like(inputs)], 1)
    start = mask_PT.sum(1).repeat_interleave(C)[:, None]
    rest = model(
        input_ids=inputs,
        attention_mask=mask,
        position_ids=start + torch.arange(longest - 1, device=device),
        past_key_values=cache,
        use_cache=True,
    )
    logprobs = rest.logits.float().log_softmax(-1)
    picked = logprobs.gather(-1, answers_CL[:, 1:].repeat(P, 1)[..., None])[..., 0] * real_CL[:, 1:].repeat(P, 1)
    return (total_PC + picked.sum(1).view(P, C)).cpu()


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy answers as text, special tokens left out."""
    device = next(model.parameters()).device
    ids_PT, mask_PT = left_padded(prompts, tokenizer.pad_token_id)
    out = model.generate(input_ids=ids_PT.to(device), attention_mask=mask_PT.to(device), do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.batch_decode(out[:, ids_PT.shape[1] :], skip_special_tokens=True)


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """ids and attention mask, [P, T] each; padding stands in front so that every prompt ends in the last column."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def positions(mask_PT: Tensor) -> Tensor:
    """Positions that start at 0 with the first real token."""
    return (mask_PT.cumsum(1) - 1).clamp(min=0)
