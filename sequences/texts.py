"""Readers of text: plain, JSON lines, markdown, plain or gz, by their names; whole, by section or by paragraph.

- `.txt`: documents stand between blank lines; each is one paragraph, so there is nothing more to split.
- `.jsonl`, as of PMC or S2ORC: one document per line with `text`, or else with `title`, `abstract` and sections
  (`sections` or `body_text`: a list of {heading or section, text}, or a dict heading -> text), put together as markdown;
  S2ORC nests them below `content` or `pdf_parse`, which is read too. `license` or `licence` is counted in `ledger.notes`.
- `.md`, `.markdown`: one document per file; YAML front matter and HTML comments dropped, headings and code kept.

Not supported: HTML, PDF, LaTeX, JATS XML; headings underlined with = or - do not start a section.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from artefacts.errors import Ledger, UserError, at
from sequences.files import blocks, numbered_lines
from sequences.json_lines import json_objects
from sequences.markdown import Unit, markdown_text, split

NESTED = ("content", "source", "oainfo", "openaccessinfo", "pdf_parse", "latex_parse")
LONGEST_LICENCE = 80
"""Characters of a licence's name that are counted; where a whole licence is given, its beginning."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text document."""

    id: str
    text: str
    line: int
    """1-based line where it starts."""


def read_texts(path: str | Path, ledger: Ledger, unit: Unit = "document") -> Iterator[Text]:
    """Text documents of one file, or their sections or paragraphs with ids `<id>/<number>`.

    `ledger` counts documents, not their parts. A malformed, empty or undecodable document is set aside with file:line.

    Raises:
        UserError: missing or damaged file, another suffix, not one usable document in it, or more broken ones than the ledger
            allows.
    """
    name = str(path).lower().removesuffix(".gz")
    reader = next((reader for suffix, reader in READERS.items() if name.endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{path}: text is read from .txt, .jsonl or .md files (also .gz); convert this one")
    mark = ledger.mark()
    for found in reader(path, ledger):
        # a paragraph of a .txt file has no parts
        parts = [found.text] if reader is _paragraphs or not found.text.strip() else list(split(found.text, unit))
        if not any(part.strip() for part in parts):
            ledger.reject("empty text", at(path, found.line))
            continue
        ledger.written += 1
        for number, part in enumerate(parts, 1):
            yield Text(found.id if unit == "document" or reader is _paragraphs else f"{found.id}/{number}", part, found.line)
    ledger.close(path, mark, "text document", hint="Mend the file or remove it from the recipe")


def _paragraphs(path: str | Path, ledger: Ledger) -> Iterator[Text]:
    start, lines = 0, list[bytes]()
    for number, line in chain(numbered_lines(path), [(0, b"")]):
        if line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            ledger.read += 1
            try:
                yield Text(f"line{start}", b"".join(lines).decode("utf-8").strip("\n"), start)
            except UnicodeDecodeError:
                ledger.reject("not UTF-8", at(path, start))
            lines = []


def _page(path: str | Path, ledger: Ledger) -> Iterator[Text]:
    content = b"".join(blocks(path))
    ledger.read += 1
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        ledger.reject("not UTF-8", at(path, content.count(b"\n", 0, error.start) + 1))
        return
    yield Text(Path(path).name, markdown_text(text), 1)


def _articles(path: str | Path, ledger: Ledger) -> Iterator[Text]:
    for number, record in json_objects(path):
        ledger.read += 1
        if isinstance(record, str):
            ledger.reject(record, at(path, number))
            continue
        record = _flattened(record)
        text = record["text"] if isinstance(record.get("text"), str) else _put_together(record)
        identity = str(
            next((record[key] for key in ("id", "pmcid", "paper_id", "corpusid") if record.get(key) not in (None, "")), f"line{number}")
        )
        licence = next((value for key in ("license", "licence") if isinstance(value := record.get(key), str) and value.strip()), None)
        if text is None:
            ledger.reject("no 'text' field and no sections", at(path, number))
        else:
            if text.strip():
                ledger.notes[f"licence {' '.join(licence.split())[:LONGEST_LICENCE]}" if licence else "licence not stated"] += 1
            yield Text(identity, text, number)


def _flattened(record: dict[str, Any]) -> dict[str, Any]:
    """S2ORC's other forms as its flat one: what stands below any of NESTED joins the record, where it has no such field itself."""
    for key in NESTED:
        if isinstance(below := record.get(key), dict):
            record = {**below, **{name: value for name, value in record.items() if value not in (None, "", [])}}
    return record


def _put_together(record: dict[str, Any]) -> str | None:
    """Markdown of title, abstract and sections; None without abstract and sections."""
    parts = [("", text) for text in _strings(record.get("abstract"))]
    sections = record.get("sections", record.get("body_text"))
    if isinstance(sections, dict):
        parts += [(heading, "\n\n".join(_strings(text))) for heading, text in sections.items()]
    else:
        parts += list(_sections(sections))
    if not parts:
        return None
    title = record.get("title")
    lines = [f"# {_line(title)}"] if isinstance(title, str) and title.strip() else []
    above = ""
    for heading, text in parts:
        if heading.strip() and heading != above:  # S2ORC repeats the heading with each paragraph
            lines.append(f"## {_line(heading)}")
        above = heading
        if text.strip():
            lines.append(text.strip())
    return "\n\n".join(lines)


def _sections(sections: Any) -> Iterator[tuple[str, str]]:
    for section in sections if isinstance(sections, list) else []:
        if isinstance(section, str):
            yield "", section
        elif isinstance(section, dict):
            heading = next((value for key in ("heading", "section", "title") if isinstance(value := section.get(key), str)), "")
            for text in _strings(section.get("text", section.get("paragraphs"))) or [""]:
                yield heading, text


def _strings(value: Any) -> list[str]:
    """A text, a list of texts, or a list of {text}, as texts."""
    found = [item.get("text") if isinstance(item, dict) else item for item in (value if isinstance(value, list) else [value])]
    return [item for item in found if isinstance(item, str)]


def _line(text: str) -> str:
    return " ".join(text.split())


READERS = {".txt": _paragraphs, ".jsonl": _articles, ".md": _page, ".markdown": _page}
