"""Find the tags of a text and say which spans between them are sequences.

The truth is the tokenizer's own normalizer (`tokenizer.private`); this is the same rule in Python, for messages and for
telling text from sequence: a span counts when nothing but letters of its alphabet and white space lies between the
opening tag and its closing tag or the end of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sequences.alphabets import ALPHABETS, TAGS, Alphabet

TAG = re.compile("|".join(map(re.escape, TAGS)))
WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
r"""What `\s` is to the normalizer (Unicode White_Space), for a character class. Python's own `\s` holds U+001C to U+001F besides."""


@dataclass(frozen=True)
class Span:
    """What stands behind one opening tag, up to the next tag or the end of the text."""

    alphabet: Alphabet
    tag: int
    """0-based position of the opening tag."""
    start: int
    end: int
    """0-based positions of the first letter and behind the last one."""
    follows: str
    """The tag that ends it; empty at the end of the text."""
    foreign: int
    """0-based position in the text of the first letter outside the alphabet, or -1."""

    @property
    def closed(self) -> bool:
        return self.follows == self.alphabet.close_tag

    @property
    def mapped(self) -> bool:
        """Whether the tokenizer reads it as a sequence. An open span at the end of a text is a prompt to be continued."""
        return self.foreign < 0 and (self.closed or not self.follows)


def spans(text: str) -> Iterator[Span]:
    """Every opening tag of the text with what follows it, in order."""
    tags = list(TAG.finditer(text))
    for index, tag in enumerate(tags):
        if tag[0].startswith("</"):
            continue
        behind = tags[index + 1] if index + 1 < len(tags) else None
        end = behind.start() if behind else len(text)
        alphabet = ALPHABETS[tag[0].strip("<>")]
        # line breaks inside a span are allowed; a letter in their place keeps the positions
        letters = re.sub(f"[{WHITE_SPACE}]", alphabet.letters[0], text[tag.end() : end])
        foreign = alphabet.first_foreign(letters)
        yield Span(alphabet, tag.start(), tag.end(), end, behind[0] if behind else "", foreign if foreign < 0 else tag.end() + foreign)
