"""Small line charts as SVG written by hand: a page has a hundred of them, and matplotlib takes a quarter of a second for each.

Colours are the page's CSS variables, so charts follow its light or dark theme; text stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 330, 262
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
LEGEND = 17
"""Height of a line of the legend."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Series:
    """Points in data coordinates; x from 0 to 1, or the numbers of the columns where the chart has any."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    """Number of the page's series colour, from 0."""
    bars: Sequence[tuple[float, float] | None] = ()
    """Interval of each point."""
    sizes: Sequence[float] = ()
    """Radius of each point's dot; without any, dots are left out."""


def chart(series: Sequence[Series], *, x: str, y: str, alt: str, diagonal: bool = False, columns: Sequence[str] = ()) -> str:
    """Lines over 0..1, or over named columns. The y axis is 0..1, or as high as the points where they go beyond.

    Args:
        diagonal: draw the line on which x equals y.
        columns: names below the axis; points then have x = 0, 1, ...
    """
    legend = LEGEND * len(series)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    tops = [value for one in series for value in [*(p[1] for p in one.points), *(bar[1] for bar in one.bars if bar)]]
    top = max([1.0, *tops]) if max(tops, default=0) > 1 else 1.0

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] + 0.5) / len(columns) if columns else point[0]
        return round(LEFT + wide * across, 1), round(TOP + high * (1 - point[1] / top), 1)

    parts = [f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {WIDTH} {HEIGHT + legend}" font-size="12">']
    for tick in TICKS:
        _, height = at((0, tick * top))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 3.5}" text-anchor="end" fill="var(--muted)">{tick * top:.3g}</text>')
    names = list(enumerate(columns)) if columns else [(tick, f"{tick:g}") for tick in TICKS]
    for place, name in names:
        parts.append(f'<text x="{at((place, 0))[0]}" y="{TOP + high + 15}" text-anchor="middle" fill="var(--muted)">{escape(name)}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="var(--muted)">{escape(x)}</text>')
    middle = TOP + high / 2
    parts.append(
        f'<text x="11" y="{middle}" text-anchor="middle" fill="var(--muted)" transform="rotate(-90 11 {middle})">{escape(y)}</text>'
    )
    if diagonal:
        (x1, y1), (x2, y2) = at((0, 0)), at((1, 1))
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="var(--muted)" stroke-dasharray="4 3"/>')
    for number, one in enumerate(series):
        colour = f"var(--c{one.colour + 1})"
        # several systems on one column would hide each other's intervals
        shift = (number - (len(series) - 1) / 2) * 5 if columns else 0.0
        places = [(round(across + shift, 1), height) for across, height in map(at, one.points)]
        line = " ".join(f"{across},{height}" for across, height in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>')
        for (across, _), bar in zip(places, one.bars, strict=False):
            if bar is not None:
                low, up = (at((0, value))[1] for value in bar)
                parts.append(f'<line x1="{across}" x2="{across}" y1="{low}" y2="{up}" stroke="{colour}" stroke-width="1.4" opacity="0.6"/>')
        for (across, height), size in zip(places, one.sizes, strict=False):
            parts.append(f'<circle cx="{across}" cy="{height}" r="{size:.1f}" fill="{colour}" stroke="var(--card)"/>')
        below = HEIGHT + LEGEND * number + 6
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 16}" y1="{below - 3.5}" y2="{below - 3.5}" stroke="{colour}" stroke-width="2.4"/>')
        parts.append(f'<text x="{LEFT + 22}" y="{below}" fill="var(--ink)">{escape(one.label)}</text>')
    return "".join(parts) + "</svg>"
