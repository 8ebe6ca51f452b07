"""Log-likelihood of every candidate answer behind a prompt, and the greedy answer, on one shared prefix cache.

The prompts are read once. All candidates are then scored in one more pass over the nodes of their prefix tree, laid out
behind the cached prompt, where a mask lets each node see its own branch only (tree attention). The likeliest token at every
node is known from the same pass, so a greedy answer that is one of the candidates costs nothing more. Of large sets of
candidates a prediction reads only what can come close to the likeliest one (`eval.ask.branches`).

Shapes: P prompts, C candidates, T prompt tokens, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eval.ask.branches import Prefix, score
from eval.ask.trie import Trie
from training.documents import NAME as BY_DOCUMENT

SHARED = 8
"""Tokens from which a common beginning of prompts is worth a pass of its own."""


@torch.no_grad()
def answered(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    max_new_tokens: int,
    greedy_text: bool = True,
    prune_nats: float | None = None,
) -> tuple[list[list[float]] | None, list[str] | None]:
    """Log-likelihoods `[P][C]` of the answers (None without answers) and greedy texts (None unless asked for).

    Args:
        prompts: P lists of prompt ids.
        answers: C lists of answer ids, the same candidates for every prompt; a log-likelihood is that of a full answer, its
            end-of-turn token included.
        prune_nats: of large sets, read what can lie this close to the likeliest answer only; see `eval.ask.branches.score`.
    """
    pad_id, trie = tokenizer.pad_token_id, Trie(answers)
    if not takes_trees(model, max(map(len, prompts)) + len(trie)):
        rows = separately(model, prompts, answers, pad_id).tolist() if answers else None
        return rows, greedy(model, tokenizer, prompts, max_new_tokens) if greedy_text else None
    rows = None
    prefix = read(model, prompts, pad_id)
    found: list[list[int] | None] = [None] * len(prompts)
    stops = stop_ids(model)
    if answers:
        logprobs_PC, best_PN = score(model, prefix, trie, prune_nats)
        rows = logprobs_PC.tolist()
        found = [trie.greedy(best, stops) for best in best_PN.tolist()]
    if not greedy_text:
        return rows, None
    free = [index for index, ids in enumerate(found) if ids is None]
    if free:
        for index, ids in zip(free, continued(model, prefix, free, max_new_tokens, stops, pad_id), strict=True):
            found[index] = ids
    return rows, tokenizer.batch_decode(found, skip_special_tokens=True)


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy answers as text, special tokens left out."""
    stops, pad_id = stop_ids(model), tokenizer.pad_token_id
    if takes_trees(model, max(map(len, prompts)) + max_new_tokens):
        found = continued(model, read(model, prompts, pad_id), range(len(prompts)), max_new_tokens, stops, pad_id)
        return tokenizer.batch_decode(found, skip_special_tokens=True)
    ids_PT, mask_PT = left_padded(prompts, pad_id)
    device = next(model.parameters()).device
    out = model.generate(
        input_ids=ids_PT.to(device),
        attention_mask=mask_PT.to(device),
        max_new_tokens=max_new_tokens,
        pad_token_id=pad_id,
    )
    return tokenizer.batch_decode(out[:, ids_PT.shape[1] :], skip_special_tokens=True)


def takes_trees(model: Any, longest: int) -> bool:
    """Whether prompts and trees of so many tokens can be laid out behind one another: plain attention over all of them,
    positions given from outside. Others (linear attention, position biases, a shorter window) are scored `separately`."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT
    config = plain.config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return (
        "position_ids" in inspect.signature(plain.forward).parameters
        and config._attn_implementation in ("sdpa", BY_DOCUMENT, "eager")
        and set(getattr(config, "layer_types", None) or []) <= {"full_attention", "sliding_attention"}
        and not getattr(plain, "_is_stateful", False)
        and (window is None or longest < window)
    )


def stop_ids(model: Any) -> list[int]:
    """The ids that end an answer."""
    stops = model.generation_config.eos_token_id
    return stops if isinstance(stops, list) else [] if stops is None else [stops]


def read(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> Prefix:
    """Read the prompts in one batch; what all of them begin with (the question's words, a system's) once for all."""
    device, P = next(model.parameters()).device, len(prompts)
    shortest = min(map(len, prompts)) - 1  # a token is left for everyone
    S = next((place for place in range(shortest) if len({prompt[place] for prompt in prompts}) > 1), shortest)
    cache = None
    if P > 1 and S >= SHARED:
        cache = model(input_ids=torch.tensor([list(prompts[0][:S])], device=device), use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(P)
    else:
        S = 0
    ids_PR, mask_PR = (part.to(device) for part in left_padded([prompt[S:] for prompt in prompts], pad_id))
    mask_PT = torch.cat([mask_PR.new_ones(P, S), mask_PR], 1)
    places = positions(mask_PT)[:, S:]
    out = model(input_ids=ids_PR, attention_mask=mask_PT, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(prompts, mask_PT, out.past_key_values, out.logits[:, -1].float())


def continued(model: Any, prefix: Prefix, rows: Sequence[int], max_new_tokens: int, stops: Sequence[int], pad_id: int) -> list[list[int]]:
    """Greedy ids behind some of the prompts, each up to its stop token or to the room given. Uses the cache up."""
    device = prefix.mask_PT.device
    index = torch.tensor(list(rows), device=device)
    prefix.cache.batch_select_indices(index)
    mask, logits = prefix.mask_PT[index], prefix.logits_PV[index]
    place, ended = mask.sum(1, keepdim=True), torch.tensor(list(stops), device=device)
    done = torch.zeros(len(index), dtype=torch.bool, device=device)
    columns: list[Tensor] = []
    while True:
        token = logits.argmax(-1).masked_fill(done, pad_id)
        columns.append(token)
        done = done | torch.isin(token, ended)
        if len(columns) == max_new_tokens or bool(done.all()):
            break
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        out = model(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=place,
            past_key_values=prefix.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits, place = out.logits[:, -1].float(), place + 1
    answers = []
    for ids in torch.stack(columns, 1).tolist():
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids) - 1)
        answers.append(ids[: end + 1])
    return answers


@torch.no_grad()
def separately(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """float32 [P, C]: every prompt with every answer read as a row of its own, which is right for any causal model, and slow."""
    device = next(model.parameters()).device
    rows = []
    for prompt in prompts:
        # padding behind the answer: nothing that counts can see it, whatever the model does with positions and masks
        longest = max(map(len, answers))
        ids = torch.tensor([[*prompt, *answer, *[pad_id] * (longest - len(answer))] for answer in answers], device=device)
        mask = torch.tensor([[1] * (len(prompt) + len(answer)) + [0] * (longest - len(answer)) for answer in answers], device=device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, len(prompt) - 1 : -1].float()
        picked = logits.log_softmax(-1).gather(-1, ids[:, len(prompt) :, None])[..., 0]
        rows.append((picked * mask[:, len(prompt) :]).sum(1))
    return torch.stack(rows).cpu()


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """ids and attention mask, [P, T] each; padding stands in front so that every prompt ends in the last column."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def positions(mask_PT: Tensor) -> Tensor:
    """Positions that start at 0 with the first real token."""
    return (mask_PT.cumsum(1) - 1).clamp(min=0)
