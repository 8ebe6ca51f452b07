"""Markdown as text to train on: what is no text is dropped, and headings and paragraphs are found, never inside code."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal

Unit = Literal["document", "section", "paragraph"]
FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE)
MARK = re.compile(r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})|`[^`\n]+`|(?P<comment><!--)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}(?=[ \t\n])", re.MULTILINE)
BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")


def markdown_text(content: str) -> str:
    """Without the YAML front matter at the top and without HTML comments; code, headings and all else stay.

    A front matter or comment without an end stays: better some noise than a lost document.
    """
    if content.startswith(("---\n", "--- ")) and (closed := FRONT_MATTER_END.search(content, content.find("\n") + 1)):
        content = content[closed.end() :]
    kept, place = [], 0
    for start, end, kind in _marks(content):
        if kind == "comment":
            kept.append(content[place:start])
            place = end
    return "".join([*kept, content[place:]])


def split(text: str, unit: Unit) -> Iterator[str]:
    """The text, its sections (each from a heading on), or its paragraphs, without the blank lines between them."""
    if unit == "document":
        yield text
        return
    code = [(start, end) for start, end, kind in _marks(text) if kind == "code"]
    starts = [start for start, _ in code]
    cuts = [0]
    for found in (HEADING if unit == "section" else BLANK).finditer(text):
        block = bisect_right(starts, found.start()) - 1
        if block < 0 or found.start() >= code[block][1]:
            cuts.append(found.start())
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        if part := _strip_lines(text[start:end]):
            yield part


def _strip_lines(text: str) -> str:
    """Without blank lines above and below; a first line keeps its indent, which makes it code."""
    text = text.rstrip()
    blank = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, blank) + 1 :]


def _marks(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind (code, comment) of fenced code and of comments outside code."""
    place, open_ended = 0, False
    while found := MARK.search(text, place):
        place = found.end()
        if fence := found["fence"]:
            line_end = text.find("\n", place)
            closing = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
            closed = closing.search(text, line_end) if line_end >= 0 else None
            place = closed.end() if closed else len(text)  # a fence that is never closed reaches to the end
            yield found.start(), place, "code"
        elif found["comment"] and not open_ended:
            end = text.find("-->", place)
            open_ended = end < 0
            if not open_ended:
                place = end + 3
                yield found.start(), place, "comment"
