"""One chart for all pages: lines, dots and intervals over two axes, as SVG.

Colours are CSS variables of the page, so that a chart follows its light or dark theme; text stays text, takes the page's font and is
found by a search. Written by hand because a page has a hundred of them, and matplotlib takes a quarter of a second for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

SMALL, WIDE = (330, 262), (540, 300)
"""Width and height without the legend."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
LINE = 17
"""Height of a line of the legend."""
LETTER = 6.2
"""Width of a letter, as far as one can tell without the font."""


@dataclass(frozen=True)
class Axis:
    """What one of the two directions means."""

    label: str
    low: float = 0.0
    high: float = 1.0
    names: Sequence[str] = ()
    """Of the places 0, 1, 2, ... along it, where it has no numbers."""

    @classmethod
    def over(cls, label: str, values: Sequence[float], *, zero: bool = False) -> Axis:
        """As long as the values, with a little room; `zero`: begun at 0, or below where values are."""
        low, high = min(values), max(values)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        room = 0.04 * (high - low) or 0.5
        return cls(label, low - room, high + room)

    def ticks(self) -> list[tuple[float, str]]:
        """Places with what is written there: the names, or at most five round numbers."""
        if self.names:
            return list(enumerate(self.names))
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 4))
        step = next(step * power for step in (1, 2, 2.5, 5, 10) if span <= 4 * step * power * (1 + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, 1 - math.floor(math.log10(step)))
        return [(place * step, _number(place * step, decimals)) for place in range(first, last + 1)]

    def share(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        return (value + 0.5) / len(self.names) if self.names else (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Series:
    """Points in the data's own units."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    """Number of the page's series colour, from 0."""
    palette: Literal["c", "k"] = "c"
    """Colours of systems, or of kinds: a class is no system, and does not look like one."""
    bars: Sequence[tuple[float, float] | None] = ()
    """Interval of each point: along y, or along x where y has names."""
    sizes: Sequence[float] = ()
    """Radius of each point's dot; without any, dots are left out."""
    hollow: bool = False
    bound: float | None = None
    """Drawn as a dashed line across, with what a uniform guess would give."""

    @property
    def variable(self) -> str:
        """Its colour, as a variable of the page."""
        return f"--{self.palette}{self.colour + 1}"


def chart(series: Sequence[Series], x: Axis, y: Axis, *, alt: str, size: tuple[int, int] = SMALL, diagonal: bool = False) -> str:
    """An SVG. Where y has names, each series is a row: it is named at the axis, without a legend, and its figure stands behind it.

    Args:
        diagonal: draw the line on which x equals y.
    """
    width, height = size
    left = 14 + LETTER * max(map(len, y.names)) if y.names else LEFT
    right = RIGHT + (44 if y.names else 0)
    wide, high = width - left - right, height - TOP - BOTTOM

    def at(across: float, up: float) -> tuple[float, float]:
        turned = y.share(up) if y.names else 1 - y.share(up)  # rows begin at the top
        return round(left + wide * x.share(across), 1), round(TOP + high * turned, 1)

    legend = [] if y.names else series
    # a narrower page scrolls: its text would be smaller than 11 px
    box = f'viewBox="0 0 {width} {height + LINE * len(legend)}" font-size="12" style="min-width: {width * 11 / 12:.0f}px"'
    parts = [f'<svg role="img" aria-label="{escape(alt)}" {box}>']
    parts += _axes(x, y, left, wide, high, height)
    if diagonal:
        parts.append(_line(*at(0, 0), *at(1, 1), "--muted", 1, 'stroke-dasharray="4 3"'))
    # lines, intervals and dots of each series, in that order, so that dots lie on top
    for number, one in enumerate(series):
        colour = one.variable
        # several systems on one column would hide each other's intervals
        shift = (number - (len(series) - 1) / 2) * 5 if x.names else 0.0
        places = [(round(across + shift, 1), up) for across, up in (at(*point) for point in one.points)]
        if len(places) > 1:
            line = " ".join(f"{across},{up}" for across, up in places)
            parts.append(f'<polyline points="{line}" fill="none" stroke="var({colour})" stroke-width="1.8" stroke-linejoin="round"/>')
        for (across, up), bar in zip(places, one.bars, strict=False):
            if bar is not None and y.names:
                parts.append(_line(at(bar[0], 0)[0], up, at(bar[1], 0)[0], up, colour, 2.4, 'opacity="0.55" stroke-linecap="round"'))
            elif bar is not None:
                parts.append(_line(across, at(0, bar[0])[1], across, at(0, bar[1])[1], colour, 1.4, 'opacity="0.6"'))
        for (across, up), radius in zip(places, one.sizes, strict=False):
            fill, edge = ("--card", colour) if one.hollow else (colour, "--card")
            parts.append(f'<circle cx="{across}" cy="{up}" r="{radius:.1f}" fill="var({fill})" stroke="var({edge})"/>')
        if one.bound is not None:
            below = at(x.low, one.bound)[1]
            parts.append(_line(left, below, left + wide, below, colour, 1.1, 'stroke-dasharray="4 3"'))
            parts.append(_text(left + wide, below - 4, f"uniform: {one.bound:g}", "end", colour))
        if y.names:
            parts.append(_text(left + wide + 6, places[0][1] + 4, f"{one.points[0][0]:.3f}".replace("-", "−"), "start", "--ink"))
    for number, one in enumerate(legend):
        below = height + LINE * number + 6
        parts.append(_line(left, below - 3.5, left + 16, below - 3.5, one.variable, 2.4))
        parts.append(_text(left + 22, below, one.label, "start", "--ink"))
    return "".join(parts) + "</svg>"


def _axes(x: Axis, y: Axis, left: float, wide: float, high: float, height: float) -> list[str]:
    """Grid, ticks and what the axes are called. Along an axis with names there are no lines."""
    parts = []
    for value, name in y.ticks():
        below = round(TOP + high * (y.share(value) if y.names else 1 - y.share(value)), 1)
        if not y.names:
            parts.append(_line(left, below, left + wide, below, "--line"))
        parts.append(_text(left - 6, below + 4, name, "end", "--ink" if y.names else "--muted"))
    for value, name in x.ticks():
        across = round(left + wide * x.share(value), 1)
        if y.names:  # many measures have a meaning at 0, which is chance
            parts.append(_line(across, TOP, across, TOP + high, "--line" if value else "--muted"))
        parts.append(_text(across, TOP + high + 15, name, "middle", "--muted"))
    parts.append(_text(left + wide / 2, height - 8, x.label, "middle", "--muted"))
    middle = TOP + high / 2
    if y.label:
        turn = f' transform="rotate(-90 11 {middle})"'
        parts.append(_text(11, middle, y.label, "middle", "--muted", turn))
    return parts


def _number(value: float, decimals: int) -> str:
    shown = f"{value:,.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:,.0f}"
    return "0" if shown == "-0" else shown.replace("-", "−")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, more: str = "") -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="var({colour})" stroke-width="{width}" {more}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="var({colour})"{more}>{escape(text)}</text>'
