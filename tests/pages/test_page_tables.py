"""A table says the same on a page, as Markdown and in a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pages.page import share
from pages.tables import Cell, Table

TEXT = st.text(st.characters(categories=("L", "N", "P")), max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=6), st.sampled_from([(0,), (0, 2), range(3)]))
def test_every_form_has_every_cell_and_one_line_per_row(rows: list[tuple[str, str, str]], left: tuple[int, ...]) -> None:
    table = Table(["name", "n", "what"], [[Cell(a, b), b, c] for a, b, c in rows], left)
    for form, around in ((table.markdown(), 2), (table.aligned(), 2), (table.terminal(), 2)):
        lines = form.split("\n")
        assert len(lines) == len(rows) + around
        for line, (a, _, c) in zip(lines[2:], rows, strict=True):
            assert a.replace("|", "\\|" if form == table.markdown() else "|") in line
            assert c.replace("|", "\\|" if form == table.markdown() else "|") in line
    assert len({len(line) for line in table.aligned().split("\n")}) == 1


def test_a_caption_stands_below() -> None:
    table = Table(["a"], [["1"]], caption="what it is")
    assert table.markdown().endswith("| 1 |\n\nwhat it is")
    assert table.terminal().splitlines()[-1] == "what it is"


def test_a_share_that_only_rounds_to_none_or_all_does_not_read_as_such() -> None:
    assert [share(part, 10_000) for part in (0, 1, 5_000, 9_999, 10_000)] == ["0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"]
    assert (share(None), share(3, 0)) == ("–", "–")
