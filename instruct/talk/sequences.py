"""Sequences that people type, paste or upload: put between tags, letters checked, and always said how they were read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import UserError, at
from sequences.alphabets import ALPHABETS, PROTEIN, Alphabet, guess
from sequences.formats import fasta
from sequences.readers import fasta_records
from sequences.spans import spans

BARE = re.compile(r"(?<![\w<>/*])[A-Za-z]+\*?(?![\w<>*])")
"""A word outside tags, a final stop included."""
SHORTEST = {"dna": 16, "rna": 16, "protein": 30}
"""Letters from which such a word is taken for a sequence. Every capital letter is a residue letter, and English in
capitals reaches 25 letters (PHOSPHORIBOSYLTRANSFERASE); shorter peptides go between tags."""
SOFT_MASKED = re.compile("[ACGTUNacgtun]+")
"""A word with small letters is a sequence only if it has none but these, or every long word would be a protein."""


@dataclass(frozen=True, slots=True)
class Read:
    """One sequence, and what it was taken for."""

    modality: str
    letters: str
    """Upper case, synonyms applied."""
    name: str = ""

    @property
    def tagged(self) -> str:
        return ALPHABETS[self.modality].wrap(self.letters)

    def __str__(self) -> str:
        shown = self.name or (f"{self.letters[:12]}…" if len(self.letters) > 12 else self.letters)
        return f"{shown} ({len(self.letters):,} letters) as {self.modality}"


def wrap_sequences(text: str) -> tuple[str, list[Read]]:
    """Check the tagged sequences of a text and put bare ones between tags; the second value is what was put there.

    Words between tags are left as they are.

    Lines below one another that hold nothing but letters of one kind are one sequence, as files and mails break it.

    Raises:
        UserError: a tagged sequence with a letter outside its alphabet, or an empty one; a bare one with both T and U.
    """
    found: list[Read] = []

    def wrapped(match: re.Match[str]) -> str:
        alphabet = _recognised(match[0])
        if alphabet is None:
            return match[0]
        found.append(Read(alphabet.name, alphabet.clean(match[0], "a sequence in the prompt")))
        return found[-1].tagged

    pieces = []
    end = 0
    text = _joined(text)
    for span in spans(text):
        letters = "".join(text[span.start : span.end].split())
        if not span.closed or (span.words >= 0 and letters):
            continue
        alphabet = span.alphabet
        clean = alphabet.clean(letters, f"{alphabet.open_tag} in the prompt")
        pieces += [BARE.sub(wrapped, text[end : span.tag]), f"{alphabet.open_tag}{clean}{alphabet.close_tag}"]
        end = span.past
    return "".join(pieces) + BARE.sub(wrapped, text[end:]), found


def _recognised(word: str) -> Alphabet | None:
    """What a bare word is taken for; None where it is a word."""
    if not BARE.fullmatch(word) or not (word.isupper() or SOFT_MASKED.fullmatch(word)):
        return None
    alphabet = guess(word)
    return alphabet if len(word) >= SHORTEST[alphabet.name] else None


def _joined(text: str) -> str:
    """The text with every broken sequence on one line; it may begin behind words."""
    pieces: list[str] = []
    above: Alphabet | None = None
    for number, line in enumerate(text.split("\n")):
        words = line.split()
        if above is not None and len(words) == 1 and _goes_on(above, words[0]):
            pieces[-1] = pieces[-1].rstrip()
            pieces.append(words[0])
        else:
            pieces.append("\n" * (number > 0) + line)
            above = _recognised(words[-1]) if words else None
        if words and words[-1].endswith("*"):
            above = None
    return "".join(pieces)


def _goes_on(above: Alphabet, word: str) -> bool:
    """Whether a line goes on with the sequence above it; the last line may be too short to be recognised by itself."""
    if not BARE.fullmatch(word):
        return False
    found = _recognised(word)
    if found is not None:
        return found is above
    return word.isupper() if above is PROTEIN else guess(word) is not PROTEIN


def read_fasta(path: Path, most: int, modality: str | None = None) -> list[Read]:
    """Records of a FASTA file (plain or gz), at most so many; without `modality` each record's own is guessed.

    Raises:
        UserError: missing or damaged file, not FASTA, an empty record, a letter outside the alphabet (with file:line), or
            more records.
    """
    found: list[Read] = []
    for line, header, letters in fasta_records(path):
        if len(found) == most:
            raise UserError(f"{path}: more than {most} sequences; a prompt holds a few, `llama-gene predict` reads any number")
        name = header.split()[0] if header.split() else f"line{line}"
        found.append(_read(letters, modality, name, f"{at(path, line)} ({name[:60]})"))
    return found


def read_box(text: str, modalities: Sequence[str] | None = None) -> list[Read]:
    """Sequences as they are typed or pasted: FASTA records, or the letters of one sequence, broken at will.

    With `modalities` there must be one sequence for each, in their order; without, each sequence's own is guessed.

    Raises:
        UserError: another number of sequences, an empty one, or a letter outside the alphabet.
    """
    if text.lstrip().startswith(">"):
        records = [(record.header, b"".join(record.body).decode("utf-8", "replace")) for record in fasta(iter([text.lstrip().encode()]))]
    else:
        records = [("", text)] if text.strip() else []
    wanted = len(modalities) if modalities is not None else max(1, len(records))
    if len(records) != wanted:
        form = (
            "" if wanted == 1 else f"; paste {wanted} FASTA records ({', '.join(modalities or [])}), each below a line that begins with >"
        )
        raise UserError(
            f"{len(records) or 'no'} sequence{'s' * (len(records) != 1)} where {wanted} {'is' if wanted == 1 else 'are'} needed{form}"
        )
    return [
        _read(letters, modalities[number] if modalities else None, header.split()[0] if header.split() else "", f"sequence {number + 1}")
        for number, (header, letters) in enumerate(records)
    ]


def _read(raw: str, modality: str | None, name: str, where: str) -> Read:
    letters = "".join(raw.split())
    alphabet = ALPHABETS[modality] if modality is not None else guess(letters)
    return Read(alphabet.name, alphabet.clean(letters, where), name)
