"""README.md of a model folder: what it was made of, and what its held-out losses are."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pages.tables import Table

BITS = ("held-out data", "bits before", "bits after", "per", "letters", "documents")
"""Header of `bits_rows`."""


def write_readme(folder: Path, name: str, introduction: str, sections: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write README.md: front matter of the hub, a title, and sections (heading, lines)."""
    lines = ["---", "library_name: transformers", "tags: [llama-gene, dna, protein]", "---", f"# {name}", "", introduction]
    for heading, content in sections:
        lines += ["", f"## {heading}", "", *content]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    return Table(header, [[*map(str, row)] for row in rows], left=range(len(header))).markdown().splitlines()


def bits_rows(losses: dict[str, Any]) -> list[tuple[str, ...]]:
    """Held-out bits per letter before and after, of the content of losses.json."""
    return [
        (
            name,
            f"{losses['before'][name]['bits_per_letter']:.3f}",
            f"{value['bits_per_letter']:.3f}",
            value["unit"],
            f"{value['letters']:,}",
            f"{value['documents']:,}",
        )
        for name, value in losses["after"].items()
    ]


def as_yaml(text: str) -> list[str]:
    """A block of YAML."""
    return ["```yaml", text.rstrip(), "```"]
