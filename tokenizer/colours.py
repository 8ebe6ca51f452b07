"""Show how an extended tokenizer cuts a text: `llama-gene tokenizer inspect`.

In a terminal each token has a background, its hue says the modality and two shades alternate; tags and other special
tokens are bold. Elsewhere, or with NO_COLOR set, tokens are separated by `|`. `as_html` is for the page of `llama-gene serve`.
"""

import html
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tokenizers import Tokenizer

from artefacts.errors import UserError, at
from artefacts.recipe import Recipe
from sequences import spans
from sequences.alphabets import ALPHABETS, TAGS
from tokenizer.private import letterless, read_tokenizer

SHADES = {"text": (254, 249), "dna": (153, 111), "rna": (158, 115), "protein": (223, 216), "special": (183, 183)}
"""Two light backgrounds of the 256-colour palette per modality; letters are black on all of them, so any theme will do."""
UNITS = {"text": "byte", **{name: alphabet.unit for name, alphabet in ALPHABETS.items()}}
NOTHING = "·"
"""Stands for a token that covers no letter of its own: sentencepiece's first blank, or the later bytes of one character."""
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | dict.fromkeys(range(127, 160), "�")
"""Control characters are shown by these, so that a text cannot steer the terminal."""


class InspectRecipe(Recipe):
    """Show how an extended tokenizer cuts a text, in colour, with counts per modality."""

    text: list[str] = []
    """The text, with spans such as <dna>ACGT</dna>; several arguments are joined by blanks."""
    file: Path | None = None
    """A UTF-8 text file instead."""
    tokenizer: Path = Path("runs/quickstart/extended")
    """Folder of an extended model or tokenizer, or its tokenizer.json."""
    ids: bool = False
    """Write each token's id behind it."""


@dataclass(frozen=True)
class Shown:
    """One token."""

    text: str
    """The letters of the original text that it covers; empty where another token shows them, as with the bytes of one character."""
    id: int
    kind: str
    """text, dna, rna, protein or special."""


def inspect(recipe: InspectRecipe, *, out: TextIO | None = None) -> None:
    """Print the tokens and a legend; warn on standard error of spans that are not read as sequences.

    Raises:
        UserError: neither or both of `text` and `file`, an unreadable file, or a tokenizer that was not extended.
    """
    out = out or sys.stdout
    tokenizer = read_extended(recipe.tokenizer)
    text = _text(recipe)
    for warning in warnings(tokenizer, text, recipe.file):
        print(f"warning: {warning}", file=sys.stderr)
    tokens = list(cut(tokenizer, text))
    colour = out.isatty() and "NO_COLOR" not in os.environ
    print(coloured(tokens, recipe.ids) if colour else plain(tokens, recipe.ids), file=out)
    print(file=out)
    for line in legend(tokens, colour):
        print(line, file=out)


def read_extended(path: Path) -> Tokenizer:
    """The tokenizer of an extended folder. Raises UserError when it is none."""
    tokenizer = read_tokenizer(path)
    missing = [tag for tag in TAGS if tokenizer.token_to_id(tag) is None]
    if missing:
        raise UserError(f"{path}: has no {missing[0]}, so it was not extended; extend it with `llama-gene tokenizer extend`")
    return tokenizer


def cut(tokenizer: Tokenizer, text: str) -> Iterator[Shown]:
    """Every token of the text in order; their texts joined give the text back."""
    tags = {index: tag for tag in TAGS if (index := tokenizer.token_to_id(tag)) is not None}
    special = set(letterless(tokenizer.get_added_tokens_decoder()))
    encoding = tokenizer.encode(text, add_special_tokens=False)
    shown, modality = 0, "text"
    for index, (_, end) in zip(encoding.ids, encoding.offsets, strict=True):
        # sentencepiece's first blank stands for no letter, and the bytes of one character all cover the whole character
        letters = text[shown : max(shown, end)]
        shown = max(shown, end)
        if index in special:
            modality = tags[index].strip("<>") if index in tags and not tags[index].startswith("</") else "text"
            yield Shown(letters, index, "special")
        else:
            # gene pieces are numbered after the tags, and everything of the base before them
            yield Shown(letters, index, modality if index > max(tags) else "text")


def plain(tokens: list[Shown], ids: bool) -> str:
    """Tokens separated by `|`."""
    return "|".join(f"{_visible(token.text)}:{token.id}" if ids else _visible(token.text) for token in tokens)


def coloured(tokens: list[Shown], ids: bool) -> str:
    """Tokens with ANSI backgrounds, two shades in turn."""
    parts = []
    for number, token in enumerate(tokens):
        bold = "1;" if token.kind == "special" else ""
        start = f"\x1b[{bold}38;5;16;48;5;{SHADES[token.kind][number % 2]}m"
        # the background must end before a line does, or terminals paint the rest of the line
        lines = _visible(token.text).replace("\n", "↵\n").split("\n")
        parts.append("\n".join(f"{start}{line}\x1b[0m" if line else "" for line in lines))
        if ids:
            parts.append(f"\x1b[2m{token.id}\x1b[0m ")
    return "".join(parts)


def as_html(tokens: list[Shown]) -> str:
    """Tokens as `<span class="token dna">`, text escaped, every second one also `odd`, with the legend below."""
    parts = []
    for number, token in enumerate(tokens):
        shade = " odd" if number % 2 else ""
        # a long sequence is one word to a browser; between its tokens it may break
        text = html.escape(_visible(token.text)).replace("\n", "↵<br>")
        parts.append(f'<span class="token {token.kind}{shade}" title="id {token.id}">{text}</span><wbr>')
    # the plain legend's counts stand in columns behind nine letters of name
    rows = [(line.split()[0], line[9:]) for line in legend(tokens, False)]
    lines = "".join(f'<li><span class="token {kind}">{kind}</span>{counts}</li>' for kind, counts in rows)
    return f'<div class="tokens">{"".join(parts)}</div><ul class="legend">{lines}</ul>'


def _visible(text: str) -> str:
    return text.translate(PICTURES) or NOTHING


def legend(tokens: list[Shown], colour: bool) -> list[str]:
    """One line per modality: tokens, letters, letters per token."""
    lines = []
    for kind, unit in UNITS.items():
        own = [token.text for token in tokens if token.kind == kind]
        if own:
            size = sum(len(text.encode()) if kind == "text" else len(text) for text in own)
            counts = f"{len(own):>8,} tokens {size:>9,} {unit + 's':<9}"
            lines.append(f"{_swatch(kind, colour)}{counts}{size / len(own):7.2f} {unit}s per token")
    special = sum(token.kind == "special" for token in tokens)
    if special:
        lines.append(f"{_swatch('special', colour)}{special:>8,} tokens")
    return lines


def warnings(tokenizer: Tokenizer, text: str, file: Path | None = None) -> Iterator[str]:
    """Spans that are not what they seem, with their places (`sequences.spans.remarks`)."""
    cuts = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special and token.content not in TAGS]
    # special tokens cut the text before the tags are looked at
    ends = [match.span() for match in re.finditer("|".join(map(re.escape, cuts)), text)] if cuts else []
    start = 0
    for end, following in [*ends, (len(text), len(text))]:
        yield from spans.remarks(text[start:end], lambda position: _place(text, start + position, file))  # noqa: B023 - used at once
        start = following


def _place(text: str, position: int, file: Path | None) -> str:
    """1-based place: `file:line, column` or `position`."""
    if file is None:
        return spans.position(position)
    line = text.count("\n", 0, position) + 1
    return f"{at(file, line)}, column {position - text.rfind(chr(10), 0, position)}"


def _text(recipe: InspectRecipe) -> str:
    if bool(recipe.text) == (recipe.file is not None):
        raise UserError("give either a text, such as 'is <dna>ACGT</dna> coding?', or --file, not both")
    if recipe.file is None:
        return " ".join(recipe.text)
    try:
        return recipe.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{recipe.file}: cannot be read as UTF-8 text ({error}); give a text file") from None


def _swatch(kind: str, colour: bool) -> str:
    return f"\x1b[38;5;16;48;5;{SHADES[kind][0]}m {kind:<8}\x1b[0m" if colour else f"{kind:<9}"
