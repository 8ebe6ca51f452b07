"""Held-out loss of a model as it is extended, before any training: bits per base, per residue, per byte of text.

New rows must not hurt: a sequence should cost little more than a uniform guess over its letters (the bound), and text
little more than in the base, from which the new rows take probability.

The same letters are measured for every way to extend, in windows of the same letters, each behind BOS (and, in ours, the
opening tag). What stands before the first letter is read but not scored: our tag, or the lone blank that SentencePiece
puts there. From the token with the first letter on every token is scored, a blank that a way puts between letters too:
the sequence cannot be written without it. The sum is divided by the letters, so that vocabularies compare.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from artefacts.errors import Ledger
from sequences.alphabets import ALPHABETS
from tokenizer.report.heldout import Heldout, cut_sequences, cut_texts
from tokenizer.report.ways import Encode, Way

WINDOW = 256
"""Tokens seen at once, at most."""
SEQUENCE = WINDOW - 3
"""Letters of a window: one token for each, BOS and two tags would still fit."""
LETTERS, FEWEST = 20_000, 1_000
"""Letters (bytes of text) measured per modality: most, and however large the model is."""
WORK = 2e12
"""Weights times tokens that all losses of a report may take on a CPU: a minute or two on two cores. A GPU has no such bound."""
BYTES = 3.0
"""Of text in a token, about."""
BOUNDS = {"dna": 2.0, "protein": math.log2(20)}
"""Bits per letter of a uniform guess over A C G T, or over twenty residues."""


@dataclass(frozen=True)
class Window:
    """What a model reads at once."""

    ids: list[int]
    first: int
    """Position in `ids` of the first token that is scored, at least 1; all behind it are."""
    letters: int
    """Letters, or bytes of text, that the scored tokens spell."""


@dataclass(frozen=True)
class Sample:
    """What is measured: the letters that every way gets."""

    sequences: dict[str, list[str]]
    """dna / protein -> windows in plain letters; a modality without files is absent."""
    texts: list[str]
    """Documents."""
    set_aside: dict[str, dict[str, int]] = field(default_factory=dict)
    """Modality -> reason -> records set aside while reading; a modality without any is absent."""


def affordable(weights: int, models: int, letters_per_token: dict[str, float]) -> dict[str, int]:
    """Letters of each modality (bytes of text) whose losses in `models` models of so many weights take WORK together."""
    if torch.cuda.is_available():
        return dict.fromkeys(letters_per_token, LETTERS)
    tokens = WORK / weights / models / len(letters_per_token)
    return {name: min(LETTERS, max(FEWEST, int(tokens * held))) for name, held in letters_per_token.items()}


def sample(heldout: Heldout, letters: dict[str, int] | None = None) -> Sample:
    """The first letters of the held-out files, so many of each modality (bytes of text; LETTERS where none are named)."""
    files = {"dna": heldout.dna, "protein": heldout.protein}
    ledgers = {"dna": Ledger(), "protein": Ledger(), "text": Ledger()}
    most = dict.fromkeys(ledgers, LETTERS) | (letters or {})
    sequences = {name: list(cut_sequences(found, name, most[name], SEQUENCE, ledgers[name])) for name, found in files.items() if found}
    texts = list(cut_texts(heldout.text, most["text"], ledgers["text"]))
    return Sample(sequences, texts, {name: dict(sorted(ledger.reasons.items())) for name, ledger in ledgers.items() if ledger.reasons})


def initial_loss(model: Any, way: Way, found: Sample, start: int, base_bits: float | None) -> dict[str, dict[str, Any]]:
    """Measure a model on sequences and text that are encoded its own way.

    Args:
        start: id that begins every window (BOS).
        base_bits: bits per byte of the base on the same text.

    Returns:
        dna, protein -> bits_per_letter, unit, bound, letters; text -> bits_per_byte, base_bits_per_byte, bytes; each with
        heldout_set_aside (reason -> records).
    """
    figures: dict[str, dict[str, Any]] = {}
    for name, sequences in found.sequences.items():
        bits, count = bits_per_letter(model, scored_sequences(way, name, sequences, start), f"loss on {name}")
        figures[name] = {"bits_per_letter": bits, "unit": ALPHABETS[name].unit, "bound": BOUNDS[name], "letters": count}
    if found.texts:
        bits, count = bits_per_letter(model, scored_texts(way.text, found.texts, start), "loss on text")
        figures["text"] = {"bits_per_byte": bits, "base_bits_per_byte": base_bits, "bytes": count}
    for name, row in figures.items():
        row["heldout_set_aside"] = found.set_aside.get(name, {})
    return figures


def scored_sequences(way: Way, name: str, sequences: list[str], start: int) -> Iterator[Window]:
    """A window for each sequence, encoded as `way` does."""
    before = [start, *way.opening.get(name, [])]
    for letters, ids in zip(sequences, way.sequences(name, sequences), strict=True):
        silent = next(position for position, index in enumerate(ids) if way.spelling(index))
        yield Window(before + ids, len(before) + silent, len(letters))


def scored_texts(encode: Encode, texts: list[str], start: int) -> Iterator[Window]:
    """Windows of WINDOW tokens over each document."""
    for text, ids in zip(texts, encode(texts), strict=True):
        for at in range(0, len(ids), WINDOW - 1):
            part = ids[at : at + WINDOW - 1]
            # the bytes of a document are counted with its last window: a token may end within a character
            yield Window([start, *part], 1, len(text.encode()) if at + WINDOW > len(ids) else 0)


@torch.no_grad()
def bits_per_letter(model: Any, windows: Iterable[Window], desc: str = "loss") -> tuple[float, int]:
    """Bits per letter over all windows, and the letters. One window at a time: logits of large vocabularies are large."""
    device = next(model.parameters()).device
    nats, letters = 0.0, 0
    for window in tqdm(list(windows), desc=desc, disable=None, leave=False):
        input_1T = torch.tensor([window.ids], device=device)
        logits_TV = model(input_ids=input_1T, use_cache=False).logits[0, window.first - 1 : -1]
        nats += F.cross_entropy(logits_TV.float(), input_1T[0, window.first :], reduction="sum").item()
        letters += window.letters
    return nats / math.log(2) / max(1, letters), letters
