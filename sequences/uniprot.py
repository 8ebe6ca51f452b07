"""Reader of UniProt's Swiss-Prot and TrEMBL: flat file, XML or TSV, plain or gz, known by its content.

Not supported: RDF, JSON, GFF; the feature table; isoform sequences other than the one displayed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sequences.alphabets import PROTEIN
from sequences.files import blocks, lines_of, with_head
from sequences.tables import Table
from sequences.uniprot_entry import Broken, Entry
from sequences.uniprot_flat import flat_entries
from sequences.uniprot_tsv import tsv_entries
from sequences.uniprot_xml import xml_entries

RESIDUES = frozenset(PROTEIN.letters + PROTEIN.letters.lower())
WITHOUT_FUNCTION = "without a function"


def checked_entries(path: str | Path, content: Iterable[bytes] | None = None, needed: str | None = None) -> Iterator[Entry | Broken]:
    """All entries in the file's order, one in memory at a time; those that cannot be used come as `Broken`.

    Broken is an entry that is cut short, whose sequence is not as long as it says, or has a letter outside the alphabet of proteins.

    Args:
        content: the file's blocks, where they are read already.
        needed: a field of `Entry` that a TSV file must have a column for.

    Raises:
        UserError: missing or damaged file, XML that is not well formed or has a DTD, a TSV file without a column that is needed.
    """
    head, content = with_head(iter(content) if content is not None else blocks(path))
    entries: Iterator[Entry | Broken]
    if head.lstrip().startswith(b"ID   "):
        entries = flat_entries(content)
    elif head.lstrip().startswith(b"<"):
        entries = xml_entries(content, path)
    else:
        entries = tsv_entries(Table(path, lines_of(content), delimiter="\t"), needed)
    for found in entries:
        if isinstance(found, Entry):
            found.sequence = found.sequence.upper()
            if problem := _problem(found):
                yield Broken(found.line, problem)
                continue
        yield found


def _problem(entry: Entry) -> str:
    if not entry.accession:
        return "no accession"
    if not entry.sequence:
        return "empty sequence"
    if not RESIDUES.issuperset(entry.sequence):
        return "letter outside protein"
    if entry.length is not None and entry.length != len(entry.sequence):
        return "the sequence is not as long as the entry says"
    return ""
