"""Reader of UniProt's Swiss-Prot and TrEMBL: flat file, XML or TSV, plain or gz, known by its content.

Not supported: RDF, JSON, GFF; the feature table; isoform sequences other than the one displayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from sequences.alphabets import PROTEIN
from sequences.readers import blocks, lines_of, reasons_since
from sequences.uniprot_entry import Broken, Entry, Function, GoTerm
from sequences.uniprot_flat import flat_entries
from sequences.uniprot_tsv import tsv_entries
from sequences.uniprot_xml import xml_entries

__all__ = ["Entry", "Function", "GoTerm", "read_uniprot", "uniprot_format"]
RESIDUES = frozenset(PROTEIN.letters + PROTEIN.letters.lower())
WITHOUT_FUNCTION = "without a function"


def uniprot_format(path: str | Path) -> str | None:
    """`flat`, `XML` or `TSV`, by the first line that is not blank; None for any other file. Raises UserError as `blocks` does."""
    return _format(_head(blocks(path))[0])


def read_uniprot(path: str | Path, ledger: Ledger, progress: Callable[[int], object] | None = None) -> Iterator[Entry]:
    """Read the entries of a UniProt file, one in memory at a time.

    An entry that is broken or cut short, whose sequence is not as long as it says, or has a letter outside the alphabet
    of proteins, is set aside in `ledger` with file:line. Entries without a function are counted in `ledger.notes`.
    `progress`: see `sequences.readers.blocks`.

    Raises:
        UserError: missing, damaged or empty file, XML that is not well formed or has a DTD; not one usable entry.
    """
    before, written = ledger.reasons.copy(), 0
    for found in checked_entries(path, progress):
        ledger.read += 1
        if isinstance(found, Broken):
            ledger.reject(found.reason, at(path, found.line))
            continue
        if not found.function:
            ledger.notes[WITHOUT_FUNCTION] += 1
        written += 1
        ledger.written += 1
        yield found
    if not written:
        raise UserError(
            f"{path}: not one usable UniProt entry: {reasons_since(ledger, before)}. It was read as {uniprot_format(path) or 'TSV'}; "
            "known are the flat file (.dat), XML, and TSV with the columns Entry and Sequence"
        )


def checked_entries(path: str | Path, progress: Callable[[int], object] | None = None) -> Iterator[Entry | Broken]:
    """All entries in the file's order, those that cannot be used as `Broken`; for callers with a ledger of their own."""
    head, content = _head(blocks(path, progress))
    for found in _entries(_format(head), content, path):
        if isinstance(found, Entry):
            found.sequence = found.sequence.upper()
            if problem := _problem(found):
                yield Broken(found.line, problem)
                continue
        yield found


def _head(content: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    head = b""
    for block in content:
        head += block
        if head.strip():
            break
    return head, chain([head], content)


def _format(head: bytes) -> str | None:
    first = head.lstrip().partition(b"\n")[0]
    if first.startswith(b"ID   "):
        return "flat"
    if first.startswith(b"<"):
        return "XML"
    return "TSV" if {b"Entry", b"Sequence"} <= set(first.rstrip(b"\r").split(b"\t")) else None


def _entries(form: str | None, content: Iterable[bytes], path: str | Path) -> Iterator[Entry | Broken]:
    if form == "flat":
        return flat_entries(content)
    if form == "XML":
        return xml_entries(content, path)
    return tsv_entries(lines_of(content), path)


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
