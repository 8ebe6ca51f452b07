"""Strict reading of free-text answers: an answer is a label, a number or a text as it stands, or it is invalid.

No substrings, no keywords, no judge: 'incorrect' contains 'correct', 'non-NPP' contains 'NPP', and an answer that names
two labels names none. What the model meant is not guessed at; how often it could not be read is a result of its own.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_convert.tasks.card_fields import ITEM_SEPARATOR, NO_ITEM

Status = Literal["valid", "invalid", "refused"]

REFUSALS = (
    "i cannot",
    "i can't",
    "i can not",
    "i could not",
    "i am unable",
    "i'm unable",
    "i am not able",
    "i'm not able",
    "i do not know",
    "i don't know",
    "i'm sorry",
    "i am sorry",
    "sorry",
    "as an ai",
    "unable to",
)
"""Beginnings of a refusal, case folded. A refusal counts as no answer, like any other invalid text, but is counted apart."""

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Parsed:
    """What an answer says; `value` is None unless `status` is valid."""

    value: str | float | list[str] | None
    status: Status


def before_reason(text: str, reasoned: bool) -> str:
    """The answer itself, where a reason follows it on the next line."""
    return text.strip().partition("\n")[0] if reasoned else text


def same_text(text: str) -> str:
    """Normal form of an answer: outer blanks and one final full stop removed, case folded."""
    return text.strip().removesuffix(".").casefold()


def parse_label(text: str, choices: Sequence[str]) -> Parsed:
    """The choice that equals the text up to outer blanks, one final full stop and case."""
    if text in choices:
        return Parsed(text, "valid")
    found = [choice for choice in choices if same_text(choice) == same_text(text)]
    return Parsed(found[0], "valid") if len(found) == 1 else _no_answer(text)


def parse_number(text: str) -> Parsed:
    """A single finite decimal number, sign and exponent allowed; units, ranges, fractions and thousands marks are not."""
    if NUMBER.fullmatch(text.strip().removesuffix(".")):
        number = float(text.strip().removesuffix("."))
        if math.isfinite(number):
            return Parsed(number, "valid")
    return _no_answer(text)


def parse_text(text: str) -> Parsed:
    """Any text that is not blank and no refusal, outer blanks removed."""
    if not text.strip() or _refuses(text):
        return _no_answer(text)
    return Parsed(text.strip(), "valid")


def parse_items(text: str, choices: Sequence[str]) -> Parsed:
    """Items between semicolons; with choices, every one must be a choice, or all of it the word for none.

    One unknown item makes the whole answer invalid, and so does an empty one (`a;; b`).
    """
    parts = [part.strip() for part in text.strip().removesuffix(".").split(ITEM_SEPARATOR.strip())]
    if choices and [same_text(part) for part in parts] == [NO_ITEM]:
        return Parsed([], "valid")
    if not all(parts) or _refuses(text):
        return _no_answer(text)
    if not choices:
        return Parsed(list(dict.fromkeys(parts)), "valid")
    labels = [parse_label(part, choices) for part in parts]
    if any(label.value is None for label in labels):
        return _no_answer(text)
    return Parsed(list(dict.fromkeys(str(label.value) for label in labels)), "valid")


def _no_answer(text: str) -> Parsed:
    return Parsed(None, "refused" if _refuses(text) else "invalid")


def _refuses(text: str) -> bool:
    # typographic apostrophes: "I can’t"
    return text.strip().casefold().replace("’", "'").startswith(REFUSALS)
