"""One chart for all pages: whatever is drawn lies inside it, follows the theme, and names are text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.charts import Axis, Series, chart

EVIL = '<script>"&'
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 4))


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_and_a_few_round_numbers(values: list[float], zero: bool) -> None:
    axis = Axis.over("x", values, zero=zero)
    assert axis.low < min(values) <= max(values) < axis.high
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 5
    assert all(0 <= axis.share(place) <= 1 for place, _ in ticks)
    assert len({name for _, name in ticks}) == len(ticks)
    if zero:
        assert axis.low <= 0 <= axis.high


def test_shares_of_one_have_quarters() -> None:
    assert [name for _, name in Axis("share").ticks()] == ["0", "0.25", "0.5", "0.75", "1"]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=12))
def test_points_are_drawn_inside_and_in_the_page_s_colours(points: list[tuple[float, float]]) -> None:
    x, y = Axis.over("step", [a for a, _ in points]), Axis.over("loss", [b for _, b in points])
    svg = chart([Series(EVIL, points, 2, sizes=[3.0] * len(points))], x, y, alt=EVIL)
    width, height = (float(number) for number in re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
    for across, up in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', svg):
        assert 0 <= float(across) <= width
        assert 0 <= float(up) <= height
    assert "<script" not in svg
    assert not re.findall(r"#[0-9a-fA-F]{3,6}\b", svg)
    assert "var(--c3)" in svg


@pytest.mark.parametrize("hollow", [False, True])
def test_a_row_has_its_name_its_interval_and_its_figure(hollow: bool) -> None:
    rows = [
        Series(name, [(value, float(row))], row, bars=[(value - 0.1, value + 0.2)], sizes=[5], hollow=hollow)
        for row, (name, value) in enumerate((("ours", 0.812), ("theirs", -0.25)))
    ]
    svg = chart(rows, Axis.over("mcc", [-0.35, 1.0], zero=True), Axis("", names=["ours", "theirs"]), alt="mcc")
    assert re.findall(r">(0\.812|−0\.250|ours|theirs)<", svg) == ["ours", "theirs", "0.812", "−0.250"]
    assert svg.count('stroke-linecap="round"') == 2


def test_a_class_has_no_colour_of_a_system() -> None:
    both = [Series("system", [(0, 0), (1, 1)], 1), Series("class", [(0, 1), (1, 0)], 1, "k")]
    svg = chart(both, Axis("x"), Axis("y"), alt="both")
    page = (Path(__file__).parents[2] / "pages" / "base.html.jinja").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([ck]\d): (#\w+);", page.split("prefers-color-scheme")[0]))
    assert {"var(--c2)", "var(--k2)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert len(set(colours.values())) == len(colours) == 12
