"""One self-contained page about an extension: `extension_report.html`, beside extension_report.json.

The page loads nothing: styles and figures are inline, and it follows the reader's light or dark theme. It bears no date,
so that the same recipe gives the same folder; what is in it comes from the report and from the manifest beside it.
"""

import json
from pathlib import Path
from typing import Any

from artefacts.folder import MANIFEST, new_file
from pages.page import render_page, share

TEMPLATE = Path(__file__).with_name("page.html.jinja")

WAYS = {"ours": "this extension", "add_tokens": "add_tokens", "legacy_spm": "original merge"}
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NEVER_FINAL = {
    "tags": "each tag gives its one id",
    "pad": "a pad token of its own",
    "glue": "first bytes of private characters; no encoding ends on one, by design",
}


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page, replacing one that is there.

    Args:
        report: what `tokenizer.report.compare.compare` returned, with what `tokenizer.report.models` adds where a model was extended.
        path: the page; a manifest in its folder, written before, gives commit, seed and files.
    """
    manifest = path.parent / MANIFEST
    ways = [(name, title, report["ways"][name]) for name, title in WAYS.items() if name in report["ways"]]
    beside = ways[0][2] if ways else {}  # ours
    loss, rows = report.get("initial_loss"), report.get("rows")
    context = {
        "report": report,
        "sequences": {name: row for name, row in report["modalities"].items() if name != "text"},
        "ways": ways,
        "loss": loss,
        "losses_beside": "skipped" not in beside.get("initial_loss", {"skipped": "not asked for"}),
        "rows": rows,
        "rows_beside": "rows" in beside,
        "neighbourhoods": _neighbourhoods(rows, ways) if rows else [],
        "manifest": json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None,
        "never_final": NEVER_FINAL,
    }
    page = render_page(
        TEMPLATE,
        context,
        share=lambda value: share(value).replace(".0 %", " %"),
        three_digits=_three_digits,
        measured=lambda row: row.get("letters") or row.get("bytes", 0),
        cosine=lambda number: f"{number:.2f}".replace("-", "−"),
        upper_first=lambda text: text[:1].upper() + text[1:],
    )
    with new_file(path, overwrite=True) as file:
        file.write_text(page, encoding="utf-8")


def _neighbourhoods(rows: dict[str, Any], ways: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Way, matrix, and its neighbours: all of ours, which comes first, and every second piece of the other ways' input matrix."""
    own = [(WAYS["ours"], name, rows[name]["neighbours"]) for name in ("input", "output") if name in rows]
    others = [(title, way["rows"]["input"]["neighbours"][::2]) for _, title, way in ways[1:] if "input" in way.get("rows", {})]
    return own + [(title, "input", neighbours) for title, neighbours in others]


def _three_digits(value: float) -> str:
    """0.0107, and 6.33 × 10⁻⁷ for what is smaller; of a number above one three decimals."""
    if value >= 1:
        return f"{value:.3f}"
    shown, _, exponent = f"{value:.3g}".partition("e")
    return f"{shown} × 10{str(int(exponent)).translate(SUPERSCRIPT)}" if exponent else shown
