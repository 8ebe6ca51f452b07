"""Find the tags of a text and say which spans between them are sequences.

A span counts when nothing but letters of its alphabet and white space lies between the opening tag and its closing tag, or
the end of the text (an unclosed span is a prompt to be continued). Line breaks may stand anywhere, indented or not. A blank
stands between two capitals only: English that mentions tags (`between <dna> and </dna>`, `the <dna> tag`) stays English.

This is the one place of the rule. The tokenizer's own normalizer (`tokenizer.private`) is made of `inside`, and so is its
twin in Python (`tokenizer.premap`); `spans` says the same of a text, and why.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sequences.alphabets import ALPHABETS, TAGS, Alphabet

TAG = re.compile("|".join(map(re.escape, TAGS)))
OPENING = re.compile("|".join(alphabet.open_tag for alphabet in ALPHABETS.values()))
BLANKS = "\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
BREAKS = "\n-\r\x85\u2028\u2029"
WHITE_SPACE = BLANKS + BREAKS
r"""For character classes: what parts words of a line, what parts lines, and both, which is Unicode's White_Space and `\s` to the
normalizer. Python's own `\s` holds U+001C to U+001F besides."""
CAPITALS = "A-Z*"
_WORDS = re.compile(f"(?<![{WHITE_SPACE}])(?:(?<![{CAPITALS}])[{BLANKS}]++(?![{BREAKS}])|[{BLANKS}]++(?![{BREAKS}{CAPITALS}]))")
"""Blanks that no sequence has, within a span: not beside a line break and not between two capitals."""
READ_AS_TEXT = "so this span is read as text, not as a sequence"


def letters_of(alphabet: Alphabet) -> str:
    """Every letter that may be written in a span, in either case, for a character class."""
    letters = alphabet.letters + "".join(alphabet.synonyms)
    return (letters + letters.lower()).replace("*", r"\*")


def inside(alphabet: Alphabet) -> str:
    """A regular expression for as much of a sequence as stands behind an opening tag, for Python and Oniguruma alike.

    It never gives back what it took, so looking for the end of a span takes time linear in its letters.
    """
    between = f"(?<=[{CAPITALS}])[{BLANKS}]++(?=[{CAPITALS}])"
    return f"(?:[{letters_of(alphabet)}]++|[{BLANKS}]*+[{BREAKS}][{WHITE_SPACE}]*+|{between})*+"


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
    words: int
    """0-based position in the text of the first blank that no sequence has, or -1."""

    @property
    def closed(self) -> bool:
        return self.follows == self.alphabet.close_tag

    @property
    def past(self) -> int:
        """0-based position behind the tag that ends it."""
        return self.end + len(self.follows)

    @property
    def mapped(self) -> bool:
        """Whether the tokenizer reads it as a sequence. An open span at the end of a text is a prompt to be continued."""
        return self.foreign < 0 and self.words < 0 and (self.closed or not self.follows)


def spans(text: str) -> Iterator[Span]:
    """Every opening tag of the text with what follows it, in order."""
    tags = list(TAG.finditer(text))
    for index, tag in enumerate(tags):
        if tag[0].startswith("</"):
            continue
        behind = tags[index + 1] if index + 1 < len(tags) else None
        end = behind.start() if behind else len(text)
        alphabet = ALPHABETS[tag[0].strip("<>")]
        foreign = re.compile(f"[^{letters_of(alphabet)}{WHITE_SPACE}]").search(text, tag.end(), end)
        words = _WORDS.search(text, tag.end(), end)
        places = (found.start() if found else -1 for found in (foreign, words))
        yield Span(alphabet, tag.start(), tag.end(), end, behind[0] if behind else "", *places)


def sequences(text: str) -> list[Span]:
    """The closed spans that are sequences."""
    return [span for span in spans(text) if span.closed and span.mapped]


def with_letters(text: str, change: Callable[[str], str]) -> str:
    """The text with the letters of every closed sequence changed."""
    found, end = [], 0
    for span in sequences(text):
        found += [text[end : span.start], change(text[span.start : span.end])]
        end = span.end
    return "".join(found) + text[end:]


def position(place: int) -> str:
    """A 0-based place, as people count."""
    return f"position {place + 1}"


def remarks(text: str, place: Callable[[int], str] = position) -> Iterator[str]:
    """Spans that are not what they seem: unclosed, closed by another tag, with a letter outside the alphabet, or words.

    Args:
        place: how a 0-based position is shown.
    """
    closings = {match.start(): match[0] for match in TAG.finditer(text) if match[0].startswith("</")}
    for span in spans(text):
        closings.pop(span.end, None)
        tag, at = span.alphabet.open_tag, place(span.tag)
        if span.foreign >= 0 and not 0 <= span.words < span.foreign:
            yield f"{place(span.foreign)}: '{text[span.foreign]}' is not a {span.alphabet.name} letter, {READ_AS_TEXT} ({tag} at {at})"
        elif span.words >= 0:
            yield f"{place(span.words)}: blanks stand between capital letters alone in a sequence, {READ_AS_TEXT} ({tag} at {at})"
        elif span.follows and not span.closed:
            yield f"{at}: {tag} meets {span.follows} before {span.alphabet.close_tag}, {READ_AS_TEXT}"
        elif not span.closed and text[span.start :].strip():
            yield f"{at}: {tag} is never closed; the letters behind it are read as a sequence to be continued"
    for at_closing, closing in closings.items():
        yield f"{place(at_closing)}: {closing} closes nothing"
