"""Keep new ids out of text, and those of one modality out of the other: one vector for all new output rows of a kind.

A new row is made of the rows of letters (tokenizer/rows.py), and so takes probability from text wherever a letter, a capital or
an abbreviation may follow: 4 to 7 % more bits per byte of English on a pretrained LLaMA, before any training. Rows that begin
at the mean of all others do not, but begin far worse on sequences. The final hidden states behind text, bases and residues
differ enough for a linear function of them to tell which is which. Its vector lowers the logits of new ids by `nats` where they
have no place; the ratios among the ids of a kind stay as they are, and old rows stay untouched.

It is fitted by ridge regression on the hidden states of the base over texts that the base itself writes and random letters between
tags, so it needs no file, and held-out text stays unseen. Suffixes: N contexts, D hidden, G kinds of ids, P places (text, bases,
residues), B texts, T tokens.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sequences.alphabets import ALPHABETS, PLAIN_LETTERS
from tokenizer.report.loss import SEQUENCE, Window, bits_per_letter, scored_sequences
from tokenizer.report.models import on_device
from tokenizer.report.ways import ours
from tokenizer.rows import new_rows, sources

if TYPE_CHECKING:
    from tokenizer.extend import Parts

TEXTS, TOKENS = 24, 96
"""Texts that the base writes, and the tokens of each."""
SEQUENCES = 12
"""Random sequences of each kind."""
FITS = 4
"""Fits at most on a tied base. On SmolLM2 with 6-mers the second was the best."""
RISE = 2.0
"""Nats by which logits are to rise where they belong: old ids would take probability there."""
MODALITY = {"dna": "dna", "rna": "dna", "protein": "protein"}
"""Alphabet -> the pieces that its sequences are made of."""
UNTRAINED = 0.9
"""Share of a guess's entropy from which a base has learned no text: the vector would be larger than its rows, and keep nothing."""
RIDGE = 1e-3
"""Of the mean square of the hidden states. 0.1 leaves text three times the cost; below, the vector only grows."""


@torch.no_grad()
def text_shift(
    model: Any, parts: Parts, start: int, nats: float, noise: float, seed: int
) -> tuple[dict[int, Tensor] | None, dict[str, Any]]:
    """What is to be added to every new output row: id -> [hidden] in float32, one tensor for all ids of a kind; and what that does.

    Kinds: pieces of DNA and RNA, pieces of proteins, tags (out of text alone), and what no encoding ever ends on (out of everything).

    Args:
        model: the base, loaded; it is changed: it gets rows for the new ids, as `new_rows` makes them.
        start: id that begins every text (BOS).
        nats: how far the logits of new ids are to fall where they have no place, on average.
        noise: see `new_rows`.
        seed: of the rows, as the input matrix has it, of the texts and of the sequences.

    Returns:
        The vectors, and for each kind what they add to its logits, on average in `text`, `dna` and `protein`, and their norm.
        None, and the reason, where the base has learned no text.
    """
    new, draw = parts.new, random.Random(seed)
    first, rows = min(new.all), max(new.all) + 1
    matrix_VD = model.resize_token_embeddings(rows, mean_resizing=False).weight
    for ids, rows_ND in new_rows(matrix_VD, first, sources(parts.base.tokenizer, new), noise, seed):
        matrix_VD[torch.tensor(ids)] = rows_ND.to(matrix_VD.dtype)
    model = on_device(model)
    text_ND, entropy = _text(model, start, seed, list(range(first, rows)))
    if entropy > UNTRAINED * math.log(first):
        return None, {"skipped": "the base has learned no text, it all but guesses"}
    windows: dict[str, list[Window]] = {"dna": [], "protein": []}
    for name in ALPHABETS:
        sequences = ["".join(draw.choices(PLAIN_LETTERS[name], k=SEQUENCE)) for _ in range(SEQUENCES)]
        windows[MODALITY[name]] += scored_sequences(ours(parts.extended, new), name, sequences, start)
    kinds = {"dna": new.pieces["dna"].values(), "protein": new.pieces["protein"].values(), "tags": new.tags.values()}
    kind_of = {index: kind for kind, ids in kinds.items() for index in ids}
    best = fitted = _fitted({"text": text_ND, **_states(model, windows)}, nats)
    if model.config.tie_word_embeddings:
        # the vectors move the input rows too, and with them the states that they were fitted on: fit again as long as sequences gain
        plain_ND, least = matrix_VD[first:].clone(), math.inf
        for _ in range(FITS):
            shifts_ND = torch.stack([fitted[0][kind_of.get(index, "others")] for index in range(first, rows)])
            matrix_VD[first:] = plain_ND + shifts_ND.to(plain_ND)
            cost = sum(bits_per_letter(model, own, f"loss on {kind}")[0] for kind, own in windows.items())
            if cost >= least:
                break
            best, least = fitted, cost
            fitted = _fitted({"text": text_ND, **_states(model, windows)}, nats)
    shifts, figures = best
    of_ids = {index: shifts[kind] for index, kind in kind_of.items()}
    return defaultdict(lambda: shifts["others"], of_ids), figures


def _states(model: Any, windows: dict[str, list[Window]]) -> dict[str, Tensor]:
    """Final hidden states of sequences, [contexts, hidden] of each kind."""
    return {
        kind: torch.cat([_hidden(model, torch.tensor([window.ids]))[window.first - 1 : -1] for window in own])
        for kind, own in windows.items()
    }


def _fitted(contexts: dict[str, Tensor], nats: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The vector of each kind of ids, and what it adds to their logits in each place."""
    wanted = {
        "dna": {"text": -nats, "dna": RISE, "protein": -nats},
        "protein": {"text": -nats, "dna": -nats, "protein": RISE},
        "tags": {"text": -nats, "dna": 0.0, "protein": 0.0},
        "others": {"text": -nats, "dna": -nats, "protein": -nats},
    }
    # text, bases and residues count alike, however many tokens they take
    gram_DD = torch.stack([one_ND.T @ one_ND / len(one_ND) for one_ND in contexts.values()]).sum(0)
    ridge = RIDGE * gram_DD.diagonal().mean() + torch.finfo(torch.float32).tiny  # a model of zeros has no hidden states
    targets_PG = torch.tensor([[kind[place] for kind in wanted.values()] for place in contexts], dtype=torch.float64)
    means_DP = torch.stack([one_ND.mean(0) for one_ND in contexts.values()], 1)
    shifts_DG = torch.linalg.solve(gram_DD + ridge * torch.eye(len(gram_DD)), means_DP @ targets_PG)
    shifts = dict(zip(wanted, shifts_DG.T.float().contiguous(), strict=True))
    figures = {
        kind: {place: (one_ND.float() @ shift_D).mean().item() for place, one_ND in contexts.items()} | {"norm": shift_D.norm().item()}
        for kind, shift_D in shifts.items()
    }
    return shifts, figures


def _text(model: Any, start: int, seed: int, new: list[int]) -> tuple[Tensor, float]:
    """Final hidden states of texts drawn from the model itself, old ids alone, [contexts, hidden]; their entropy in nats a token."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # no end: what stands behind one would be padding
        ids_BT = model.generate(
            torch.full((TEXTS, 1), start, device=model.device),
            do_sample=True,
            top_k=0,
            max_new_tokens=TOKENS,
            eos_token_id=None,
            pad_token_id=new[0],
            suppress_tokens=new,
        )
    hidden = [_hidden(model, ids_T[None]) for ids_T in ids_BT]
    old_VD = model.get_output_embeddings().weight[: new[0]]
    chances = (torch.distributions.Categorical(logits=(hidden_TD.to(old_VD) @ old_VD.T).float()) for hidden_TD in hidden)
    return torch.cat(hidden), sum(chance.entropy().mean().item() for chance in chances) / len(hidden)


def _hidden(model: Any, ids_1T: Tensor) -> Tensor:
    """Final hidden states behind every token, [tokens, hidden] in float64."""
    return model.get_decoder()(input_ids=ids_1T.to(model.device), use_cache=False).last_hidden_state[0].double().cpu()
