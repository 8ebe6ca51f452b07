"""UniProt's TSV, as its website and REST service hand it out: one row per entry, columns by the header row.

Names are cut where the first synonym in parentheses begins; a name that itself ends in ` (...)` loses that part.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

from artefacts.errors import UserError, at
from sequences.tables import Table
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


OLD_NAMES = {
    "organism (id)": "organism id",
    "reviewed": "status",
    "pfam": "cross-reference (pfam)",
    "interpro": "cross-reference (interpro)",
}
"""Names of columns before 2022, where they differ in more than case."""
COLUMNS = {
    "function": "Function [CC]",
    "go_process": "Gene Ontology (biological process)",
    "go_function": "Gene Ontology (molecular function)",
    "go_component": "Gene Ontology (cellular component)",
    "ec": "EC number",
    "locations": "Subcellular location [CC]",
    "keywords": "Keywords",
    "families": "Protein families",
    "domains": "Pfam",
}
"""What can be asked of an entry, by a card too -> the column that answers it; all but function are sets."""


def tsv_entries(table: Table, needed: str | None = None) -> Iterator[Entry | Broken]:
    """Entries of a TSV file; columns that are absent leave their fields empty, but for those that `needed` asks for.

    Raises:
        UserError: no column Entry, Sequence or of what is needed, or a column twice.
    """
    folded = [name.casefold() for name in table.names]
    table.check_once(folded, folded)
    places = {name: place for place, name in enumerate(folded)}
    for name in ("Entry", "Sequence", *filter(None, [COLUMNS.get(needed or "")])):
        if _place(places, name) is None:
            old = OLD_NAMES.get(name.casefold())
            raise UserError(
                f"{at(table.path, table.header_line)}: no column '{name}'{f', called {old!r} before 2022' if old else ''}; columns found: "
                f"{', '.join(table.names)[:200]}. Download the file again from UniProt with it"
            )
    for row in table:
        if row.problem:
            yield Broken(row.line, row.problem)
        else:
            yield _entry(partial(_cell, places, row.cells), row.line)


def _place(places: dict[str, int], name: str) -> int | None:
    return places.get(name.casefold(), places.get(OLD_NAMES.get(name.casefold(), "")))


def _cell(places: dict[str, int], cells: list[str], name: str) -> str:
    place = _place(places, name)
    return cells[place] if place is not None else ""


def _entry(cell: Callable[[str], str], line: int) -> Entry:
    taxon, length = cell("Organism (ID)"), cell("Length")
    go = [GoTerm(term[2], term[1].strip(), aspect) for column, aspect in GO_COLUMNS.items() for term in _go(cell(column))]
    functions = _comments(FUNCTION, cell("Function [CC]"))
    with_aspect = {term.id for term in go if term.aspect}
    return Entry(
        accession=cell("Entry"),
        entry_name=cell("Entry Name"),
        name=main_name(cell("Protein names")),
        genes=unique(cell("Gene Names").replace("; ", " ").split()),
        organism=cell("Organism"),
        taxonomy=int(taxon[:18]) if taxon.isascii() and taxon.isdigit() else None,
        sequence=cell("Sequence"),
        functions=tuple(function(text) for text in functions),
        go=tuple(term for term in go if term.aspect or term.id not in with_aspect),
        ec=unique(cell("EC number").split(";")),
        locations=unique(place for text in _comments(LOCATION, cell("Subcellular location [CC]")) for place in locations(text)),
        keywords=unique(cell("Keywords").split(";")),
        reviewed={"reviewed": True, "unreviewed": False}.get(cell("Reviewed")),
        line=line,
        length=int(length[:18]) if length.isascii() and length.isdigit() else None,
        references=literature(functions),
        families=unique(cell("Protein families").split(", ")),
        domains=unique(cell("Pfam").split(";")),
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
