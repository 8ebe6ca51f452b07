"""Letters and k-mers as plain `tokenizers` vocabularies, and the blocks that k-mers are cut in.

A k-mer vocabulary is a BPE whose merges cannot fire in the wrong place. The normalizer puts a mark in front of each block of k
plain letters, counted from the start of a run, and every merge begins with the mark: mark + A, then markA + C, and so on to the
whole block. Letters without a mark (a rest shorter than k, N, ambiguity codes) have no merge and stay single. So the one
tokenizer.json needs no code of ours, no pre-tokenizer, and exports to engines that know nothing but merges (docs/gguf.md).
The marks with fewer than k letters ("joints") have ids too, but no encoding ever ends on one.
"""

from __future__ import annotations

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
_STEP = re.compile(r"\(\?:(.)\|\\G\(\?!\\A\)\)\[(.+?)\]\{(\d+)\}")


@dataclass(frozen=True)
class Blocks:
    """Which letters are cut in blocks of k, and what stands in front of a block."""

    mark: str
    letters: str
    """As the text holds them when the normalizer gets here: plain or private characters."""
    k: int

    def steps(self) -> list[normalizers.Normalizer]:
        r"""The marks, in time linear in the text: one for the first block of each run, then from block to block (`\G`)."""
        block = f"[{self.letters}]{{{self.k}}}"
        first = normalizers.Replace(Regex(rf"(?<![{self.letters}])(?={block})"), self.mark)
        return [first, normalizers.Replace(Regex(rf"(?:{self.mark}|\G(?!\A)){block}\K(?={block})"), self.mark)]

    def marked(self, text: str) -> str:
        """What the steps make of a text; marking twice is marking once."""
        return re.sub(f"{self.mark}?([{self.letters}]{{{self.k}}})", rf"{self.mark}\1", text)


def blocks_in(document: dict[str, Any]) -> list[Blocks]:
    """The blocks that a tokenizer's JSON marks; none where it has letters or pieces only."""
    steps, found = [document.get("normalizer") or {}], []
    while steps:
        step = steps.pop()
        steps += step.get("normalizers", [])
        if match := _STEP.match((step.get("pattern") or {}).get("Regex", "")):
            found.append(Blocks(match[1], match[2], int(match[3])))
    return found


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
        pieces.append(MARK)
        for size in range(1, k + 1):
            for letters in map("".join, itertools.product(plain, repeat=size)):
                merges.append((MARK + letters[:-1], letters[-1]))
                pieces.append(MARK + letters)
    blocks = Blocks(MARK, plain, k).steps() if k > 1 else []
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.normalizer = normalizers.Sequence([*upper_case(alphabet.letters), *blocks])
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(MARK, "")])
    return tokenizer


def upper_case(letters: str) -> list[normalizers.Normalizer]:
    """A BPE without a piece for a character drops it silently: lower case must not be dropped."""
    return [normalizers.Replace(letter.lower(), letter) for letter in letters if letter.isalpha()]
