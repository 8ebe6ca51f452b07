"""The one prompt renderer: training, chat and evaluation write exactly the same characters."""

import random
from collections.abc import Mapping

from artefacts.errors import UserError
from data_convert.tasks.card_fields import CHOICE_SEPARATOR
from data_convert.tasks.cards import TaskCard
from sequences.alphabets import ALPHABETS


def render(card: TaskCard, inputs: Mapping[str, str], template: str, rng: random.Random | None = None) -> str:
    """Fill a template: sequences between their tags, choices as `promoter, background`.

    Args:
        inputs: input name -> letters (either case).
        template: one of the card's prompts.
        rng: shuffles the choices (training); None keeps the card's order (evaluation, chat).

    Raises:
        UserError: inputs that are not the card's, letters outside an input's alphabet, or a card whose prompts show text of a
            row, or follow on other turns.
    """
    if card.besides:
        raise UserError(f"task {card.id}: its prompts show a row's own text or other turns ({', '.join(card.besides)}); write the prompt")
    expected = [item.name for item in card.inputs]
    if set(inputs) != set(expected):
        raise UserError(f"task {card.id}: needs the inputs {', '.join(expected)}; given: {', '.join(inputs) or 'none'}")
    fields = {item.name: ALPHABETS[item.modality].wrap(inputs[item.name]) for item in card.inputs}
    names = card.choices
    if rng is not None and card.answers.labelled:
        rng.shuffle(names)
    return fill(template, fields, names)


def fill(template: str, fields: Mapping[str, str], names: list[str]) -> str:
    """A template with its sequences, tags included, and the choices as `promoter, background`."""
    return template.format_map({**fields, "choices": CHOICE_SEPARATOR.join(names)})
