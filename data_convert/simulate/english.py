"""Biology-like English from a small grammar, so that the simulated corpus has a third modality beside DNA and protein.

The sentences are grammatical and mean little. They use the words of the tasks' prompts and answers, and never a whole
answer of the function task.
"""

import re
from collections.abc import Iterator
from itertools import cycle

import numpy as np
import yaml

from configs import CONFIGS

_FIELD = re.compile(r"\{(\w+)\}")

GRAMMAR: dict[str, list[str]] = yaml.safe_load((CONFIGS / "simulate" / "english.yaml").read_text(encoding="utf-8"))
"""Name -> its alternatives."""


def draw_documents(rng: np.random.Generator, gene_names: list[str], count: int, seen: set[str]) -> list[str]:
    """`count` documents of two to six sentences, none of them in `seen`, to which they are added."""
    documents: list[str] = []
    while len(documents) < count:
        # A document speaks of few genes, so that names come back as they do in real text.
        names = [gene_names[int(index)] for index in rng.integers(len(gene_names), size=4)]
        text = " ".join(_sentence(rng, names) for _ in range(int(rng.integers(2, 7))))
        if text not in seen:
            seen.add(text)
            documents.append(text)
    return documents


def _sentence(rng: np.random.Generator, names: list[str]) -> str:
    in_turn = cycle([names[index] for index in rng.permutation(len(names))])  # "X and X are alike" would be odd
    text = "{sentence}"
    while match := _FIELD.search(text):
        text = text[: match.start()] + _expand(rng, match[1], in_turn) + text[match.end() :]
    return text[0].upper() + text[1:]


def _expand(rng: np.random.Generator, symbol: str, names: Iterator[str]) -> str:
    if symbol == "GENE":
        return next(names)
    if symbol == "NUMBER":
        return f"{rng.integers(21) * 0.05:.2f}"
    if symbol == "COUNT":
        return str(int(rng.integers(2, 400)))
    if symbol == "YEAR":
        return str(int(rng.integers(1975, 2026)))
    alternatives = GRAMMAR[symbol]
    return alternatives[int(rng.integers(len(alternatives)))]
