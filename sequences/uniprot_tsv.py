"""UniProt's TSV, as its website and REST service hand it out: one row per entry, columns by the header row.

Names are cut where the first synonym in parentheses begins; a name that itself ends in ` (...)` loses that part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from artefacts.errors import UserError, at
from sequences.formats import Line
from sequences.uniprot_entry import Broken, Entry, GoTerm, function, literature, locations, unique

FUNCTION = re.compile(r"(?:^|; )FUNCTION: ")
LOCATION = re.compile(r"(?:^|; )SUBCELLULAR LOCATION: ")
GO = re.compile(r"(.*) \[(GO:\d+)\]")
GO_COLUMNS = {
    "Gene Ontology (GO)": "",
    "Gene Ontology (biological process)": "P",
    "Gene Ontology (cellular component)": "C",
    "Gene Ontology (molecular function)": "F",
}


def tsv_entries(lines: Iterator[Line], path: str | Path) -> Iterator[Entry | Broken]:
    """Entries of a TSV file; columns that are absent leave their fields empty.

    Raises:
        UserError: no header row with the columns Entry and Sequence, or a column twice.
    """
    number, header = next(((number, line) for number, line in lines if line.strip()), (1, b""))
    columns = header.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    if not {"Entry", "Sequence"} <= set(columns) or len(set(columns)) < len(columns):
        raise UserError(
            f"{at(path, number)}: a UniProt TSV has one column Entry and one column Sequence among its columns; found "
            f"{', '.join(columns)[:200]}. Download it again with both"
        )
    for number, line in lines:
        if not line.strip():
            continue
        try:
            fields = line.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            yield Broken(number, "not UTF-8")
            continue
        if len(fields) != len(columns):
            yield Broken(number, "more or fewer fields than the header has")
        else:
            yield _entry(dict(zip(columns, fields, strict=True)), number)


def _entry(row: dict[str, str], line: int) -> Entry | Broken:
    taxon, length = row.get("Organism (ID)", ""), row.get("Length", "")
    go = [GoTerm(term[2], term[1].strip(), aspect) for column, aspect in GO_COLUMNS.items() for term in _go(row.get(column, ""))]
    functions = _comments(FUNCTION, row.get("Function [CC]", ""))
    with_aspect = {term.id for term in go if term.aspect}
    return Entry(
        accession=row["Entry"].strip(),
        entry_name=row.get("Entry Name", "").strip(),
        name=main_name(row.get("Protein names", "")),
        genes=unique(row.get("Gene Names", "").replace("; ", " ").split()),
        organism=row.get("Organism", "").strip(),
        taxonomy=int(taxon[:18]) if taxon.isascii() and taxon.isdigit() else None,
        sequence=row["Sequence"].strip(),
        functions=tuple(function(text) for text in functions),
        go=tuple(term for term in go if term.aspect or term.id not in with_aspect),
        ec=unique(row.get("EC number", "").split(";")),
        locations=unique(place for text in _comments(LOCATION, row.get("Subcellular location [CC]", "")) for place in locations(text)),
        keywords=unique(row.get("Keywords", "").split(";")),
        reviewed={"reviewed": True, "unreviewed": False}.get(row.get("Reviewed", "").strip()),
        line=line,
        length=int(length[:18]) if length.isascii() and length.isdigit() else None,
        references=literature(functions),
        families=unique(row.get("Protein families", "").split(", ")),
        domains=unique(row.get("Pfam", "").split(";")),
    )


def _go(text: str) -> Iterator[re.Match[str]]:
    """Terms of `name [GO:1]; name; with semicolon [GO:2]`."""
    name = list[str]()
    for part in text.split("; "):
        name.append(part)
        if part.endswith("]") and (found := GO.fullmatch("; ".join(name))):
            yield found
            name = []


def _comments(topic: re.Pattern[str], text: str) -> list[str]:
    return [part for part in topic.split(text) if part.strip()]


def main_name(names: str) -> str:
    """`Name` of `Name (Synonym) (EC 1.2.3.4) [Cleaved into: ...]`: what stands before the brackets that end the text."""
    names = names.strip()
    while names.endswith((")", "]")):
        depth = 0
        for place in range(len(names) - 1, -1, -1):
            depth += (names[place] in ")]") - (names[place] in "([")
            if depth == 0:
                break
        if depth or place == 0 or names[place - 1] != " ":
            break
        names = names[:place].rstrip()
    return names
