"""The one table reader: one policy for cells, quotes, widths and delimiters, and a count for every row."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts.errors import Ledger, UserError
from sequences.alphabets import DNA, PROTEIN
from sequences.readers import read_sequences
from sequences.tables import BAD_QUOTE, BAD_WIDTH, NOT_UTF8, Table


def table(tmp_path, content: str | bytes, **options) -> Table:
    path = tmp_path / "t"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(path, **options)


def rows(tmp_path, content: str | bytes, one_line=None, **options) -> list[tuple[int, list[str] | str]]:
    read = table(tmp_path, content, **options)
    if one_line is not None:
        read.one_line = one_line
    return [(row.line, row.problem or row.cells) for row in read]


def test_cells_are_stripped_and_blank_lines_are_no_rows(tmp_path):
    assert rows(tmp_path, "a, b\n\n 1 ,\u00a02\t\n  \n3,4\n") == [(3, ["1", "2"]), (5, ["3", "4"])]
    assert rows(tmp_path, "a\tb\n \t \n") == [(2, ["", ""])]  # a row of empty cells is a row


@pytest.mark.parametrize(
    ("content", "delimiter"), [("a\tb,c\n", "\t"), ("a,b;c\n", ","), ("a;b\n", ";"), ("a\n", "\t"), ('"a,b"\tc\n', "\t")]
)
def test_the_header_proves_the_delimiter(tmp_path, content, delimiter):
    assert table(tmp_path, content).delimiter == delimiter


def test_quotes_of_csv(tmp_path):
    content = 'a,b\n"x, ""y""", "z"\n"open,1\n2,3\n"4"x,5\n"6\n7",8\n9,5"\n'
    assert rows(tmp_path, content, one_line=[1]) == [
        (2, ['x, "y"', "z"]), (3, BAD_QUOTE), (4, ["2", "3"]), (5, BAD_QUOTE), (6, ["6\n7", "8"]), (8, BAD_QUOTE),
    ]  # fmt: skip
    # where a column's cells do not span lines, a stray mark costs its own row, not the rows up to the next mark
    assert rows(tmp_path, 'a,b\n"6\n7",8\n', one_line=[0]) == [(2, BAD_QUOTE), (3, BAD_QUOTE)]


def test_quotes_of_tsv(tmp_path):
    content = 'a\tb\n"5 prime\tx\n"quoted ""word"""\t5\'"\n"a" or "b"\tc\n"a\tb"\tc\n'
    assert rows(tmp_path, content) == [
        (2, ['"5 prime', "x"]), (3, ['quoted "word"', "5'\""]), (4, ['"a" or "b"', "c"]), (5, ["a\tb", "c"]),
    ]  # fmt: skip


def test_rows_that_are_broken_are_named(tmp_path):
    assert rows(tmp_path, b"a,b\n1\n\xff,2\n1,2,3\n4,5") == [(2, BAD_WIDTH), (3, NOT_UTF8), (4, BAD_WIDTH), (5, ["4", "5"])]
    with pytest.raises(UserError, match=r"t:1: no header: the file is empty"):
        table(tmp_path, "\n \n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(
    cells=st.lists(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), max_size=6), min_size=3, max_size=3)),
    delimiter=st.sampled_from([",", "\t", ";"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=60, deadline=None)
def test_what_the_csv_module_writes_comes_back(tmp_path_factory, end, cells, delimiter, quoting):
    cells = [row for row in cells if any(row)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([["a", "b", "c"], *cells])
    path = tmp_path_factory.mktemp("csv") / "t"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert [row.cells for row in Table(path)] == cells


@given(lines=st.lists(st.text('ab,\t"; \u00e9', max_size=12), max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=300, deadline=None)
def test_every_line_belongs_to_one_row(tmp_path_factory, lines, end):
    path = tmp_path_factory.mktemp("lines") / "t"
    path.write_text(end.join(["x,y", *lines]), encoding="utf-8", newline="")
    filled = [number for number, line in enumerate(lines, 2) if line.strip() or "," in line]
    assert [row.line for row in Table(path)] == filled


def test_columns_by_name_and_broken_rows(tmp_path):
    path = tmp_path / "t.csv.gz"
    lines = ["label,Sequence,seq_id\r", '1,acgtnn,"a, b"\r', "", "0,ACGU,x", "1,,y", "1,AC", '1,"AC', "1,\xff,z", "1,GG,", "1,ACG TGC,k"]
    path.write_bytes(gzip.compress("\n".join(lines).encode("latin-1")))
    ledger = Ledger()
    found = list(read_sequences(path, DNA, ledger))
    assert [(one.id, one.letters, one.line) for one in found] == [("a, b", "ACGTNN", 2), ("line9", "GG", 9)]
    assert (ledger.read, ledger.written) == (8, 2)
    assert ledger.examples == {
        "letter outside dna": [f"{path}:4 ('U')"],
        "empty sequence": [f"{path}:5"],
        BAD_WIDTH: [f"{path}:6"],
        BAD_QUOTE: [f"{path}:7"],
        NOT_UTF8: [f"{path}:8"],
        "blanks inside the sequence (k-mers?)": [f"{path}:10 (' ')"],
    }


def test_files_that_are_no_tables_of_sequences(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("id\tlabel\nx\t1\n")
    with pytest.raises(UserError, match=r"t\.tsv:1: 'id\tlabel' is no protein sequence, and the file begins as no format"):
        list(read_sequences(path, PROTEIN, Ledger()))
    path.write_text("id\tseq\nx\t123\n")
    with pytest.raises(UserError, match=r"not one usable protein record: letter outside protein"):
        list(read_sequences(path, PROTEIN, Ledger()))
