"""The three sequence alphabets: their letters, tags and validation.

Sequences stand between tags, `<dna>ACGT</dna>`. Inside a tag each letter is mapped to a private character by the
tokenizer, so that DNA, protein and English never share a token (design: README, "How the tokenizer works").
"""

from dataclasses import dataclass, field
from functools import cache, cached_property

from artefacts.errors import UserError

NUCLEOTIDES = "ACGTNRYSWKMBDHV"  # IUPAC; N and the ambiguity codes are letters of their own, never dropped
RESIDUES = "ACDEFGHIKLMNPQRSTVWYXBZJUO*"  # 20 + unknown, ambiguous, selenocysteine, pyrrolysine, stop
PLAIN_LETTERS = {"dna": "ACGT", "rna": "ACGT", "protein": "ACDEFGHIKLMNPQRSTVWY"}
"""Letters without the ambiguous and rare ones, by modality; RNA as it is stored, T for U."""
PLAIN_NUCLEOTIDES = b"ACGTUNacgtun"
SURELY_NUCLEOTIDES = 50
"""Letters from which a protein spelled in plain nucleotides is none."""
SURELY_RESIDUES = 10
"""Letters from which nucleotides that are mostly ambiguity codes are a protein."""
PLAIN_SHARE = 0.9
"""Share of plain nucleotides from which letters of unknown kind are no protein; LucaOne guesses by the same share."""
BLANKS = "blanks inside the sequence (k-mers?)"
FOREIGN = 0
"""Stands for any byte that is no letter of the alphabet."""


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

    @cached_property
    def table(self) -> bytes:
        return letter_table(self)

    def first_foreign(self, sequence: str) -> int:
        """0-based position of the first letter outside the alphabet (either case is inside), or -1."""
        return sequence.encode("latin-1", "replace").translate(self.table).find(FOREIGN)

    def read(self, cell: str) -> str:
        """A sequence as a cell of a table or a JSON field holds it: letters in upper case, synonyms applied.

        Blanks are cut off at both ends. Blanks between letters are refused: such cells hold k-mers, which overlap or not.

        Raises:
            BadSequence: empty, blanks inside, a letter outside the alphabet, or letters of another molecule (`doubt`).
        """
        stripped = cell.strip()
        coded = stripped.encode("latin-1", "replace").translate(self.table)
        if FOREIGN in coded:
            place = coded.index(FOREIGN)
            if stripped[place].isspace():
                raise BadSequence(BLANKS, f"at position {place + 1}")
            raise BadSequence(f"letter outside {self.name}", f"'{stripped[place]}' at position {place + 1}")
        if not coded:
            raise BadSequence("empty sequence")
        letters = coded.decode("ascii")
        others = bool(coded.translate(None, PLAIN_NUCLEOTIDES))
        if others != (self.name == "protein") and (reason := self.doubt(letters)):  # nearly never asked
            raise BadSequence(reason)
        return letters

    def doubt(self, letters: str) -> str:
        """Why letters of this alphabet are all the same no sequence of it; empty where there is no doubt.

        A protein of 50 letters or more that uses three or more of A, C, G, T, U, N and no others is nucleotides. Ten or more
        nucleotide codes, fewer than half of them plain in the first thousand, are a protein.
        """
        if self.name == "protein":
            if len(letters) < SURELY_NUCLEOTIDES or letters[:SURELY_NUCLEOTIDES].encode().translate(None, PLAIN_NUCLEOTIDES):
                return ""
            surely = not letters.encode().translate(None, PLAIN_NUCLEOTIDES) and len(set(letters.upper())) > 2
            return "nucleotides where a protein should be" if surely else ""
        head = letters[:1000].encode()
        surely = len(head) >= SURELY_RESIDUES and 2 * len(head.translate(None, PLAIN_NUCLEOTIDES)) > len(head)
        return "a protein where nucleotides should be" if surely else ""

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
        return sequence.encode("ascii").translate(self.table).decode("ascii")

    def wrap(self, sequence: str) -> str:
        """`<tag>SEQUENCE</tag>`, validated."""
        return f"{self.open_tag}{self.clean(sequence)}{self.close_tag}"


class BadSequence(Exception):
    """Letters that cannot be used: a reason to count them under, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


@cache
def letter_table(alphabet: Alphabet, keep_case: bool = False) -> bytes:
    """What each byte becomes: a letter of the alphabet (upper case, synonyms applied), or `FOREIGN`. For `bytes.translate`."""
    table = bytearray([FOREIGN]) * 256
    for letter, meant in {**{letter: letter for letter in alphabet.letters}, **alphabet.synonyms}.items():
        table[ord(letter)] = ord(meant)
        table[ord(letter.lower())] = ord(meant.lower() if keep_case else meant)
    return bytes(table)


DNA = Alphabet("dna", NUCLEOTIDES, "base")
RNA = Alphabet("rna", NUCLEOTIDES, "base", {"U": "T"})
PROTEIN = Alphabet("protein", RESIDUES, "residue")
ALPHABETS: dict[str, Alphabet] = {a.name: a for a in (DNA, RNA, PROTEIN)}
TAGS = [tag for alphabet in ALPHABETS.values() for tag in (alphabet.open_tag, alphabet.close_tag)]


def guess(letters: str) -> Alphabet:
    """The alphabet of letters of unknown kind: nucleotide codes of which nine in ten are plain ones, or else protein."""
    used, raw = set(letters.upper()), letters.encode("latin-1", "replace")
    plain = len(raw) - len(raw.translate(None, PLAIN_NUCLEOTIDES))
    if used <= set(NUCLEOTIDES + "U") and plain >= PLAIN_SHARE * len(raw):
        return RNA if "U" in used and "T" not in used else DNA
    return PROTEIN


COMPLEMENT = str.maketrans("ACGTNRYSWKMBDHVacgtnryswkmbdhv", "TGCANYRSWMKVHDBtgcanyrswmkvhdb")


def reverse_complement(dna: str) -> str:
    """Reverse complement of DNA in either case, which stays; IUPAC codes included."""
    return dna.translate(COMPLEMENT)[::-1]
