"""Held-out files of the comparison, read alike for tokens and for losses."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from artefacts.errors import Ledger
from artefacts.recipe import Recipe
from configs import CONFIGS
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from sequences.spans import TAG
from sequences.texts import read_texts

PROBE = {
    "dna": CONFIGS / "tokenizer" / "probe_dna.fa",
    "protein": CONFIGS / "tokenizer" / "probe_protein.fa",
    "text": CONFIGS / "text" / "english.txt",
}
"""A gene, four proteins and an English text that come with the program."""


class Heldout(Recipe):
    """Held-out files for the comparison; where none is given, the built-in probe."""

    dna: list[Path] = []
    protein: list[Path] = []
    text: list[Path] = []
    max_letters: int = 200_000
    """Letters (or characters of text) read per modality."""
    loss_letters: int | None = Field(default=None, gt=0)
    """Letters (bytes of text) measured per modality for the loss; null: 20,000, or as many as take a minute or two on two cores."""
    ways: bool = True
    """Compare with `add_tokens` and with the original LLaMA-Gene merge too."""

    @property
    def probed(self) -> list[str]:
        """Modalities without a file, of which the built-in probe is read."""
        return [name for name in PROBE if not getattr(self, name)]

    def filled(self) -> "Heldout":
        """With the built-in probe where no file is given."""
        return self.model_copy(update={name: [PROBE[name]] for name in self.probed})


def cut_sequences(files: list[Path], name: str, letters: int, length: int, ledger: Ledger | None = None) -> Iterator[str]:
    """Windows of `length` plain letters, `letters` in all."""
    ledger = ledger or Ledger()
    room = letters
    for file in files:
        for sequence in read_sequences(file, ALPHABETS[name], ledger):
            for at in range(0, len(sequence.letters), length):
                window = sequence.letters[at : at + min(length, room)]
                if not window:
                    return
                room -= len(window)
                yield window


def cut_texts(files: list[Path], size: int, ledger: Ledger | None = None) -> Iterator[str]:
    """Documents, `size` bytes in all. Those that mention a tag are no text alone and are left out."""
    ledger = ledger or Ledger()
    room = size
    for file in files:
        for document in read_texts(file, ledger):
            if TAG.search(document.text):
                continue
            text = document.text.encode()[:room].decode(errors="ignore")
            if not text:
                return
            room -= len(text.encode())
            yield text
