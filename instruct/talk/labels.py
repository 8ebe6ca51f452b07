"""Which labels a prompt asks for: those of a task that is named, or of the card in whose very words the prompt is written."""

import re
import string
from dataclasses import dataclass, replace
from functools import cache, cached_property

from data_convert.tasks.card_fields import CHOICE_SEPARATOR
from data_convert.tasks.cards import TaskCard, find_cards


@dataclass(frozen=True)
class Asked:
    """A classification that a prompt asks for."""

    tasks: tuple[str, ...]
    """Ids of the cards; several when they ask the same in the same words."""
    labels: tuple[str, ...]
    """In the card's order."""
    reasoned: bool = False
    """Whether a reason follows the label on the next line."""

    def __str__(self) -> str:
        more = f" and {len(self.tasks) - 1} more with the same words and labels" if len(self.tasks) > 1 else ""
        return f"{self.tasks[0]}{more}"


class Recogniser:
    """Knows prompts of cards by their wording.

    A prompt is recognised only when it is one of a card's own wordings from end to end, blanks aside, with a sequence of the right kind
    in each place and all of the card's labels, in any order, where they are listed.
    """

    def __init__(self, cards: list[TaskCard]) -> None:
        # a row's own text has no pattern
        self._cards = [card for card in cards if card.answers.one_label and card.labels and not card.besides]

    @cached_property
    def _patterns(self) -> list[tuple[TaskCard, re.Pattern[str]]]:
        return [(card, _pattern(card, wording)) for card in self._cards for wording in [*card.prompts.train, card.prompts.eval]]

    def asked(self, prompt: str) -> Asked | None:
        """The labels that the prompt asks for; None where no card, or cards of different labels, have these words."""
        text = " ".join(prompt.split())
        found: dict[str, Asked] = {}
        for card, pattern in self._patterns:
            match = pattern.fullmatch(text)
            names = card.choices
            if match and sorted((match.groupdict().get("choices") or CHOICE_SEPARATOR.join(names)).split(CHOICE_SEPARATOR)) == sorted(
                names
            ):
                found[card.id] = _asked(card)
        if not found or len({(frozenset(asked.labels), asked.reasoned) for asked in found.values()}) > 1:
            return None
        return replace(next(iter(found.values())), tasks=tuple(found))


@cache
def shipped() -> Recogniser:
    """All cards of configs/tasks, read when the first prompt comes (two seconds)."""
    return Recogniser(find_cards(["*"]))


def asked_of(card: TaskCard) -> Asked | None:
    """The labels of a task that was named; None for regression, texts and sets."""
    return _asked(card) if card.answers.one_label and card.labels else None


def _asked(card: TaskCard) -> Asked:
    return Asked((card.id,), tuple(card.choices), card.answer_then_reason is not None)


def _pattern(card: TaskCard, wording: str) -> re.Pattern[str]:
    modality = {item.name: item.modality for item in card.inputs}
    pieces, listed = [], False
    for text, field, _, _ in string.Formatter().parse(" ".join(wording.split())):
        pieces.append(re.escape(text))
        if field == "choices":
            pieces.append("(?P=choices)" if listed else "(?P<choices>.+)")
            listed = True
        elif field is not None:
            pieces.append(f"<{modality[field]}>[A-Z*]+</{modality[field]}>")
    return re.compile("".join(pieces))
