"""Self-contained pages: one file that loads nothing, its styles and figures inside, light or dark as the reader's screen is.

A room's page is a template beside its code that extends `base.html.jinja` of this folder; all text is escaped unless it is Markup.
"""

import re
from pathlib import Path
from typing import Any

MODALITIES = {"dna": "DNA", "protein": "protein", "text": "text"}


def render_page(template: Path, context: dict[str, Any], **filters: Any) -> str:
    """The page that a template gives. A name that the context lacks is an error.

    Args:
        filters: further ones, beside count (`1,234`), share, decimal (three of them), signed and minus (a typographic one).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=lambda number: f"{number:,}", share=share, decimal=decimal, signed=lambda number: decimal(number, "+"))
    environment.filters["minus"] = lambda text: re.sub(r"(?<!\w)-(?=\d)", "−", text)
    environment.filters.update(filters)
    return environment.get_template(template.name).render(names=MODALITIES, **context)


def decimal(number: float, sign: str = "") -> str:
    """Three decimals with a typographic minus."""
    return f"{number:{sign}.3f}".replace("-", "−")


def share(part: float | None, whole: float = 1) -> str:
    """Per cent, a dash for none; what only rounds to none or to all does not read as such."""
    if part is None or not whole:
        return "–"
    shown = f"{100 * part / whole:.1f}"
    if shown == "0.0" and part:
        return "< 0.1 %"
    if shown == "100.0" and part < whole:
        return "> 99.9 %"
    return f"{shown} %"
