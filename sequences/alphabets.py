"""The three sequence alphabets: their letters, tags and validation.

Sequences stand between tags, `<dna>ACGT</dna>`. Inside a tag each letter is mapped to a private character by the
tokenizer, so that DNA, protein and English never share a token (design: README, "How the tokenizer works").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from artefacts.errors import UserError

NUCLEOTIDES = "ACGTNRYSWKMBDHV"  # IUPAC; N and the ambiguity codes are letters of their own, never dropped
RESIDUES = "ACDEFGHIKLMNPQRSTVWYXBZJUO*"  # 20 + unknown, ambiguous, selenocysteine, pyrrolysine, stop


@dataclass(frozen=True)
class Alphabet:
    """One modality's letters and tags."""

    name: str
    letters: str
    unit: str
    """What one letter is called: base or residue."""
    synonyms: dict[str, str] = field(default_factory=dict, hash=False)
    """Letters written as another one of the alphabet, such as U as T inside `<rna>`."""

    @property
    def open_tag(self) -> str:
        return f"<{self.name}>"

    @property
    def close_tag(self) -> str:
        return f"</{self.name}>"

    def first_foreign(self, sequence: str) -> int:
        """0-based position of the first letter outside the alphabet (either case is inside), or -1."""
        match = self._foreign().search(sequence)
        return match.start() if match else -1

    def clean(self, sequence: str, where: str = "sequence") -> str:
        """Upper case, synonyms applied, validated.

        Raises:
            UserError: empty, or a letter outside the alphabet; `where` (file:line or record id) is named.
        """
        if not sequence:
            raise UserError(f"{where}: empty {self.name} sequence")
        position = self.first_foreign(sequence)
        if position >= 0:
            raise UserError(
                f"{where}: '{sequence[position]}' at position {position + 1} is not a {self.name} letter "
                f"({self.letters}{''.join(self.synonyms)}); mend the input or choose the right modality"
            )
        return sequence.upper().translate({ord(letter): other for letter, other in self.synonyms.items()})

    def wrap(self, sequence: str) -> str:
        """`<tag>SEQUENCE</tag>`, validated."""
        return f"{self.open_tag}{self.clean(sequence)}{self.close_tag}"

    def _foreign(self) -> re.Pattern[str]:
        letters = self.letters + "".join(self.synonyms)
        return re.compile(f"[^{re.escape(letters + letters.lower())}]")


DNA = Alphabet("dna", NUCLEOTIDES, "base")
RNA = Alphabet("rna", NUCLEOTIDES, "base", {"U": "T"})
PROTEIN = Alphabet("protein", RESIDUES, "residue")
ALPHABETS: dict[str, Alphabet] = {a.name: a for a in (DNA, RNA, PROTEIN)}
TAGS = [tag for alphabet in ALPHABETS.values() for tag in (alphabet.open_tag, alphabet.close_tag)]

COMPLEMENT = str.maketrans("ACGTNRYSWKMBDHV", "TGCANYRSWMKVHDB")


def reverse_complement(dna: str) -> str:
    """Reverse complement of upper-case DNA, IUPAC codes included."""
    return dna.translate(COMPLEMENT)[::-1]
