"""Sequences of any file, plain or gz: the content tells the format, never the name.

- FASTA, wrapped or not, lower or upper case; FASTQ, whose qualities must be as long as the sequence and are then dropped;
- GenBank flat files, any number of entries: the letters below ORIGIN; for proteins the `/translation` of each CDS feature,
  or ORIGIN where an entry is counted in residues (GenPept);
- UniProt flat files, XML and TSV, for proteins;
- tables with a header and a column `sequence` or `seq` (tables.py);
- one sequence a line: only where the first line, and nine lines in ten, are letters of the alphabet asked for.

Blank lines and comments (`#`, `;`) above the first record are passed over and counted. Anything else is refused by name.
Files are streamed, one record in memory at a time.

Not supported: GenBank releases with a page of prose above the first LOCUS; sequences that a GenBank entry only refers to
(CONTIG); aligned FASTA (a gap is a letter outside the alphabet, so the record is set aside); comments between records; a word
such as `peptides` above plain lines of protein, which reads as one more sequence because residues spell any word.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from sequences import formats
from sequences.alphabets import BLANKS, FOREIGN, Alphabet, letter_table
from sequences.files import Line, blocks, lines_of, with_head
from sequences.formats import Record
from sequences.tables import sequence_cells
from sequences.uniprot import WITHOUT_FUNCTION, checked_entries
from sequences.uniprot_entry import Broken

COMMENTS = "lines above the first record"
LINES_OF_LETTERS = 0.9
"""Least share of sequences among the lines of a file without any other sign of its format."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence record."""

    id: str
    """First word of the header, or the entry's version; `line<n>` where there is none."""
    description: str
    """The rest of the header, or the entry's definition or product."""
    letters: str
    """Nothing but letters of the alphabet, synonyms applied; upper case, or the file's own with `keep_case`."""
    line: int
    """1-based line where the record starts."""
    table: bytes = b""
    """GenBank's table of features, where it was asked for, for `features.genbank_features`."""
    table_line: int = 0
    """1-based line of its first byte."""
    circular: bool = False
    gene: str = ""
    """The gene that it is cut from: what is cut from one gene is trained or held out together."""
    kind: str = ""
    """What it is, in words; its species is `organism`."""
    organism: str = ""
    names: str = ""
    """What else it is called."""


def fasta_records(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Line of the header, header without `>`, and what stands below it without white space; nothing is judged but the format.

    Raises:
        UserError: missing or damaged file, no record at all, or a file in another format.
    """
    head, content = with_head(blocks(path))
    form, above = _sniffed(path, head)
    if form != formats.FASTA:
        line = head.splitlines()[above] if above < head.count(b"\n") + 1 else b""
        shown = line[:30].decode("utf-8", "replace").strip()
        raise UserError(f"{at(path, above + 1)}: not FASTA: expected a header that starts with '>', found '{shown}'")
    for record in formats.fasta(content):
        yield record.line, record.header, "".join(b"".join(record.body).decode("latin-1").split())


def sequence_format(path: str | Path) -> str:
    """One of the formats of `formats.sniff`. Raises UserError for a missing, empty or damaged file, or one that is not read."""
    return _sniffed(path, with_head(blocks(path))[0])[0]


def read_sequences(
    path: str | Path,
    alphabet: Alphabet,
    ledger: Ledger,
    *,
    keep_case: bool = False,
    annotated: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Sequence]:
    """Read a file of sequences in any of the formats that the module lists.

    A record that is empty, broken, of another molecule, or has a letter outside the alphabet (in either case) is set aside in
    `ledger` with file:line. With `keep_case` lower case stays, as in soft-masked genomes; with `annotated` a GenBank entry's
    features come with it. `progress`: see `files.blocks`.

    Raises:
        UserError: missing, damaged or empty file, or one of another kind; not one usable record in it, or more broken ones than
            the ledger allows.
    """
    head, content = with_head(blocks(path, progress))
    form, above = _sniffed(path, head)
    mark, lines = ledger.mark(), islice(lines_of(content), above, None)
    if form == formats.UNIPROT and alphabet.name == "protein":
        records = _entries(path, content, ledger)
    elif form in (formats.TABLE, formats.UNIPROT):
        records = sequence_cells(path, content)
    elif form == formats.FASTA:
        records = formats.fasta(content)
    elif form == formats.FASTQ:
        records = formats.fastq(lines)
    elif form == formats.GENBANK:
        records = formats.genbank(lines, alphabet.name == "protein", annotated)
    else:
        records = _plain(path, lines, alphabet)
    if above and form != formats.TABLE:
        ledger.notes[COMMENTS] += above
    table = letter_table(alphabet, keep_case)
    for record in records:
        ledger.read += 1
        kept = [] if record.problem else [chunk.translate(table, record.ignored) for chunk in record.body]
        letters = b"".join(kept).decode("ascii")
        if not letters:
            reason = record.problem or "empty sequence"
            ledger.reject(reason, at(path, record.line), on_purpose=reason == formats.PSEUDOGENE)
        elif "\0" in letters:
            line, reason, letter = _first_foreign(record, table, alphabet)
            ledger.reject(reason, f"{at(path, line)} ('{letter}')")
        elif reason := alphabet.doubt(letters):
            ledger.reject(reason, at(path, record.line))
        else:
            ledger.written += 1
            name, description = (record.header, "") if record.named else [*record.header.split(None, 1), "", ""][:2]
            yield Sequence(
                name or f"line{record.line}",
                description,
                letters,
                record.line,
                record.table,
                record.table_line,
                record.circular,
                names=record.names,
            )
    ledger.close(path, mark, f"{alphabet.name} record", hint=f"Is this file {alphabet.name}? It was read as {form}")


def _sniffed(path: str | Path, head: bytes) -> tuple[str, int]:
    if not head.strip():
        raise UserError(f"{at(path, 1)}: no sequence record: the file is empty; remove it from the recipe or fetch it again")
    form, above = formats.sniff(head)
    if form in formats.FOREIGN_FORMATS:
        raise UserError(
            f"{at(path, above + 1)}: this is {form}, which is not read as sequences; give FASTA, FASTQ, GenBank, UniProt (protein), "
            "a table with a header and a column 'sequence', or one sequence a line"
        )
    return form, above


def _plain(path: str | Path, lines: Iterator[Line], alphabet: Alphabet) -> Iterator[Record]:
    """Lines of letters, once the first of them is one; a line that begins a record of another format ends the reading."""
    table = letter_table(alphabet)
    read = bad = first_bad = 0
    for record in formats.plain(lines):
        line = record.body[0]
        good = FOREIGN not in line.translate(table)
        if not good and (not read or line[:1] in (b">", b"@") or line.startswith(b"LOCUS")):
            shown = line[:30].decode("utf-8", "replace")
            raise UserError(
                f"{at(path, record.line)}: '{shown}' is no {alphabet.name} sequence, and the file begins as no format that is known. "
                "Give FASTA, a table with a header and a column 'sequence' or 'seq', or remove what stands above the first record"
            )
        read, bad, first_bad = read + 1, bad + (not good), first_bad or (0 if good else record.line)
        yield record
    if read - bad < LINES_OF_LETTERS * read:
        raise UserError(
            f"{at(path, first_bad)}: {bad:,} of {read:,} lines, this one the first, are no {alphabet.name} sequences, so this is no file "
            "of one sequence a line; give FASTA, or a table with a header and a column 'sequence'"
        )


def _entries(path: str | Path, content: Iterator[bytes], ledger: Ledger) -> Iterator[Record]:
    for entry in checked_entries(path, content=content):
        if isinstance(entry, Broken):
            yield Record(entry.line, "", [], entry.line, problem=entry.reason)
        else:
            ledger.notes[WITHOUT_FUNCTION] += not entry.function
            yield Record(entry.line, f"{entry.accession} {entry.name}", [entry.sequence.encode()], entry.line, names=entry.entry_name)


def _first_foreign(record: Record, table: bytes, alphabet: Alphabet) -> tuple[int, str, str]:
    """1-based line, reason, and the letter as a whole character."""
    line = record.body_line
    for chunk in record.body:
        for text in io.BytesIO(chunk):
            kept = text.translate(None, record.ignored)
            place = kept.translate(table).find(FOREIGN)
            if place >= 0:
                letter = kept[place:].decode("utf-8", "replace")[0]
                return line, BLANKS if letter.isspace() else f"letter outside {alphabet.name}", letter
            line += text.endswith(b"\n")
    raise RuntimeError("no foreign letter in a record that was said to have one")
