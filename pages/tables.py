"""Tables that are shown in several forms: on a page, as Markdown, in a terminal."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    small: str = ""
    """What stands behind it in Markdown and smaller below it on the page: an interval, a note."""
    good: bool | None = None
    """Marked as good or bad news on the page."""
    colour: int | None = None
    """Of the system that a row or a column is about, from 0."""
    strong: bool = False
    """The best of its kind: bold."""
    link: str = ""
    """Id on the page to which the text leads."""

    def __str__(self) -> str:
        return f"{self.text} {self.small}".rstrip()

    @property
    def markdown(self) -> str:
        return f"**{self.text}** {self.small}".rstrip() if self.strong else str(self)


@dataclass(frozen=True)
class Table:
    """Rows below a header; the columns in `left` hold words, the others figures."""

    header: Sequence[Cell | str]
    rows: Sequence[Sequence[Cell | str]]
    left: Collection[int] = (0,)
    caption: str = ""
    sentence: str = ""
    """What the table says, in one sentence; it stands above the table."""

    def markdown(self) -> str:
        """As Markdown, the sentence above and the caption below."""
        marks = [":--" if place in self.left else "--:" for place in range(len(self.header))]
        lines = [
            [(cell.markdown if isinstance(cell, Cell) else cell).replace("|", "\\|").replace("\n", " ") for cell in row]
            for row in [self.header, marks, *self.rows]
        ]
        return "\n\n".join(filter(None, [self.sentence, "\n".join("| " + " | ".join(line) + " |" for line in lines), self.caption]))

    def aligned(self) -> str:
        """As Markdown that reads well in a terminal too."""
        (head, *rows), widths = self._padded()
        marks = ["-" * width if place in self.left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *rows])

    def terminal(self) -> str:
        """Aligned by blanks."""
        lines, widths = self._padded()
        head, *rows = ("  ".join(line).rstrip() for line in lines)
        return "\n".join([head, "  ".join("─" * width for width in widths), *rows, *([self.caption] if self.caption else [])])

    def _padded(self) -> tuple[list[list[str]], list[int]]:
        """Header and rows, and how wide each column is."""
        lines = [list(map(str, row)) for row in [self.header, *self.rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        pads = [str.ljust if place in self.left else str.rjust for place in range(len(widths))]
        return [[pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)] for line in lines], widths
