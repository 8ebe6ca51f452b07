"""The likeliest next letters behind prompts, whatever the vocabulary.

`token` takes the likeliest piece. `base` takes the likeliest next letter, by the sum over all pieces that begin so, until a piece
that ends there is likelier than any letter more: of fixed blocks each letter is chosen by its marginal. Where a prompt ends inside
what may be a longer piece, its last letters are held back, and the first piece begins with them.

Shapes: R prompts, T tokens, P pieces of the alphabet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from eval.ask.likelihood import left_padded, positions, takes_trees
from eval.sequences.frame import Frame, Spelling
from eval.sequences.likelihood import Reader

Way = Literal["token", "base"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Letters to go on behind."""

    ids: list[int]
    """Head included."""
    held: str
    """Letters that the first piece begins with."""

    def __len__(self) -> int:
        return len(self.ids)


def prompts_of(frame: Frame, texts: Sequence[str]) -> list[Prompt]:
    """The prompts of letters."""
    found = []
    for ids in frame.encoder.encode_many(list(texts)):
        kept = len(ids) - frame.spelling.held_back(ids.tolist())
        held = "".join(frame.spelling.word_of[one] for one in ids[kept:].tolist())
        found.append(Prompt([*frame.head, *ids[:kept].tolist()], held))
    return found


class Continuing(Reader):
    """Batches of prompts -> the next letters of each."""

    def __init__(self, recipe: Any, frame: Frame, letters: int) -> None:
        super().__init__(recipe, frame)
        self._letters, self._way = letters, recipe.greedy

    def __call__(self, batch: Sequence[Any]) -> list[str]:
        longest = max(map(len, batch)) + self._letters
        # without padding any causal model is right
        groups = [batch] if takes_trees(self.model, longest) else [[prompt] for prompt in batch]
        return [text for group in groups for text in continued(self.model, self.frame.spelling, group, self._letters, self._way)]


@torch.no_grad()
def continued(model: Any, spelling: Spelling, prompts: Sequence[Prompt], letters: int, way: Way) -> list[str]:
    """So many letters behind each prompt."""
    device = next(model.parameters()).device
    ids_RT, mask_RT = (part.to(device) for part in left_padded([prompt.ids for prompt in prompts], prompts[0].ids[0]))
    pieces_P = torch.from_numpy(spelling.ids_P).to(device)
    texts, held = ["" for _ in prompts], [prompt.held for prompt in prompts]
    cache = None
    places_RT = positions(mask_RT)
    while True:
        out = model(
            input_ids=ids_RT, attention_mask=mask_RT, position_ids=places_RT, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        cache = out.past_key_values
        logprobs_RP = out.logits[:, -1, pieces_P].float().log_softmax(-1).double().cpu().numpy()
        words = [next_piece(spelling, logprobs_P, begun, way) for logprobs_P, begun in zip(logprobs_RP, held, strict=True)]
        texts = [text + word[len(begun) :] for text, word, begun in zip(texts, words, held, strict=True)]
        if min(map(len, texts)) >= letters:
            return [text[:letters] for text in texts]
        held = ["" for _ in prompts]
        ids_RT = torch.tensor([[spelling.id_of[word]] for word in words], device=device)
        mask_RT, places_RT = torch.cat([mask_RT, torch.ones_like(mask_RT[:, :1])], 1), places_RT[:, -1:] + 1


def next_piece(spelling: Spelling, logprobs_P: NDArray[np.float64], held: str, way: Way) -> str:
    """The piece that goes on: longer than the letters held back, and beginning with them."""
    first, last = spelling.beginning(held)
    if way == "token":
        first += spelling.words[first] == held  # the shortest comes first
        return spelling.words[first + int(logprobs_P[first:last].argmax())]
    weights_P = np.exp(logprobs_P - logprobs_P[first:last].max())
    text = held
    while True:
        best, following = -1.0, ""
        if len(text) > len(held) and spelling.words[first] == text:
            best = weights_P[first]
        for letter in sorted({word[len(text)] for word in spelling.words[first:last] if len(word) > len(text)}):
            begin, end = spelling.beginning(text + letter)
            if (mass := weights_P[begin:end].sum()) > best:
                best, following = mass, letter
        if not following:
            return text
        text += following
        first, last = spelling.beginning(text)
