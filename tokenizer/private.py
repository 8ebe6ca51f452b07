"""Private alphabets: which private-use character stands for which letter, and the normalizer and decoder that map them.

Letters outside tags are never touched; no ordinary text contains a private character; so no new merge can fire in text
and no old merge can fire in a sequence. Everything is expressed in `tokenizers`' own components, so the one
tokenizer.json works wherever that library does.
"""

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers

from artefacts.errors import UserError, ensure
from sequences.alphabets import DNA, PLAIN_LETTERS, PROTEIN, RNA, TAGS, Alphabet
from sequences.spans import WHITE_SPACE, inside, letters_of
from tokenizer.kmers import Blocks

BLOCK = 64
"""Code points that share all but their last UTF-8 byte: one block holds both alphabets and the marker."""
BLOCKS = [*range(0x10A000, 0x10F000, BLOCK), *range(0xF2000, 0xFFF00, BLOCK)]
"""Supplementary private-use planes 16 and 15, without the parts that real text holds: icon fonts (Nerd Fonts U+F0001 to U+F1AF0,
SF Symbols from U+100000) and what PDF extraction makes of unknown glyphs (U+100000, U+10FC00)."""


@dataclass(frozen=True)
class PrivateAlphabets:
    """Letter -> private character, for nucleotides (DNA and RNA) and for residues."""

    nucleotides: dict[str, str]
    residues: dict[str, str]
    marker: str
    """Reserved; the markers that stand behind an opening tag while the normalizer runs are derived from it."""
    block: str
    """The mark in a block of k letters (tokenizer/kmers.py)."""

    def of(self, alphabet: Alphabet) -> dict[str, str]:
        return self.residues if alphabet.name == "protein" else self.nucleotides

    @property
    def characters(self) -> list[str]:
        return [*self.nucleotides.values(), *self.residues.values()]

    def blocks(self, alphabet: Alphabet, k: int) -> Blocks:
        """Blocks of k plain letters of an alphabet, in private characters."""
        spelling = self.of(alphabet)
        return Blocks(self.block, "".join(spelling[letter] for letter in PLAIN_LETTERS[alphabet.name]), k)


def choose(forbidden_pairs: Set[bytes] = frozenset(), taken: Set[str] = frozenset()) -> PrivateAlphabets:
    """Pick private characters whose UTF-8 bytes the base never merges.

    Args:
        forbidden_pairs: two-byte strings that the base's merges join (empty for SentencePiece bases).
        taken: characters of the base's pieces; a block that holds one is skipped.

    Raises:
        UserError: no block of private-use characters is free, so the base cannot be extended this way.
    """
    needed = len(DNA.letters) + len(PROTEIN.letters) + 2
    for start in BLOCKS:
        lead = chr(start).encode()[:3]
        if any(lead[i : i + 2] in forbidden_pairs for i in range(2)) or not taken.isdisjoint(map(chr, range(start, start + BLOCK))):
            continue
        free = []
        for code in range(start, start + BLOCK):
            last = chr(code).encode()[3:]
            # inside the character, and where one character meets the next
            if lead[2:] + last not in forbidden_pairs and last + lead[:1] not in forbidden_pairs:
                free.append(chr(code))
        if len(free) >= needed:
            marker, *characters, block = free[:needed]
            return PrivateAlphabets(
                dict(zip(DNA.letters, characters[: len(DNA.letters)], strict=True)),
                dict(zip(PROTEIN.letters, characters[len(DNA.letters) :], strict=True)),
                marker,
                block,
            )
    raise UserError("the base merges bytes of every private-use character; it cannot be extended with private alphabets")


def normalizer(private: PrivateAlphabets, blocks: Sequence[Blocks] = ()) -> normalizers.Normalizer:
    r"""Map letters to private characters inside sequences only (`sequences.spans`), in time linear in the text.

    The first step puts a marker in front of each letter of a sequence. `\G` (end of the previous match) chains its matches along
    a span; a look-ahead instead is quadratic. The second gives proteins a marker of their own; then each letter with its marker
    is replaced. All but the first look for a character that no text has, which costs next to nothing where there is no sequence.
    The last steps mark the blocks of k-mer vocabularies.
    """
    # one block further for each, so that no marker is itself a letter
    mark, protein_mark = (chr(ord(private.marker) + BLOCK * number) for number in (1, 2))
    every = letters_of(PROTEIN)
    ensure(set(letters_of(RNA)) <= set(every), "residue codes hold all nucleotide codes")
    # < is looked for once, not for every tag: this is tried at each letter of a text
    begin = "|".join(f"{one.name}>(?={inside(one)}(?:{one.close_tag}|\\z))" for one in (DNA, RNA, PROTEIN))
    # what \K leaves behind is kept; the zero-width match behind it becomes the marker
    marked = rf"(?:\G(?!\A)[{every}]|<(?:{begin}))[{WHITE_SPACE}]*+\K(?=[{every}])"
    proteins = rf"(?:\G(?!\A)[{every}]|{PROTEIN.open_tag})[{WHITE_SPACE}]*+\K{mark}"
    steps = [normalizers.Replace(Regex(marked), mark), normalizers.Replace(Regex(proteins), protein_mark)]
    for marker, alphabet in ((protein_mark, PROTEIN), (mark, RNA)):
        for letter, character in private.of(alphabet).items():
            synonyms = [other for other, same in alphabet.synonyms.items() if same == letter]
            written = "".join(f"{one}{one.lower()}" for one in (letter, *synonyms)).replace("*", r"\*")
            steps.append(normalizers.Replace(Regex(f"{marker}[{written}]"), character))
    return normalizers.Sequence([*steps, *(step for one in blocks for step in one.steps())])


def decoder_steps(private: PrivateAlphabets, blocks: Sequence[Blocks] = ()) -> list[decoders.Decoder]:
    """One `Replace(private, letter)` per letter, to run after the base's own decoder; the marks of blocks go before them."""
    marks = [("", one.mark) for one in blocks[:1]]
    pairs = itertools.chain(marks, private.nucleotides.items(), private.residues.items())
    return [decoders.Replace(character, letter) for letter, character in pairs]


def tag_tokens() -> list[AddedToken]:
    """`normalized=True`, or the normalizer would never see the tag beside its span (other added tokens are cut out first).

    Not special: tags are part of what a model says, and readers leave special tokens out of its answers.
    """
    return [AddedToken(tag, special=False, normalized=True) for tag in TAGS]


def check_tags(tokenizer: Tokenizer, where: str | Path) -> None:
    """Refuse an extended tokenizer whose tags another library has declared once more, and saved so.

    Raises:
        UserError: letters between tags would be read as English.
    """
    mapped = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("<dna>A</dna>") != "<dna>A</dna>"
    again = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content in TAGS and not token.normalized]
    if mapped and again:
        raise UserError(
            f"{where}: {', '.join(again)} was declared once more as a special token (add_special_tokens), so what stands between tags is "
            "read as English; put back the tokenizer.json that `llama-gene tokenizer extend` wrote, and declare nothing"
        )


def letterless(added: Mapping[int, AddedToken]) -> list[int]:
    """Of a tokenizer's added tokens, by id: the tags and the special ones, which spell no letter of any text or sequence."""
    return [index for index, token in added.items() if token.special or token.content in TAGS]


def read_tokenizer(source: Tokenizer | str | Path, what: str = "tokenizer", remedy: str = "") -> Tokenizer:
    """That of a folder, or a file, or as it is given.

    Args:
        what, remedy: for the error.

    Raises:
        UserError: no such file, or one that the library does not read.
    """
    if isinstance(source, Tokenizer):
        return source
    path = Path(source) / "tokenizer.json" if Path(source).is_dir() else Path(source)
    remedy = remedy or "name a folder written by `llama-gene tokenizer extend` or a later stage"
    if not path.is_file():
        raise UserError(f"{path}: no such {what}; {remedy}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for anything that is no tokenizer
        raise UserError(f"{path}: not a {what} ({error}); {remedy}") from None
