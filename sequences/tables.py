"""The one reader of tables: CSV and TSV, plain or gz, whatever the file is called.

- Cells are stripped at both ends. Blank lines are no rows; every other line is part of exactly one row.
- CSV is strict: a quotation mark that is not closed, or has letters behind it, breaks its own row, and the rows below are read.
  A quoted cell may span lines, but not in a column that holds a sequence, an id or a label (`Table.one_line`).
- TSV has no quotes (5'-end is no quotation), except where a whole cell stands in double quotes, as Excel and pandas write it;
  such a cell is unquoted by CSV's rules.
- The delimiter is what the caller says, or what the header proves.
A row that is broken comes out with a `problem`, so that it is counted.
"""

import csv
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import UserError, at
from sequences.files import Line, Lines, lines_of, numbered_lines
from sequences.formats import DELIMITERS, LETTERS_COLUMNS, Record

MOST_LINES = 100
"""Lines that a quoted cell may span; a mark that is not closed by then is taken for a mistake in its first line."""
MOST_DIGITS = 18
BAD_QUOTE = "a quotation mark that is not closed, or stands inside a field"
BAD_WIDTH = "more or fewer fields than the header has"
NOT_UTF8 = "not UTF-8"
IDS = ("id", "seq_id", "accession", "entry", "name")
"""Names of a column of ids, the first that is there."""

csv.field_size_limit(1 << 30)  # it stops at 131,072 letters by default; a genome in one field is longer


@dataclass(slots=True)
class TableRow:
    """One row."""

    line: int
    cells: list[str]
    problem: str = ""


class Table:
    """Names of the columns, and the rows below them, read once as a stream.

    Args:
        lines: the file's lines from its first.
        delimiter: None takes the one that cuts the header into most cells.
        names: the columns, of a file without a header; an empty list takes any number of cells.

    Raises:
        UserError: no header, for an empty file.
    """

    def __init__(
        self,
        path: str | Path,
        lines: Iterable[Line] | None = None,
        *,
        delimiter: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        self._lines = Lines(numbered_lines(path) if lines is None else lines)
        self.header_line, self.names = 1, list(names or [])
        if names is None:
            head = self._lines.next_filled()
            if head is None:
                raise UserError(f"{at(path, 1)}: no header: the file is empty; fetch it again")
            self.header_line, raw = head
            text = raw.decode("utf-8", "replace").rstrip("\n")
            delimiter = delimiter or max(DELIMITERS, key=text.count)
            fields = self._quoted(text, delimiter, 0)
            self.names = text.split(delimiter) if fields is None else fields
            self.names = [name.strip() for name in self.names]
        self.delimiter = delimiter or "\t"
        self.one_line: Collection[int] = range(len(self.names))
        """Columns whose cells never span lines; all of them, unless the caller says less."""

    def __iter__(self) -> Iterator[TableRow]:
        return itertools.starmap(TableRow, self.rows())

    def rows(self) -> Iterator[tuple[int, list[str], str]]:
        """Line, cells and problem of each row, for readers that make a row of their own of it."""
        width, delimiter, exact = len(self.names), self.delimiter, self.delimiter == "\t"
        for number, raw in self._lines:
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                yield number, [], NOT_UTF8
                continue
            cells = text.split(delimiter)
            if '"' in text:
                right = exact and len(cells) == (width or len(cells))
                found = [_unquoted(cell) for cell in cells] if right else self._quoted(text.rstrip("\n"), delimiter, width)
                if found is None:
                    yield number, [], BAD_QUOTE
                    continue
                cells = found
            elif len(cells) == 1 and text.isspace():
                continue
            if width and len(cells) != width:
                yield number, [], BAD_WIDTH
            else:
                yield number, list(map(str.strip, cells)), ""

    def place(self, names: Iterable[str]) -> int | None:
        """Index of the first of these columns that is there, in either case. Raises UserError where it is there twice."""
        known = [name.removeprefix("#").casefold() for name in self.names]
        found = next((name for name in names if name in known), None)
        self.check_once([] if found is None else [found], known)
        return None if found is None else known.index(found)

    def check_once(self, needed: Iterable[str], names: Sequence[str] | None = None) -> None:
        """Raise UserError where two columns have a name that is needed: nobody could say which is meant."""
        for name in needed:
            if (names or self.names).count(name) > 1:
                raise UserError(f"{at(self.path, self.header_line)}: two columns are called '{name}'; mend the header")

    def _quoted(self, text: str, delimiter: str, width: int) -> list[str] | None:
        """Cells of a row with quotation marks, or None. Lines taken in vain are given back, so that only one row is lost."""
        taken: list[Line] = []
        texts = [f"{text}\n"]
        while True:
            try:
                # a blank behind the delimiter is no part of the cell
                reader = csv.reader(iter(texts), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t")
                cells = next(reader, [])
                # the csv module takes a mark inside a field that has none around it for a letter
                if sum(text.count('"') for text in texts) % 2:
                    break
                if taken and (len(cells) != width or any("\n" in cells[place] for place in self.one_line)):
                    break
                return cells
            except csv.Error as error:
                following = next(self._lines, None) if "unexpected end" in str(error) and len(taken) < MOST_LINES and width else None
                if following is None:
                    break
                taken.append(following)
                try:
                    texts.append(following[1].decode("utf-8"))
                except UnicodeDecodeError:
                    break
        self._lines.back(taken)
        return None


def whole_number(cell: str) -> int | None:
    """What a cell of ASCII digits says; None for anything else, and for more digits than a place or an index has:
    Python refuses to read thousands of them."""
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) <= MOST_DIGITS else None


def _unquoted(cell: str) -> str:
    """A cell of a TSV file without the quotes around it; one with a lone quotation mark inside stays as it is."""
    stripped = cell.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == '"':
        inner = stripped[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def sequence_cells(path: str | Path, content: Iterable[bytes]) -> Iterator[Record]:
    """The column `sequence` or `seq` of a table with a header, as records named by one of IDS.

    Raises:
        UserError: no such column.
    """
    table = Table(path, lines_of(content))
    letters, name = table.place(LETTERS_COLUMNS), table.place(IDS)
    table.one_line = [place for place in (letters, name) if place is not None]
    if letters is None:
        found = ", ".join(table.names)[:200]
        raise UserError(
            f"{at(path, table.header_line)}: a table of sequences has a column {' or '.join(LETTERS_COLUMNS)}; found {found}. "
            "Name the columns"
        )
    for row in table:
        cell = row.cells[letters].encode() if row.cells else b""
        named = " ".join(row.cells[name].split()) if row.cells and name is not None else ""
        yield Record(row.line, named, [cell], row.line, ignored=b"", problem=row.problem, named=True)
