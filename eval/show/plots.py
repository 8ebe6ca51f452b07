"""The report's figures as inline SVG that follows the page's light or dark theme.

matplotlib draws with stand-in colours; each is replaced by a CSS variable of the page, and text stays text, so that it
takes the page's font, can be searched, and is read out by screen readers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context, ticker
from matplotlib.figure import Figure

STAND_INS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--line)",
    "#010206": "var(--card)",
    "#010211": "var(--c1)",
    "#010212": "var(--c2)",
    "#010213": "var(--c3)",
    "#010214": "var(--c4)",
    "#010215": "var(--c5)",
    "#010216": "var(--c6)",
}
INK, MUTED, LINE, CARD, *SERIES = STAND_INS
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: int = 0
    markers: bool = False
    bound: float | None = None
    """Drawn as a dashed line in the same colour."""


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-interval figure; `low` and `high` are None where no interval is known."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: int = 0
    hollow: bool = False


def curves(lines: Sequence[Curve], *, x: str, y: str, alt: str) -> str:
    """Lines over training steps with a legend."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for line in lines:
            colour = SERIES[line.colour]
            marker: dict[str, Any] = (
                {"marker": "o", "markersize": 4.5, "markeredgecolor": CARD, "markeredgewidth": 0.8} if line.markers else {}
            )
            axes.plot(line.steps, line.values, color=colour, linewidth=1.9, label=line.label, **marker)
            if line.bound is not None:
                axes.axhline(line.bound, color=colour, linewidth=1.1, linestyle=(0, (4, 3)))
                place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points"}
                axes.annotate(f"uniform: {line.bound:g}", (0.995, line.bound), ha="right", va="bottom", fontsize=8.5, color=colour, **place)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=6))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda step, _: f"{step:,.0f}"))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=9, labelcolor=MUTED, handlelength=1.6)
        return _svg(figure, alt)


def dots(rows: Sequence[Dot], *, metric: str, alt: str) -> str:
    """One row per system: a dot with its interval, the value written beside it; hollow dots are figures of others."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.0, 0.55 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            colour = SERIES[row.colour]
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4, alpha=0.55, solid_capstyle="round")
            axes.plot(
                row.value,
                place,
                "o",
                markersize=7,
                markerfacecolor=CARD if row.hollow else colour,
                markeredgecolor=colour,
                markeredgewidth=1.6,
            )
            axes.annotate(
                f"{row.value:.3f}".replace("-", "−"), (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=INK
            )
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
        axes.tick_params(axis="x", labelsize=9)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=4))
        # most metrics have a meaning at 0 (chance); without it small differences look large
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -0.03 * max(high, 1e-9)), high)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_xlabel(metric, fontsize=9)
        return _svg(figure, alt)


def _svg(figure: Figure, alt: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, variable in STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # several figures share the page; only definitions are referred to by id
    svg = re.sub(r'font-family: [^;"]*', "font-family: inherit", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")  # inside HTML neither is needed
    svg = re.sub(r' (?:width|height)="[0-9.]+pt"', "", svg, count=2)  # the view box alone lets the page scale it
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{_attribute(alt)}" ', svg, count=1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
