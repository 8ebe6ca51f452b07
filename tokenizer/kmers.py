"""Letters and k-mers as plain `tokenizers` vocabularies, and the blocks that k-mers are cut in.

A k-mer vocabulary is a BPE whose merges cannot fire in the wrong place. The normalizer puts a mark behind the first letter of
each block of k plain letters, counted from the start of a run, and every merge needs the mark: A + ~, then A~ + C, and so on to the
whole block A~CGTAC. Letters outside blocks (a rest shorter than k, N, ambiguity codes) have no merge and stay single. So the one
tokenizer.json needs no code of ours, no pre-tokenizer, and exports to engines that know nothing but merges (docs/gguf.md). The
parts of a block with its mark ("joints") have ids too, but no encoding ever ends on one. Behind the first letter, not before it:
`tokenizers` counts an inserted character to the one on its left, and so the offsets of a block are those of its letters.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers

from artefacts.errors import UserError
from sequences.alphabets import PLAIN_LETTERS, Alphabet

MARK = "~"
"""The mark of a vocabulary over plain letters; an extended tokenizer has a private character instead."""
MOST_KMERS = 1 << 17
_STEP = re.compile(r"\(\?:(.)\(.+?\)\|\\G\(.+?\)\)\[(.+?)\]\{(\d+)\}")


@dataclass(frozen=True)
class Blocks:
    """Which letters are cut in blocks of k, and the mark behind each block's first letter."""

    mark: str
    letters: str
    """As the text holds them when the normalizer gets here: plain or private characters."""
    k: int

    def steps(self) -> list[normalizers.Normalizer]:
        r"""The marks, in time linear in the text: one for the first block of each run, then from block to block (`\G`)."""
        # letters are spelled out, since a search for one of several strings skips over text, and one for a class does not
        one, rest = f"(?:{'|'.join(self.letters)})", f"[{self.letters}]{{{self.k - 1}}}"
        first = normalizers.Replace(Regex(rf"{one}(?<![{self.letters}]{{2}})\K(?={rest})"), self.mark)
        return [first, normalizers.Replace(Regex(rf"(?:{self.mark}{one}|\G{one}){rest}\K(?={rest})"), self.mark)]

    def marked(self, text: str) -> str:
        """What the steps make of a text; marking twice is marking once."""
        return re.sub(f"([{self.letters}]){self.mark}?([{self.letters}]{{{self.k - 1}}})", rf"\1{self.mark}\2", text)


def without_mark(piece: str) -> str:
    """The plain letters of a k-mer."""
    return piece.replace(MARK, "")


def blocks_in(document: dict[str, Any]) -> list[Blocks]:
    """The blocks that a tokenizer's JSON marks; none where it has letters or pieces only."""
    patterns = [(step.get("pattern") or {}).get("Regex", "") for step in normalizer_steps(document.get("normalizer"))]
    return [Blocks(match[1], match[2], int(match[3]) + 1) for match in map(_STEP.match, patterns) if match]


def normalizer_steps(normalizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer's JSON, sequences inside sequences laid out."""
    if normalizer is None:
        return []
    if normalizer["type"] != "Sequence":
        return [normalizer]
    return [step for inner in normalizer["normalizers"] for step in normalizer_steps(inner)]


def vocabulary_of(alphabet: Alphabet, k: int) -> Tokenizer:
    """Letters (k = 1) or k-mers of an alphabet's plain letters, on plain text; either case.

    Raises:
        UserError: more than `MOST_KMERS` k-mers.
    """
    plain = PLAIN_LETTERS[alphabet.name]
    if len(plain) ** k > MOST_KMERS:
        most = max(n for n in range(1, k) if len(plain) ** n <= MOST_KMERS)
        raise UserError(f"k={k}: {len(plain)}^{k} {alphabet.name} k-mers, each a row of the model; ask for k={most} at most")
    pieces, merges = list(alphabet.letters), []
    if k > 1:
        parts = parts_of(plain, k)
        pieces += [MARK, *parts]
        merges += [(part[:-1], part[-1]) for part in parts]
    blocks = Blocks(MARK, plain, k).steps() if k > 1 else []
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.normalizer = normalizers.Sequence([*upper_case(alphabet.letters), *blocks])
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(MARK, "")])
    return tokenizer


def parts_of(plain: str, k: int) -> list[str]:
    """Every block of k letters and its parts, each with its mark and made by one merge of the part before and its last character."""
    return [f"{first}{MARK}{''.join(rest)}" for size in range(1, k + 1) for first, *rest in itertools.product(plain, repeat=size)]


def upper_case(letters: str) -> list[normalizers.Normalizer]:
    """A BPE without a piece for a character drops it silently: lower case must not be dropped."""
    return [normalizers.Replace(letter.lower(), letter) for letter in letters if letter.isalpha()]
