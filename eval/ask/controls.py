"""Negative controls: the same questions with what should decide them taken away.

A system `gene@shuffled` is the model `gene` asked with the letters of every sequence in random order, `gene@removed` with nothing
between the tags. `gene@permuted` is asked with the names of the labels exchanged: where the record lists `promoter, background` it
reads `background, promoter`, and its answer `promoter` stands for background, so whoever answers by the names must fall to chance
or below. A score that survives a control was not earned by what the control takes away.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from data_convert.tasks.card_fields import CHOICE_SEPARATOR
from data_convert.tasks.kinds import KINDS
from sequences.alphabets import reverse_complement
from sequences.spans import with_letters

Line = dict[str, Any]


def shuffled(record: Line, seed: int) -> Line:
    """The record with the letters of every sequence in random order: composition and length stay, motifs go."""
    draw = random.Random(f"{seed}/{record['id']}")
    return _with_sequences(record, lambda letters: "".join(draw.sample(letters, len(letters))))


def removed(record: Line, seed: int) -> Line:
    """The record with nothing between the tags."""
    return _with_sequences(record, lambda letters: "")


def permuted(record: Line, seed: int) -> Line:
    """The record with the names of its task's labels exchanged, one cycle through all of them, drawn by the seed.

    `choices[i]` of the result is the name that now stands for the i-th class of the given record.
    """
    names = record["choices"]
    cycle = names.copy()
    random.Random(f"{seed}/{record['task']}").shuffle(cycle)
    now = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    renamed = [now[name] for name in names]
    listed, instead = CHOICE_SEPARATOR.join(names), CHOICE_SEPARATOR.join(renamed)
    prompt = [{**message, "content": message["content"].replace(listed, instead)} for message in record["prompt"]]
    return {**record, "prompt": prompt, "choices": renamed}


def turned(record: Line) -> Line:
    """The record with the reverse complement of every sequence. No control: the answer stays."""
    return _with_sequences(record, lambda letters: reverse_complement(letters.upper()))


def averaged(line: Line, other: Line) -> Line:
    """A prediction whose likelihoods are the mean of those on both strands. The text stays that of the strand given."""
    both = [float(np.logaddexp(*pair)) - math.log(2) for pair in zip(line["logprobs"], other["logprobs"], strict=True)]
    return {**line, "logprobs": both, "predicted": KINDS[line["kind"]].predicted(line["text"], None, both, line["choices"])}


def _with_sequences(record: Line, change: Callable[[str], str]) -> Line:
    prompt = [{**message, "content": with_letters(message["content"], change)} for message in record["prompt"]]
    return {**record, "prompt": prompt}


CONTROLS: dict[str, tuple[str, Callable[[Line, int], Line]]] = {
    "shuffled": ("the letters of every sequence in random order", shuffled),
    "removed": ("nothing between the tags of a sequence", removed),
    "permuted": ("the names of the labels exchanged in the question", permuted),
}
"""Name -> what is done, and how a record is changed: `<system>@<name>` is a system that must not do well."""


def controlled(name: str, records: list[Line], seed: int) -> list[Line]:
    """The records of a control; those without label names are left out of `permuted`."""
    return [CONTROLS[name][1](record, seed) for record in records if name != "permuted" or KINDS[record["kind"]].labelled]


def undone(prediction: Line, record: Line) -> Line:
    """A prediction for a permuted record in the names of the original one, which is what scoring compares with.

    The text stays as it was said.
    """
    back = dict(zip(prediction["choices"], record["choices"], strict=True))

    def original(value: Any) -> Any:
        return [back[item] for item in value] if isinstance(value, list) else back.get(value)

    return {
        **prediction,
        "choices": record["choices"],
        "predicted": original(prediction["predicted"]),
        "parsed": original(prediction["parsed"]),
    }
