"""The log-likelihood of letters under a model, whatever its pieces: whole tokens, and the letters inside them.

The probability that the next letters are x1 ... xj is the sum over all pieces that begin with them. So a token's letters are

    log p(x1) + (log p(x1 x2) - log p(x1)) + ... + (log p(token) - log p(x1 ... xn-1)),

which add up to the token's own log-likelihood. Of fixed blocks these are the exact conditional probabilities; of one-letter
vocabularies there is nothing to add; of BPE pieces they are those of the canonical segmentation, which is one of many.

Shapes: B rows, T tokens of a row, N scored tokens, V ids, P pieces of the alphabet, L letters of the longest piece,
R beginnings inside tokens, S pieces that begin so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eval.ask.subjects import open_model
from eval.sequences.frame import Frame, Spelling, Window
from eval.sequences.recipe import SequencesRecipe

CHUNK_BYTES = 1 << 26
"""Float32 logits worked on at a time."""


class Reader:
    """A model that is opened when the first batch is asked."""

    def __init__(self, recipe: SequencesRecipe, frame: Frame) -> None:
        self._recipe, self.frame = recipe, frame
        self._model: Any = None

    @property
    def model(self) -> Any:
        if self._model is None:
            self._model = open_model(self._recipe.subject)
            if self._recipe.precision == "fp32":
                self._model.float()
        return self._model

    def __call__(self, batch: Sequence[Window]) -> list[Any]:
        return nats(self.model, self.frame, batch)


@torch.no_grad()
def nats(model: Any, frame: Frame, batch: Sequence[Window]) -> list[Any]:
    """Of each window the summed log-likelihood of its scored tokens; with `by_letter`, a list of each letter's."""
    head, device = len(frame.head), next(model.parameters()).device
    rows = [[*frame.head, *window.ids.tolist()] for window in batch]
    longest = max(map(len, rows))
    # padding stands behind the letters, where nothing that counts sees it
    ids_BT = torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    found: list[Any] = []
    for row, window in enumerate(batch):
        first, size = head + window.first, max(1, CHUNK_BYTES // (4 * logits_BTV.shape[-1]))
        parts: list[Tensor] = []
        for start in range(first, len(rows[row]), size):
            labels_N = ids_BT[row, start : min(start + size, len(rows[row]))]
            logprobs_NV = logits_BTV[row, start - 1 : start - 1 + len(labels_N)].float().log_softmax(-1)
            own_N = logprobs_NV.gather(1, labels_N[:, None])[:, 0].double()
            parts.append(by_letter(logprobs_NV, own_N, labels_N, frame.spelling) if window.by_letter else own_N)
        values = torch.cat(parts)
        found.append(values.tolist() if window.by_letter else float(values.sum()))
    return found


def by_letter(logprobs_NV: Tensor, own_N: Tensor, labels_N: Tensor, spelling: Spelling) -> Tensor:
    """The log-likelihood of every letter of the tokens, in their order, given the tokens and letters before it; float64.

    Args:
        own_N: of the tokens themselves.
    """
    if spelling.longest == 1:
        return own_N
    device, pieces_N = own_N.device, [spelling.place_of[number] for number in labels_N.tolist()]
    ranges_NL2, letters_N = (torch.from_numpy(of_P[pieces_N]).to(device) for of_P in (spelling.beginnings_PL2, spelling.letters_P))
    begun_NL = own_N[:, None].repeat(1, spelling.longest)  # the last letter also ends the token
    # the beginnings inside tokens, and the places of the pieces that begin so, one range after the other
    tokens_R, ends_R = torch.nonzero(torch.arange(1, spelling.longest, device=device) < letters_N[:, None], as_tuple=True)
    first_R, last_R = ranges_NL2[tokens_R, ends_R].unbind(1)
    sizes_R = last_R - first_R
    range_S = torch.repeat_interleave(sizes_R)
    places_S = torch.arange(len(range_S), device=device) - (sizes_R.cumsum(0) - sizes_R - first_R)[range_S]
    logprobs_NP = logprobs_NV[:, torch.from_numpy(spelling.ids_P).to(device)]
    # beside the token's own, which is one of them, so that no sum is 0
    beside_S = logprobs_NP[tokens_R[range_S], places_S].double() - own_N[tokens_R[range_S]]
    if len(sizes_R):  # the library reduces no empty array
        begun_NL[tokens_R, ends_R] += torch.segment_reduce(beside_S.exp(), "sum", lengths=sizes_R).log()
    steps_NL = begun_NL.diff(dim=1, prepend=torch.zeros_like(begun_NL[:, :1]))
    return steps_NL[torch.arange(spelling.longest, device=device) < letters_N[:, None]]
