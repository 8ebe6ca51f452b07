"""What is kept of a UniProt entry, and the cleaning that flat file, XML and TSV share.

Comment text: evidence codes `{ECO:...}` are taken out (and kept beside the text), references `(PubMed:1)` and `(Ref.2)`
are dropped, since a model could only invent their numbers. `(By similarity)`, `(Probable)`, `(Microbial infection)` and
`[Isoform 2]:` say how far a sentence holds and stay. Source of the formats: UniProtKB user manual, sections CC, DE, DR.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

EVIDENCE = re.compile(r" \{(ECO:[^{}]*)\}\.?")
ECO = re.compile(r"ECO:\d+")
REFERENCE = re.compile(r" \((?:PubMed:\d+|Ref\.\d+)(?:[,;] ?(?:PubMed:\d+|Ref\.\d+))*\)")
SUSPENDED = re.compile(r"(?:and|and/or|or|nor|to|as|but|plus|versus)(?![\w/-])")
"""Words below a line that ends in a hyphen which show that a blank was lost there: `long- and short-chain`."""
LITERATURE = re.compile(r"PubMed:\d+")
QUALIFIER = re.compile(r" \((?:Potential|Probable|By similarity)\)")
"""How sure a location is, in releases before 2013; XML never said it in the text."""
NOTE = re.compile(r"(?:^|(?<= ))Note=")
LOCATION = re.compile(r"\.(?: |$)")


class GoTerm(NamedTuple):
    """One term of the Gene Ontology."""

    id: str
    """GO:0001772"""
    name: str
    aspect: str
    """P (process), F (function), C (component); empty where the file does not say."""


class Function(NamedTuple):
    """One FUNCTION comment; an entry may have several, of isoforms, chains, or a microbial infection."""

    text: str
    evidence: tuple[str, ...]
    """Evidence codes, sorted: ECO:0000269 is experimental, 0000250 by similarity, 0000305 inferred by a curator."""


@dataclass(slots=True)
class Entry:
    """One protein."""

    accession: str
    """The primary one."""
    entry_name: str
    """GRAA_HUMAN; empty where the file does not say."""
    name: str
    """Recommended, or else first submitted, full name."""
    genes: tuple[str, ...]
    """Primary names, synonyms, ordered loci and reading frames, as listed."""
    organism: str
    """Scientific name, then other names in parentheses."""
    taxonomy: int | None
    """NCBI taxonomy id."""
    sequence: str
    functions: tuple[Function, ...]
    go: tuple[GoTerm, ...]
    ec: tuple[str, ...]
    locations: tuple[str, ...]
    """`Cell membrane; Multi-pass membrane protein`; of an isoform or chain: `[Isoform 2]: Nucleus`. Notes are left out."""
    keywords: tuple[str, ...]
    reviewed: bool | None
    """True for Swiss-Prot, False for TrEMBL, None where the file does not say."""
    line: int
    """1-based line where the entry starts."""
    length: int | None
    """Residues the entry claims to have."""
    references: tuple[str, ...] = ()
    """`PubMed:1`, as cited by the FUNCTION comments, which have lost them."""
    families: tuple[str, ...] = ()
    """Of SIMILARITY comments, from the widest down: `peptidase S1 family`, `Granzyme subfamily`."""
    domains: tuple[str, ...] = ()
    """Names of Pfam's families; in TSV, which has no names, their ids."""

    @property
    def function(self) -> str:
        """All FUNCTION comments, one per line; empty without any."""
        return "\n".join(function.text for function in self.functions)


@dataclass(slots=True)
class Broken:
    """An entry that cannot be used."""

    line: int
    reason: str


def join_lines(lines: Iterable[str]) -> str:
    """Undo UniProt's wrapping, which breaks at blanks, and behind `-` and `/` where no blank is lost.

    A hyphen that ends a line has lost a blank only if it stands alone (`complex - the`) or is suspended (`long- and`).
    """
    text = ""
    for line in lines:
        line = line.strip()
        whole = text[-1:] in ("-", "/") and text[-2:-1] not in ("", " ") and not (text[-1] == "-" and SUSPENDED.match(line))
        text += line if whole or not text else f" {line}"
    return text


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """A comment's text as the module says, and its evidence codes."""
    if "{" not in text and "(" not in text:
        return " ".join(text.split()), ()
    # The patterns begin with a blank and a bracket, which is found several times as fast as an optional blank.
    text = " ".join(["", *text.replace("{ECO:", " {ECO:").replace("(PubMed:", " (PubMed:").split()])
    codes: set[str] = set()

    def found(match: re.Match[str]) -> str:
        codes.update(ECO.findall(match[1]))
        return "." if match[0].endswith(".") and match.string[match.start() - 1] != "." else ""

    if " {ECO:" in text:
        text = EVIDENCE.sub(found, text)
    return REFERENCE.sub("", text).strip(), tuple(sorted(codes))


def function(text: str, evidence: Iterable[str] = ()) -> Function:
    text, codes = clean(text)
    return Function(text, tuple(sorted({*codes, *evidence})))


def literature(texts: Iterable[str]) -> tuple[str, ...]:
    """The references in raw comments, each once, in order."""
    return unique(mark for text in texts for mark in LITERATURE.findall(text))


def families(text: str) -> list[str]:
    """Families of one SIMILARITY comment: `Belongs to the peptidase S1 family. Granzyme subfamily.`"""
    text, _ = clean(text)
    belongs = text.strip().removesuffix(".").partition("Belongs to the ")[2]
    return [part.strip() for part in belongs.split(". ") if part.strip()]


def locations(text: str) -> list[str]:
    """Locations of one SUBCELLULAR LOCATION comment of flat file or TSV."""
    text = QUALIFIER.sub("", clean(text)[0])
    molecule = ""
    if text.startswith("[") and (end := text.find("]: ")) > 0:
        molecule, text = text[: end + 3], text[end + 3 :]
    text = NOTE.split(text, maxsplit=1)[0]
    return [f"{molecule}{place.strip()}" for place in LOCATION.split(text) if place.strip()]


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Without blanks around and repetitions, in order."""
    return tuple(dict.fromkeys(stripped for item in items if (stripped := item.strip())))
