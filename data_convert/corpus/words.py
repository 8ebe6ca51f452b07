"""Words beside sequences: what a sequence is, before it, and documents in which words, DNA and protein stand together.

The wording is configs/text/words.yaml; which one a document gets follows from the seed and the document.
"""

import hashlib
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml

from artefacts.errors import Ledger, UserError, at, ensure
from configs import CONFIGS
from data_convert.corpus.pack_recipe import Source
from data_convert.corpus.regions import cut_regions
from sequences.alphabets import PROTEIN, TAGS, BadSequence
from sequences.codons import translate
from sequences.features import Feature
from sequences.files import blocks, with_head
from sequences.formats import GENBANK, UNIPROT
from sequences.readers import sequence_format
from sequences.spans import remarks, spans
from sequences.texts import read_texts
from sequences.uniprot import checked_entries
from sequences.uniprot_entry import Broken

WORDING = CONFIGS / "text" / "words.yaml"
GENE = "gene:{}"
"""The group of what is cut from a gene."""
SEQUENCES = {"dna", "protein"}
"""Fields that are never empty."""
ARTICLES = "JSON"
NO_SEQUENCE = "a tag that marks no sequence"
START = "begins with another codon than its protein says, as GTG for M"
UNLIKE = "the standard code translates it otherwise (selenocysteine, slippage, another code)"


def drawn(share: float, *identity: object) -> bool:
    """True for about `share` of all identities, the same on every machine."""
    return number_of(*identity) < share * 2**64


def number_of(*identity: object) -> int:
    """64 bits that any part of an identity changes."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, identity)).encode()).digest()[:8])


@cache
def _wordings() -> dict[str, list[list[tuple[str, set[str]]]]]:
    """Name -> wordings, each a list of sentences with the fields that they name."""
    found = yaml.safe_load(WORDING.read_text(encoding="utf-8"))
    fields = {
        text: {name for _, name, _, _ in string.Formatter().parse(text) if name}
        for texts in found.values()
        for one in texts
        for text in one
    }
    lost = [text for text, named in fields.items() if named & SEQUENCES and named - SEQUENCES]
    ensure(not lost, f"{WORDING}: a sequence would be lost with a field that is empty: {lost}")
    return {name: [[(text, fields[text]) for text in one] for one in texts] for name, texts in found.items()}


def worded(name: str, fields: Mapping[str, str], *identity: object) -> str:
    """One of the wordings, filled: sentences whose fields are empty are left out."""
    said = [[(text, named) for text, named in wording if all(map(fields.get, named))] for wording in _wordings()[name]]
    said = [wording for wording in said if any(named for _, named in wording)]
    sentences = [text.format_map(fields) for text, _ in said[number_of(name, *identity) % len(said)]]
    return " ".join(sentences).replace("\n ", "\n").replace(" :", ":").strip()


def heading(organism: str, kind: str, *identity: object) -> str:
    """What a sequence is, and a blank; empty where neither species nor kind is known."""
    return worded("heading", {"organism": organism, "kind": kind}, *identity) + " " if organism or kind else ""


def mixed_format(file: Path) -> str:
    """GenBank, UniProt or JSON. Raises UserError for a file of another kind."""
    if with_head(blocks(file))[0].lstrip()[:1] in (b"{", b"["):
        return ARTICLES
    form = sequence_format(file)
    if form not in (GENBANK, UNIPROT):
        raise UserError(
            f"{file}: this is {form}; mixed documents are made of GenBank, of UniProt's flat file, XML or TSV, and of JSON lines"
        )
    return form


def mixed_documents(
    source: Source, file: Path, records: Ledger, regions: Ledger, documents: Ledger, seed: int
) -> Iterator[tuple[str, str, str, str]]:
    """(id, other names, group, text with tags) of every coding sequence of GenBank with its protein, of every protein of UniProt,
    or of every text of JSON lines, in which sequences stand between tags.

    Args:
        records: counts entries of the file. regions: counts GenBank's coding sequences. documents: counts texts whose tags mark
            no sequence.

    Raises:
        UserError: a file of another kind, or nothing in it that can be used.
    """
    form = mixed_format(file)
    if form == ARTICLES:
        yield from _articles(source, file, records, documents)
    else:
        yield from (_genes if form == GENBANK else _proteins)(source, file, records, regions, seed)


def _genes(source: Source, file: Path, records: Ledger, regions: Ledger, seed: int) -> Iterator[tuple[str, str, str, str]]:
    for region, letters, organism in cut_regions(source, "cds", file, None, records, regions):
        said = region.coding or Feature("CDS", 0, [])
        fields = {"gene": said.first("gene", "locus_tag"), "product": said.first("product"), "organism": organism}
        fields["function"] = "; ".join(said.values.get("function", [])).removesuffix(".")
        try:
            protein = PROTEIN.read(said.first("translation"))
            text = _text("gene", fields, {"dna": letters, "protein": protein}, seed, region.id)
        except BadSequence as problem:
            regions.written -= 1
            regions.reject(problem.reason if said.first("translation") else "no /translation", f"{at(file, region.line)} ({region.id})")
            continue
        residues = translate(letters).removesuffix("*")
        if residues != protein:
            regions.notes[START if residues[1:] == protein[1:] else UNLIKE] += 1
        yield region.id, region.names, GENE.format(region.gene.id) if region.gene else "", text


def _proteins(source: Source, file: Path, records: Ledger, regions: Ledger, seed: int) -> Iterator[tuple[str, str, str, str]]:
    mark = records.mark()
    for entry in checked_entries(file):
        records.read += 1
        if isinstance(entry, Broken):
            records.reject(entry.reason, at(file, entry.line))
            continue
        fields = {
            "name": entry.name,
            "gene": entry.genes[0] if entry.genes else "",
            "organism": entry.organism.partition(" (")[0],
            "function": entry.function.replace("\n", " "),
            "location": "; ".join(place.partition(";")[0] for place in entry.locations),
            "keywords": ", ".join(entry.keywords),
        }
        try:
            text = _text("protein", fields, {"protein": entry.sequence}, seed, entry.accession)
        except BadSequence as problem:
            records.reject(problem.reason, at(file, entry.line))
            continue
        records.written += 1
        yield entry.accession, entry.entry_name, f"protein:{entry.sequence}", text  # the key of a document of the protein alone
    records.close(file, mark, "protein", hint="Is this UniProt's file?")


def _articles(source: Source, file: Path, records: Ledger, documents: Ledger) -> Iterator[tuple[str, str, str, str]]:
    for text in read_texts(file, records, source.unit):
        try:
            yield text.id, "", "", _with_plain_spans(text.text)
        except BadSequence as problem:
            documents.read += 1
            documents.reject(problem.reason, f"{at(file, text.line)} ({text.id}: {problem.detail})")


def _with_plain_spans(text: str) -> str:
    """The text with nothing but letters between its tags, and a blank between two spans: a cut there would look as one within a span.

    Raises BadSequence for a tag that marks no sequence.
    """
    parts, end, past = list[str](), 0, -1
    if wrong := next(remarks(text), ""):
        raise BadSequence(NO_SEQUENCE, wrong)
    for span in spans(text):
        if not span.closed:
            raise BadSequence(NO_SEQUENCE, f"{span.alphabet.open_tag} ends the text")
        between = text[end : span.tag] + (" " if past == span.tag else "") + text[span.tag : span.start]
        parts += [between, span.alphabet.read("".join(text[span.start : span.end].split()))]
        end, past = span.end, span.past
    return "".join([*parts, text[end:]])


def _text(name: str, fields: dict[str, str], letters: dict[str, str], seed: int, identity: str) -> str:
    """Raises BadSequence where a field spells a tag."""
    if any(tag in value for value in fields.values() for tag in TAGS):
        raise BadSequence("a sequence's tag inside a text")
    spans = {kind: f"<{kind}>{found}</{kind}>" for kind, found in letters.items()}
    return worded(name, {**fields, **spans}, seed, identity)
