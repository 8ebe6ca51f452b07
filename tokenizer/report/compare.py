"""Before and after on held-out files: what the extension changed, and the proof that text did not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.errors import Ledger, UserError
from artefacts.recipe import Recipe
from tokenizer.alphabets import ALPHABETS
from tokenizer.readers import read_fasta, read_text
from tokenizer.vocabulary import NewIds


class Heldout(Recipe):
    """Held-out files for the comparison."""

    dna: list[Path] = []
    protein: list[Path] = []
    text: list[Path] = []
    max_letters: int = 200_000
    """Letters (or characters of text) read per modality."""


def compare(base: Tokenizer, extended: Tokenizer, new: NewIds, heldout: Heldout, family: str) -> dict[str, Any]:
    """Tokens per letter before and after, the share of new ids in use, and the number of text lines whose ids changed.

    Raises:
        UserError: a line of text has other ids than in the base. That would be a defect of the extension for this base.
    """
    report: dict[str, Any] = {
        "family": family,
        "base_vocab": base.get_vocab_size(),
        "extended_vocab": extended.get_vocab_size(),
        "modalities": {},
    }
    for name, files in (("dna", heldout.dna), ("protein", heldout.protein)):
        windows = _windows(files, name, heldout.max_letters)
        if windows:
            report["modalities"][name] = _compare_sequences(base, extended, new, name, windows)
    lines = _lines(heldout.text, heldout.max_letters)
    if lines:
        before = base.encode_batch(lines, add_special_tokens=False)
        after = extended.encode_batch(lines, add_special_tokens=False)
        changed = [line for line, one, two in zip(lines, before, after, strict=True) if one.ids != two.ids]
        if changed:
            raise UserError(f"{len(changed)} of {len(lines)} lines of text would get other ids than in the base, the first: {changed[0]!r}")
        report["modalities"]["text"] = {
            "lines": len(lines),
            "lines_changed": len(changed),
            "bytes_per_token": sum(len(line.encode()) for line in lines) / max(1, sum(len(one.ids) for one in before)),
        }
    return report


def _compare_sequences(base: Tokenizer, extended: Tokenizer, new: NewIds, name: str, windows: list[str]) -> dict[str, Any]:
    alphabet = ALPHABETS[name]
    wrapped = [f"{alphabet.open_tag}{window}{alphabet.close_tag}" for window in windows]
    before = base.encode_batch(windows, add_special_tokens=False)
    after = extended.encode_batch(wrapped, add_special_tokens=False)
    pieces = {index: piece for piece, index in new.pieces[name].items()}
    used = {index for one in after for index in one.ids} & pieces.keys()
    letters = sum(map(len, windows))
    tokens_before = sum(len(one.ids) for one in before)
    tokens_after = sum(len(one.ids) - 2 for one in after)
    example = windows[0][:60]
    example_after = extended.encode(alphabet.wrap(example), add_special_tokens=False).ids[1:-1]
    return {
        "unit": alphabet.unit,
        "heldout_letters": letters,
        "tokens_before": tokens_before,
        "tokens_after": tokens_after,
        "letters_per_token_before": letters / tokens_before,
        "letters_per_token_after": letters / tokens_after,
        "new_ids": len(pieces),
        "new_ids_used": len(used) / len(pieces),
        "example": {
            "text": alphabet.wrap(example),
            "before": [base.decode([index]) for index in base.encode(example, add_special_tokens=False).ids],
            "after": [pieces[index] for index in example_after],
        },
    }


def _windows(files: list[Path], name: str, max_letters: int) -> list[str]:
    windows: list[str] = []
    room = max_letters
    for file in files:
        for sequence in read_fasta(file, ALPHABETS[name], Ledger()):
            for start in range(0, len(sequence.letters), 512):
                window = sequence.letters[start : start + 512][:room]
                if not window:
                    return windows
                windows.append(window)
                room -= len(window)
    return windows


def _lines(files: list[Path], max_characters: int) -> list[str]:
    lines: list[str] = []
    room = max_characters
    for file in files:
        for document in read_text(file, Ledger()):
            for line in document.text.splitlines():
                if line and room > 0:
                    lines.append(line)
                    room -= len(line)
    return lines
