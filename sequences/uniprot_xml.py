"""UniProt's XML, one entry at a time.

Expat is driven by hand: it names lines, and a document type, the only way to entities that expand, is refused as it begins.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from artefacts.errors import UserError, at
from sequences.uniprot_entry import Broken, Entry, Function, GoTerm, clean, families, function, literature, unique


def xml_entries(blocks: Iterable[bytes], path: str | Path) -> Iterator[Entry | Broken]:
    """Entries of an XML file, as `<entry>` elements at any depth.

    Raises:
        UserError: not well formed (a file cut short is not), or with a document type.
    """
    parser = expat.ParserCreate()
    entries = _Entries(parser)

    def refuse(*_: object) -> None:
        raise UserError(
            f"{at(path, parser.CurrentLineNumber)}: has a document type (DTD), which UniProt's XML has not and which may "
            "hide a bomb of entities; fetch the file again from UniProt"
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    for block in chain(blocks, [b""]):
        _feed(parser, block, not block, path)
        yield from entries.take()


def _feed(parser: expat.XMLParserType, block: bytes, last: bool, path: str | Path) -> None:
    try:
        parser.Parse(block, last)
    except UserError:
        raise
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, str(error))
        raise UserError(f"{at(path, error.lineno)}: not well-formed XML ({reason}); fetch the file again") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know, or not letter by letter
        raise UserError(f"{at(path, 1)}: XML in an encoding that cannot be read ({error}); convert it to UTF-8") from None


class _Entries:
    """Builds the tree of one entry after the other."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self._parser = parser
        self._builder = TreeBuilder()
        self._depth = 0
        """Elements open inside the entry, itself included; 0 outside."""
        self._line = 0
        self._done: list[tuple[int, Element]] = []
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def take(self) -> Iterator[Entry | Broken]:
        done, self._done = self._done, []
        return (_entry(element, line) for line, element in done)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if self._depth or tag == "entry":
            if not self._depth:
                self._builder, self._line = TreeBuilder(), self._parser.CurrentLineNumber
            self._depth += 1
            self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        if self._depth:
            self._depth -= 1
            self._builder.end(tag.rpartition(":")[2])
            if not self._depth:
                self._done.append((self._line, self._builder.close()))

    def _text(self, text: str) -> None:
        if self._depth:
            self._builder.data(text)


def _entry(element: Element, line: int) -> Entry | Broken:
    sequence = element.find("sequence")
    if sequence is None:
        return Broken(line, "no <sequence>")
    length = sequence.get("length", "")
    protein = element.find("protein")
    organism = element.find("organism")
    evidence = {item.get("key", ""): item.get("type", "") for item in element.iterfind("evidence")}
    functions = list(element.iterfind("comment[@type='function']"))
    kin = (text.text or "" for text in element.iterfind("comment[@type='similarity']/text"))
    dataset = element.get("dataset")
    taxon = _text(organism, "dbReference[@type='NCBI Taxonomy']", "id")
    return Entry(
        accession=_text(element, "accession"),
        entry_name=_text(element, "name"),
        name=next(
            (name for kind in ("recommendedName", "submittedName", "alternativeName") if (name := _text(protein, f"{kind}/fullName"))), ""
        ),
        genes=unique(name.text or "" for name in element.iterfind("gene/name")),
        organism=_organism(organism),
        taxonomy=int(taxon[:18]) if taxon.isascii() and taxon.isdigit() else None,
        sequence="".join((sequence.text or "").split()),
        functions=tuple(_function(comment, evidence) for comment in functions),
        go=tuple(_go(reference) for reference in element.iterfind("dbReference[@type='GO']")),
        ec=_ec(element, protein),
        locations=unique(place for comment in element.iterfind("comment[@type='subcellular location']") for place in _locations(comment)),
        keywords=unique(keyword.text or "" for keyword in element.iterfind("keyword")),
        reviewed=None if dataset is None else dataset == "Swiss-Prot",
        line=line,
        length=int(length[:18]) if length.isascii() and length.isdigit() else None,
        references=_literature(functions, element),
        families=unique(family for text in kin for family in families(text)),
        domains=unique(_text(pfam, "property[@type='entry name']", "value") for pfam in element.iterfind("dbReference[@type='Pfam']")),
    )


def _text(element: Element | None, path: str, attribute: str | None = None) -> str:
    found = element.find(path) if element is not None else None
    if found is None:
        return ""
    return " ".join((found.get(attribute, "") if attribute else found.text or "").split())


def _organism(element: Element | None) -> str:
    """As in the flat file: the scientific name, others in parentheses."""
    names = [" ".join((name.text or "").split()) for name in (element.iterfind("name") if element is not None else ())]
    return " ".join([*names[:1], *(f"({name})" for name in names[1:])])


def _molecule(comment: Element) -> str:
    molecule = _text(comment, "molecule")
    return f"[{molecule}]: " if molecule else ""


def _function(comment: Element, evidence: dict[str, str]) -> Function:
    texts = list(comment.iterfind("text"))
    keys = {key for text in texts for key in text.get("evidence", "").split()}
    return function(_molecule(comment) + " ".join(text.text or "" for text in texts), {evidence[key] for key in keys if key in evidence})


def _ec(element: Element, protein: Element | None) -> tuple[str, ...]:
    """`<ecNumber>`, or before 2011 references that the names point to."""
    parts = list(protein.iter()) if protein is not None else []
    keys = {key for part in parts for key in part.get("ref", "").split()}
    older = [item.get("id", "") for item in element.iterfind("dbReference[@type='EC']") if item.get("key") in keys]
    return unique([*(part.text or "" for part in parts if part.tag == "ecNumber"), *older])


def _literature(comments: list[Element], entry: Element) -> tuple[str, ...]:
    """PubMed marks in the texts, and of the evidence that they point to."""
    cited = {item.get("key", ""): _text(item, "source/dbReference[@type='PubMed']", "id") for item in entry.iterfind("evidence")}
    texts = [text for comment in comments for text in comment.iterfind("text")]
    pointed = (cited.get(key, "") for text in texts for key in text.get("evidence", "").split())
    return unique([*literature(text.text or "" for text in texts), *(f"PubMed:{number}" for number in pointed if number)])


def _go(reference: Element) -> GoTerm:
    term = next((item.get("value", "") for item in reference.iterfind("property") if item.get("type") == "term"), "")
    aspect, name = (term[0], term[2:]) if term[:2] in ("P:", "F:", "C:") else ("", term)
    return GoTerm(reference.get("id", ""), name, aspect)


def _locations(comment: Element) -> Iterator[str]:
    molecule = _molecule(comment)
    for place in comment.iterfind("subcellularLocation"):
        parts = [_levels(place, kind) for kind in ("location", "topology", "orientation")]
        if any(parts):
            yield molecule + "; ".join(part for part in parts if part)


def _levels(place: Element, kind: str) -> str:
    """`Cytoplasm, cytosol`, as in the flat file; XML has an element per level, each with a capital letter."""
    first, *rest = [clean(part.text or "")[0] for part in place.iterfind(kind)] or [""]
    return ", ".join(
        [first, *(name if not name[1:2].islower() or name.startswith("Golgi") else name[0].lower() + name[1:] for name in rest)]
    )
