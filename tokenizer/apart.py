"""Keep new ids out of text: one vector, the same for every new output row, that lowers their logits in text alone.

A new row is made of the rows of letters (tokenizer/rows.py), and so takes probability from text wherever a letter, a capital or
an abbreviation may follow: 4 to 7 % more bits per byte of English on a pretrained LLaMA, before any training. Rows that begin
at the mean of all others do not, but begin far worse on sequences. The final hidden states behind text and behind new
ids differ enough that one linear function of them is -`nats` in the one and `IN_SEQUENCES` in the other. Its vector, added to every
new output row, leaves the ratios among new ids as they are; old rows stay untouched.

It is fitted by ridge regression on the hidden states of the base over texts that the base itself writes and random letters between
tags, so it needs no file, and held-out text stays unseen. Suffixes: N contexts, D hidden, B texts, T tokens.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sequences.alphabets import ALPHABETS, PLAIN_LETTERS
from tokenizer.report.loss import SEQUENCE, scored_sequences
from tokenizer.report.models import on_device
from tokenizer.report.ways import ours
from tokenizer.rows import new_rows, sources

if TYPE_CHECKING:
    from tokenizer.parts import Parts

TEXTS, TOKENS = 24, 96
"""Texts that the base writes, and the tokens of each."""
SEQUENCES = 12
"""Random sequences of each kind."""
IN_SEQUENCES = 2.0
"""Nats by which the logits of new ids are to rise in sequences, where old ids would take probability from them."""
UNTRAINED = 0.9
"""Share of a guess's entropy from which a base has learned no text: the vector would be larger than its rows, and keep nothing."""
RIDGE = 1e-3
"""Of the mean square of the hidden states. 0.1 leaves text three times the cost; below, the vector only grows."""


@torch.no_grad()
def text_shift(model: Any, parts: Parts, start: int, nats: float, noise: float, seed: int) -> tuple[Tensor | None, dict[str, Any]]:
    """What is to be added to every new output row, [hidden] in float32, and what that does.

    Args:
        model: the base, loaded; it is changed: it gets rows for the new ids, as `new_rows` makes them.
        start: id that begins every text (BOS).
        nats: how far the logits of new ids are to fall in text, on average.
        noise: see `new_rows`.
        seed: of the rows, as the input matrix has it, of the texts and of the sequences.

    Returns:
        The vector, and of the logits that it adds: mean and deviation in text, mean in sequences; and its norm. None, and the
        reason, where the base has learned no text.
    """
    new, draw, kinds = parts.new, random.Random(seed), []
    first, rows = min(new.all), max(new.all) + 1
    matrix_VD = model.resize_token_embeddings(rows, mean_resizing=False).weight
    for ids, rows_ND in new_rows(matrix_VD, first, sources(parts.base.tokenizer, new), noise, seed):
        matrix_VD[torch.tensor(ids)] = rows_ND.to(matrix_VD.dtype)
    model = on_device(model)
    text_ND, entropy = _text(model, start, seed, list(range(first, rows)))
    if entropy > UNTRAINED * math.log(first):
        return None, {"skipped": "the base has learned no text, it all but guesses"}
    for name in ALPHABETS:
        sequences = ["".join(draw.choices(PLAIN_LETTERS[name], k=SEQUENCE)) for _ in range(SEQUENCES)]
        windows = scored_sequences(ours(parts.extended, new), name, sequences, start)
        kinds.append(torch.cat([_hidden(model, torch.tensor([window.ids]))[window.first - 1 : -1] for window in windows]))
    # text counts as much as all sequences, and each kind of sequence as much as the others
    gram_DD = _gram(text_ND) + torch.stack([_gram(kind_ND) for kind_ND in kinds]).mean(0)
    ridge = RIDGE * gram_DD.diagonal().mean() + torch.finfo(torch.float32).tiny  # a model of zeros has no hidden states
    wanted_D = IN_SEQUENCES * torch.stack([kind_ND.mean(0) for kind_ND in kinds]).mean(0) - nats * text_ND.mean(0)
    shift_D = torch.linalg.solve(gram_DD + ridge * torch.eye(len(gram_DD)), wanted_D)
    text_N, sequences_N = text_ND @ shift_D, torch.cat([(kind_ND @ shift_D).mean(0, keepdim=True) for kind_ND in kinds])
    figures = {"in_text": text_N.mean(), "deviation_in_text": text_N.std(), "in_sequences": sequences_N.mean(), "norm": shift_D.norm()}
    return shift_D.float(), {name: value.item() for name, value in figures.items()}


def _text(model: Any, start: int, seed: int, new: list[int]) -> tuple[Tensor, float]:
    """Final hidden states of texts drawn from the model itself, old ids alone, [contexts, hidden]; their entropy in nats a token."""
    from transformers import GenerationConfig

    free = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=TOKENS, pad_token_id=new[0], suppress_tokens=new)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ids_BT = model.generate(torch.full((TEXTS, 1), start, device=model.device), generation_config=free)
    hidden = [_hidden(model, ids_T[None]) for ids_T in ids_BT]
    old_VD = model.get_output_embeddings().weight[: new[0]]
    chances = (torch.distributions.Categorical(logits=(hidden_TD.to(old_VD) @ old_VD.T).float()) for hidden_TD in hidden)
    return torch.cat(hidden), sum(chance.entropy().mean().item() for chance in chances) / len(hidden)


def _hidden(model: Any, ids_1T: Tensor) -> Tensor:
    """Final hidden states behind every token, [tokens, hidden] in float64."""
    return model.get_decoder()(input_ids=ids_1T.to(model.device), use_cache=False).last_hidden_state[0].double().cpu()


def _gram(hidden_ND: Tensor) -> Tensor:
    return hidden_ND.T @ hidden_ND / len(hidden_ND)
