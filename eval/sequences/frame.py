"""How a model spells sequences, and which of its tokens are scored.

A window is `[begin] <tag> pieces`, as pre-training packs it (data_convert/corpus/encode.py). The closing tag spells no letter, so
it is not read. A sequence that is longer than a window is cut between pieces of the whole sequence's spelling, and each piece is
scored in one window.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import UserError
from data_convert.corpus.encode import Encoder
from eval.ask.subjects import located
from eval.sequences.recipe import SequencesRecipe
from tokenizer.encoders import read_encoders

MOST_CONTEXT = 8192
"""Tokens of a window, where the model has more and the recipe does not say."""
BEHIND = "\x7f"
"""Comes after every letter."""
EXACT = {
    "letters": "letters: exact",
    "blocks": "fixed blocks: exact for each token, and for each letter by the sum over all pieces that begin so",
    "pieces": "pieces: the likelihood of the canonical segmentation, a lower bound for the letters",
}
"""What is true of a likelihood, by how the vocabulary spells."""


class Ask(NamedTuple):
    """Letters whose log-likelihood is wanted: those from `first` to `last`, given all before them."""

    letters: str
    first: int = 0
    last: int | None = None
    each: bool = False
    """Every letter's own, and not their sum alone."""

    @property
    def by_letter(self) -> bool:
        """Whether sums of whole tokens do not do: the ends may lie inside a token."""
        return self.each or self.first > 0 or self.last is not None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Pieces that are read in one row."""

    ask: int
    """Place of the `Ask`."""
    ids: NDArray[np.uint32]
    first: int
    """The pieces from here on are scored."""
    by_letter: bool
    skip: int
    """Letters of its first scored piece that nobody asked for."""

    def __len__(self) -> int:
        return len(self.ids)


class Spelling:
    """An alphabet's pieces in alphabetical order, where all pieces with the same beginning are neighbours.

    Shapes: P pieces, L letters of the longest piece.
    """

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self.words = sorted(pieces)
        self.id_of = dict(pieces)
        self.ids_P = np.array([pieces[word] for word in self.words], dtype=np.int64)
        self.longest = max(map(len, self.words))
        self.word_of = {number: word for word, number in pieces.items()}
        self.letters_P = np.array(list(map(len, self.words)), dtype=np.int64)
        self.place_of = {number: place for place, number in enumerate(self.ids_P.tolist())}

    def beginning(self, prefix: str) -> tuple[int, int]:
        """Places of the first piece that begins so, and of the first after all that do."""
        return bisect_left(self.words, prefix), bisect_left(self.words, prefix + BEHIND)

    @cached_property
    def beginnings_PL2(self) -> NDArray[np.int64]:
        """The same of each piece's first letter, first two letters, and so on; 0 from its last letter on."""
        known, found = cache(self.beginning), np.zeros((len(self.words), self.longest, 2), dtype=np.int64)
        for row, word in zip(found, self.words, strict=True):
            for end in range(1, len(word)):
                row[end - 1] = known(word[:end])
        return found

    def held_back(self, ids: Sequence[int]) -> int:
        """Last tokens of a prompt that a longer piece could take the place of: their letters begin it.

        Nobody can know where the next piece should begin before the letters are there (token healing); letters and whole blocks
        never end inside a longer piece.
        """
        held, text = 0, ""
        for count, number in enumerate(reversed(ids), 1):
            text = self.word_of[number] + text
            if len(text) >= self.longest:
                break
            first, last = self.beginning(text)
            if last - first > (text in self.id_of):
                held = count
        return held


@dataclass(frozen=True)
class Frame:
    """A model's tokenizer and context, for one alphabet."""

    encoder: Any
    spelling: Spelling
    head: list[int]
    """Ids before the first piece."""
    room: int
    """Pieces of a window."""
    whole: int
    """Letters of a fixed block; 1 where pieces are not such."""

    @classmethod
    def of(cls, recipe: SequencesRecipe) -> Self:
        """
        Raises:
            UserError: a tokenizer that is not extended, or not this model's; a window that holds nothing.
        """
        from transformers import AutoConfig

        folder, modality = located(recipe.model), recipe.alphabet
        start = Encoder(folder, set(), 1).start
        encoder = read_encoders(folder, [modality])[modality]
        config = AutoConfig.from_pretrained(folder).get_text_config()
        if config.vocab_size <= max(encoder.pieces.values()):
            raise UserError(f"{recipe.model}: {config.vocab_size} embedding rows, fewer than its tokenizer has ids; take another model")
        most = getattr(config, "max_position_embeddings", None) or MOST_CONTEXT
        if recipe.context is not None and recipe.context > most:
            raise UserError(f"context={recipe.context}: {recipe.model} was made for {most}; ask for no more")
        head = [*start, encoder.tags[0]]
        room = (recipe.context or min(most, MOST_CONTEXT)) - len(head)
        if room < 1:
            raise UserError(f"{recipe.model}: a context of {most} tokens holds no piece of a sequence; take another model")
        return cls(encoder, Spelling(encoder.pieces), head, room, getattr(encoder, "k", 1))

    @property
    def way(self) -> str:
        """One of EXACT."""
        return "letters" if self.spelling.longest == 1 else "blocks" if self.whole > 1 else "pieces"

    def windows(self, asks: Sequence[Ask], overlap: float | None = None) -> list[Window]:
        """The rows to read, those of one ask one after the other.

        Args:
            overlap: share of a window that is letters of the one before, read again as context; None: no ask may need several.

        Raises:
            UserError: an ask of more tokens than a window has.
        """
        found: list[Window] = []
        for place, (ask, ids) in enumerate(zip(asks, self.encoder.encode_many([ask.letters for ask in asks]), strict=True)):
            if overlap is None and len(ids) > self.room:
                raise UserError(
                    f"{len(ask.letters):,} letters are {len(ids):,} tokens here, and a window has {self.room:,}; ask for fewer letters"
                )
            ends = np.cumsum(self.encoder.letters_of[ids])
            first = int(np.searchsorted(ends, ask.first, "right"))
            last = len(ids) if ask.last is None else int(np.searchsorted(ends, ask.last, "left")) + 1
            for begin, scored, end in _cuts(len(ids), self.room, overlap or 0.0):
                if max(scored, first) >= min(end, last):
                    continue
                skip = ask.first - (int(ends[first - 1]) if first else 0) if first >= scored else 0
                found.append(Window(place, ids[begin : min(end, last)], max(scored, first) - begin, ask.by_letter, skip))
        return found

    def log_likelihoods(self, asks: Sequence[Ask], windows: Sequence[Window], nats: Sequence[Any]) -> list[list[float]]:
        """What the windows gave, by ask: the log-likelihood of each letter with `by_letter`, else of each window.

        Args:
            nats: of each window what `likelihood.nats` gave.
        """
        found: list[list[float]] = [[] for _ in asks]
        for window, value in zip(windows, nats, strict=True):
            found[window.ask] += value[window.skip :] if window.by_letter else [value]
        for values, ask in zip(found, asks, strict=True):
            if ask.by_letter:
                del values[(len(ask.letters) if ask.last is None else ask.last) - ask.first :]
        return found


def _cuts(tokens: int, room: int, overlap: float) -> Iterator[tuple[int, int, int]]:
    """(begin, first that is scored, end) of each window."""
    scored = 0
    while scored < tokens:
        begin = max(0, scored - int(overlap * room)) if scored else 0
        end = min(begin + room, tokens)
        yield begin, scored, end
        scored = end
