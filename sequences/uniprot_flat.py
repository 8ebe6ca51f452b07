"""UniProt's flat file (`uniprot_sprot.dat`): entries from ID to //, two-letter line codes.

One dictionary look-up per line, and work only on the lines that are kept: a few times as fast as Biopython.
Not supported: releases before 2008, whose DE and GN lines were prose (their names come out as they stand, without genes).
"""

import re
from collections.abc import Iterable, Iterator

from artefacts.recipe import SURROGATE
from sequences.uniprot_entry import Broken, Entry, GoTerm, clean, families, function, join_lines, literature, locations, unique

ID = re.compile(r"ID   (\S+) +(\w+);.* (\d+) AA\.?\s*$")
LENGTH = re.compile(r"SQ   SEQUENCE +(\d+) AA;")
TAXON = re.compile(r"NCBI_TaxID=(\d+)")
NAME = re.compile(r"(RecName|SubName): Full=(.*?);?\s*$", re.M)
FULL = re.compile(r"Full=(.*?);?\s*$", re.M)
SEPARATOR = re.compile(r";(?: |$)")
EC = re.compile(r"EC=([^;\s]+)")
GO = re.compile(r"\nDR   GO; (GO:\d+); ([PFC]):(.*); [^;\n]*")
PFAM = re.compile(r"\nDR   Pfam; PF\d+; ([^;\n]+);")
CODES = ("AC   ", "DE   ", "GN   ", "OS   ", "OX   ", "CC   ", "DR   ", "KW   ", "SQ   ", "     ")
BOUNDARIES = frozenset(["ID   ", "//", "// ", "//  ", "//   "])
MAX_LINES = 1_000_000
"""An entry with more kept lines is none: the largest ones have some ten thousand."""


def flat_entries(blocks: Iterable[bytes]) -> Iterator[Entry | Broken]:
    """Entries of a flat file. `blocks` end at line ends."""
    kept: dict[str, list[str]] = {code: [] for code in CODES}
    head, start, outside, done = "", 0, False, 0  # ID line; its number, or that of the last //; lines outside; lines read
    valid = True  # UTF-8, in the blocks that hold the entry
    for block in blocks:
        if sum(map(len, kept.values())) > MAX_LINES:
            yield Broken(start, f"no // within {MAX_LINES} lines")
            head, kept = "", {code: [] for code in CODES}
        lines, block_is_valid = _lines(block)
        valid = valid and block_is_valid
        for number, line in enumerate(lines, done + 1):
            code = line[:5]
            if code in kept:
                kept[code].append(line)
            elif code in BOUNDARIES:
                if head and code == "ID   ":
                    yield Broken(start, "no // at the end of the entry")
                elif head and not valid and any(SURROGATE.search(line) for lines in kept.values() for line in [head, *lines]):
                    yield Broken(start, "not UTF-8")
                elif head:
                    yield _entry(head, kept, start)
                elif outside or any(kept.values()):
                    yield Broken(start + 1, "lines outside an entry")
                kept = {code: [] for code in CODES}
                head, start, outside, valid = line if code == "ID   " else "", number, False, block_is_valid
            elif not head and line.strip():
                outside = True
        done += len(lines)
    if head or outside or any(kept.values()):
        yield Broken(start, "no // at the end of the entry") if head else Broken(start + 1, "lines outside an entry")


def _lines(block: bytes) -> tuple[list[str], bool]:
    """Lines, and whether all of them are UTF-8; bytes that are not become surrogates."""
    try:
        text, valid = block.decode("utf-8"), True
    except UnicodeDecodeError:
        text, valid = block.decode("utf-8", "surrogateescape"), False
    lines = text.replace("\r\n", "\n").split("\n")
    return (lines[:-1] if not lines[-1] else lines), valid


def _entry(head: str, kept: dict[str, list[str]], line: int) -> Entry | Broken:
    found = ID.match(head)
    if found is None:
        return Broken(line, "ID line without name, status and length in AA")
    accession = kept["AC   "][0][5:].partition(";")[0].strip() if kept["AC   "] else ""
    lengths = [LENGTH.match(heading) for heading in kept["SQ   "]]
    if len(lengths) != 1 or lengths[0] is None:
        return Broken(line, "no SQ line with the sequence's length, or several")
    if lengths[0][1] != found[3]:
        return Broken(line, "ID and SQ line differ in the sequence's length")
    name, numbers = _names(kept["DE   "])
    functions, places, kin = _comments(kept["CC   "])
    taxon = TAXON.search("".join(kept["OX   "]))
    references = "\n".join(["", *kept["DR   "]])
    return Entry(
        accession=accession,
        entry_name=found[1],
        name=name,
        genes=_genes(kept["GN   "]),
        organism=join_lines(text[5:] for text in kept["OS   "]).removesuffix("."),
        taxonomy=int(taxon[1][:18]) if taxon else None,
        sequence="".join("".join(kept["     "]).split()),
        functions=tuple(function(text) for text in functions),
        go=tuple(GoTerm(number, name, aspect) for number, aspect, name in GO.findall(references)),
        ec=numbers,
        locations=places,
        keywords=unique(clean(join_lines(text[5:] for text in kept["KW   "]))[0].removesuffix(".").split(";")),
        reviewed=found[2] in ("Reviewed", "STANDARD"),
        line=line,
        length=int(found[3][:18]),
        references=literature(functions),
        families=kin,
        domains=unique(PFAM.findall(references)),
    )


def _names(lines: list[str]) -> tuple[str, tuple[str, ...]]:
    """Recommended or first submitted name of the protein itself, not of its chains; all EC numbers."""
    text = "\n".join(line[5:] for line in lines)
    if first := NAME.search(text):
        name = first[2]
    else:
        found = FULL.search(text)
        name = found[1] if found else join_lines(text.split("\n")).removesuffix(".")
    return clean(name)[0], unique(clean(number)[0] for number in EC.findall(text))


def _genes(lines: list[str]) -> tuple[str, ...]:
    text = clean(join_lines(line[5:] for line in lines))[0] if lines else ""
    return unique(name for names in SEPARATOR.split(text) for name in names.rpartition("=")[2].split(", ") if "=" in names)


def _comments(lines: list[str]) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Raw FUNCTION comments, locations, families."""
    comments: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        if line.startswith("CC   -!- "):
            topic, _, text = line[9:].partition(":")
            comments.append((topic, [text]))
        elif line.startswith("CC       "):
            comments[-1][1].append(line[9:])
        else:  # the dashes around the licence, and the licence
            comments.append(("", []))
    functions, places, kin = (
        [join_lines(texts) for topic, texts in comments if topic == wanted] for wanted in ("FUNCTION", "SUBCELLULAR LOCATION", "SIMILARITY")
    )
    return functions, unique(place for text in places for place in locations(text)), unique(name for text in kin for name in families(text))
