"""What an annotation says of stretches of a chromosome: GenBank's feature table, GFF3 and GTF, line by line.

A feature keeps its line, so that whatever is set aside later is named by file and line. Sources of the formats: the
INSDC feature table definition, section 3.4; GFF3 1.26; GTF2.2. Not supported: stretches of other entries
(`J00194.1:100..202`), which come with a `problem`; FASTA inside a GFF file, which is not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from artefacts.errors import UserError, at
from sequences.files import blocks, lines_of, with_head
from sequences.formats import FEATURE
from sequences.regions import Place
from sequences.tables import whole_number

QUALIFIER = re.compile(r'^ +/(\w+)(?:=(?:"([^"]*(?:""[^"]*)*)"|([^\n]*)))?', re.MULTILINE)
"""A quoted value is taken whole: its lines may begin with a slash."""
SPAN = re.compile(r"([<>]?)(\d+)(?:\.\.([<>]?)(\d+))?")
COLUMNS = 9
GTF = re.compile(r'(\w+) +(?:"([^"]*)"|([^;" ]+)) *(?:;|$)')


@dataclass(slots=True)
class Feature:
    """One feature: a stretch, or several that are joined."""

    kind: str
    """gene, mRNA, CDS, exon, ..."""
    line: int
    places: list[Place]
    """In the order of reading."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """What else is said of it, by name."""
    chromosome: str = ""
    frame: int = 0
    """Letters of a CDS that come before its first whole codon."""
    cut_off: tuple[bool, bool] = (False, False)
    """Whether its beginning and its end lie outside of what was sequenced."""
    problem: str = ""
    """Why it cannot be used."""

    def first(self, *names: str) -> str:
        """The first value of the first of these names that has one; empty where none has."""
        return next((self.values[name][0] for name in names if self.values.get(name)), "")


def genbank_features(table: bytes, line: int) -> Iterator[Feature]:
    """Features of an entry's table, which begins at a line of its file."""
    above, *features = FEATURE.split(table)
    line += above.count(b"\n")
    for raw in features:
        text = raw.decode("utf-8", "replace")
        found = list(QUALIFIER.finditer(text))
        kind, _, where = text[: found[0].start() if found else len(text)].partition(" ")
        feature = Feature(kind.strip(), line, [])
        for match in found:
            value = match[2].replace('""', '"') if match[2] is not None else match[3] or ""
            glue = "" if match[1] == "translation" else " "
            feature.values.setdefault(match[1], []).append(glue.join(value.split()))
        try:
            feature.places, feature.cut_off = _location("".join(where.split()))
            feature.frame = int(feature.first("codon_start") or 1) - 1
        except ValueError as problem:
            feature.problem = str(problem)
        yield feature
        line += raw.count(b"\n")


def _location(text: str) -> tuple[list[Place], tuple[bool, bool]]:
    """`complement(join(1..5,9..>12))` as places in the order of reading, and whether either end is cut off.

    Raises:
        ValueError: another entry, a place between two letters, or none at all.
    """
    name, _, inner = text.partition("(")
    if inner.endswith(")") and name in ("complement", "join", "order"):
        if name == "complement":
            places, cut_off = _location(inner[:-1])
            return [Place(*place[:2], not place.minus) for place in reversed(places)], (cut_off[1], cut_off[0])
        parts = [_location(part) for part in _split(inner[:-1])]
        return [place for places, _ in parts for place in places], (parts[0][1][0], parts[-1][1][1])
    if ":" in text:
        raise ValueError("lies in another entry")
    if (found := SPAN.fullmatch(text)) is None:
        raise ValueError("no place in the sequence")
    start, end = int(found[2]) - 1, int(found[4] or found[2])
    if not 0 <= start < end:
        raise ValueError("ends before it begins")
    return [Place(start, end)], (bool(found[1]), bool(found[3] if found[4] else found[1]))


def _split(text: str) -> list[str]:
    """The parts between the outer commas."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def gff_features(path: Path) -> Iterator[Feature]:
    """Features of a GFF3 or GTF file, one for each line; GTF's `gene_id` and `transcript_id` come as GFF3's ID and Parent.

    A line that is broken comes with a `problem`.

    Raises:
        UserError: missing or damaged file, or no annotation.
    """
    head, content = with_head(blocks(path))
    if head[:1] in (b">", b"{", b"<") or head.startswith((b"LOCUS", b"ID   ")):
        raise UserError(f"{at(path, 1)}: no GFF3 or GTF; give the file of features that belongs to the sequences")
    for line, raw in lines_of(content):
        if raw.startswith(b"##FASTA"):
            return
        text = raw.decode("utf-8", "replace").rstrip("\n")
        if text.strip() and not text.startswith("#"):
            yield _gff_feature(text.split("\t"), line)


def _gff_feature(cells: list[str], line: int) -> Feature:
    if len(cells) != COLUMNS:
        return Feature("", line, [], problem="not nine columns")
    name, _, kind, start, end, _, strand, frame, said = cells
    feature = Feature(kind, line, [], chromosome=unquote(name))
    begin, last = whole_number(start), whole_number(end)
    if begin is None or last is None or not 0 < begin <= last:
        feature.problem = "start or end is no place"
        return feature
    if strand not in ("+", "-", ".", "?"):
        feature.problem = "strand is none of + - . ?"
        return feature
    feature.places = [Place(begin - 1, last, strand == "-")]
    feature.frame = int(frame) if frame in ("1", "2") else 0
    if GTF.match(said):
        for found in GTF.finditer(said):
            feature.values.setdefault(found[1], []).append(found[2] if found[2] is not None else found[3])
        gene, transcript = feature.first("gene_id"), feature.first("transcript_id")
        own, parent = (gene, "") if kind == "gene" else (transcript, gene) if kind == "transcript" else ("", transcript)
        feature.values |= {"ID": [own] if own else [], "Parent": [parent] if parent else []}
    else:
        for pair in said.split(";"):
            key, _, value = pair.strip().partition("=")
            if value:
                feature.values[key] = [part for cell in value.split(",") if (part := unquote(cell).strip())]
    if strand not in ("+", "-") and kind in ("gene", "CDS", "mRNA", "exon"):
        feature.problem = "no strand"
    return feature
