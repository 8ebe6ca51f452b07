"""What FASTA, FASTQ, GenBank and plain lines look like: bytes in, raw records out; letters are judged in `readers`.

`sniff` tells a format by content, never by the file's name.

Parsers take blocks of whole lines, or numbered lines, and hold one record at a time. A record whose shape is broken
comes out with a `problem`, so that it can be counted and the file read on.

Sources: FASTQ, Cock et al. 2010 (doi:10.1093/nar/gkp1137); GenBank, release notes of the flat file, section 3.4.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sequences.files import Line, Lines

WHITE_SPACE = b" \t\r\n\v\f"
FASTA, FASTQ, GENBANK, UNIPROT, TABLE, LINES = "FASTA", "FASTQ", "GenBank", "UniProt", "a table", "one sequence a line"
COMMENTS = re.compile(rb"(?:[ \t\v\f]*(?:[#;][^\n]*)?\n)*")
"""Blank lines and comments above the first record."""
FOREIGN_TEXT = (
    (re.compile(rb"##gff-version|([^\t\n]*\t){2}[^\t\n]*\t\d+\t\d+\t[^\t\n]*\t[-+.?]\t"), "GFF"),
    (re.compile(rb"##fileformat=VCF"), "VCF"),
    (re.compile(rb"@(?:HD|SQ|RG|PG|CO)\t"), "SAM"),
    (re.compile(rb"ID   (?:\S+;|[^\n]* BP\.)"), "EMBL"),
    (re.compile(rb"#NEXUS", re.IGNORECASE), "NEXUS"),
    (re.compile(rb"# STOCKHOLM"), "Stockholm"),
    (re.compile(rb"CLUSTAL"), "Clustal"),
    (re.compile(rb"# ?T?BLAST[NPX]|T?BLAST[NPX] \d", re.IGNORECASE), "BLAST output"),
    (re.compile(rb"<"), "XML or HTML"),
    (re.compile(rb"[\[{]"), "JSON"),
)
"""How files of other kinds begin that are text, blanks and comments left out or not."""
FOREIGN_FORMATS = frozenset(kind for _, kind in FOREIGN_TEXT)
UNIPROT_XML = re.compile(rb"<(?:\w+:)?(?:uniprot|entry)\b")
VERSION_ALONE = re.compile(rb"\.\d+")
"""`VERSION .0`, as some writers leave it where an accession has no version."""
PSEUDOGENE = "no /translation, as in pseudogenes"
UNIPROTS = "UniProtKB"
"""How a cross-reference to UniProt begins."""
LETTERS_COLUMNS = ("sequence", "seq")
DELIMITERS = ("\t", ",", ";")
FEATURE = re.compile(rb"^ {5}(?=\S)", re.MULTILINE)
QUALIFIER = re.compile(rb'/(\w+)=(?:"([^"]*(?:""[^"]*)*)"|\S*)')
"""Quoted values are taken whole: a note may hold a slash and a name, and doubles its own quotes."""


@dataclass(slots=True)
class Record:
    """One record as it stands in the file."""

    line: int
    """1-based line where it starts."""
    header: str
    """Id, white space, description; each may be empty."""
    body: list[bytes]
    """Letters and what stands between them, line ends included, in chunks."""
    body_line: int
    """1-based line of the first byte of `body`."""
    ignored: bytes = WHITE_SPACE
    """Bytes of the body that are no letters."""
    problem: str = ""
    """Why the record cannot be used, if its shape is broken."""
    named: bool = False
    """Whether all of `header` is the id, as in a table's column."""
    table: bytes = b""
    """GenBank's table of features, where it is asked for."""
    table_line: int = 0
    """1-based line of its first byte."""
    circular: bool = False
    names: str = ""
    """What else it is called."""


def sniff(head: bytes) -> tuple[str, int]:
    """The format of a file by its first lines, and how many lines above the first record are blank or comments.

    UNIPROT is a flat file, XML or TSV of UniProt. Anything that has no sign of its own is called LINES here; whether its lines
    are sequences, `read_sequences` sees. A file of another kind is called by the name in FOREIGN_TEXT.
    """
    found = COMMENTS.match(head)
    start = found.end() if found else 0
    first = head[start:].partition(b"\n")[0]
    comments = head.count(b"\n", 0, start)
    if first.startswith(b">"):
        return FASTA, comments
    if first.startswith(b"<") and UNIPROT_XML.search(head):
        return UNIPROT, comments
    for telltale, kind in FOREIGN_TEXT:
        if telltale.match(head.lstrip()) or telltale.match(first):
            return kind, comments
    if first.startswith(b"@"):
        return FASTQ, comments
    if first.startswith((b"LOCUS ", b"LOCUS\t")):
        return GENBANK, comments
    if first.startswith(b"ID   "):
        return UNIPROT, comments
    if names := table_header(first):
        return UNIPROT if b"\t" in first and {"Entry", "Sequence"} <= set(names) else TABLE, comments
    if any(len(table_header(line)) > 1 for line in head[:start].splitlines()):
        return TABLE, comments  # `#id<TAB>sequence`
    return LINES, comments


def table_header(line: bytes) -> list[str]:
    """Names of the columns where a line is the header of a table of sequences, which has `sequence` or `seq`; else an empty list."""
    for delimiter in DELIMITERS:
        cells = line.decode("utf-8", "replace").removeprefix("#").split(delimiter)
        names = [cell.strip().strip('"').strip() for cell in cells]
        if any(name.casefold() in LETTERS_COLUMNS for name in names):
            return names
    return []


def fasta(blocks: Iterable[bytes]) -> Iterator[Record]:
    """Records of a FASTA file: a line that starts with `>`, and the lines below it. `blocks` end at line ends."""
    record: Record | None = None
    done = 0  # lines
    for block in blocks:
        # Inside a chromosome this is all there is to do, and three times as fast as the search for two bytes.
        above, *parts = (b"\n" + block).split(b"\n>") if b">" in block else [b"\n" + block]
        if record is not None:
            record.body.append(above[1:])
        line = done + above.count(b"\n") + 1
        for part in parts:
            if record is not None:
                yield record
            header, _, body = part.partition(b"\n")
            record = Record(line, header.decode("utf-8", "replace").strip(), [body], line + 1)
            line += part.count(b"\n") + 1
        done += block.count(b"\n")
    if record is not None:
        yield record


def fastq(numbered: Iterable[Line]) -> Iterator[Record]:
    """Records of a FASTQ file, four lines each or wrapped.

    A quality line may begin with `@`, so qualities are read until they are as long as the sequence, and the next line
    must be a header. Where this does not hold, the record is broken and reading goes on at the next header.
    """
    lines = Lines(numbered)
    head = lines.next_filled()
    while head is not None:
        record = Record(head[0], head[1][1:].decode("utf-8", "replace").strip(), [], head[0] + 1)
        missing = 0  # qualities
        below: Line | None = None
        for below in lines:
            if below[1].startswith((b"+", b"@")):
                break
            record.body.append(below[1])
            missing += len(below[1].strip())
        else:
            below = None
        if below is None or below[1].startswith(b"@"):
            record.problem = "no '+' line below the sequence"
            head = below
            yield record
            continue
        qualities: list[Line] = []
        while missing > 0 and (line := next(lines, None)) is not None:
            qualities.append(line)
            missing -= len(line[1].strip())
        head = lines.next_filled()
        if missing or (head is not None and not head[1].startswith(b"@")):
            record.problem = "qualities and sequence differ in length"
            lines.back([*qualities, head] if head else qualities)
            head = _next_header(lines)
        yield record


def _next_header(lines: Lines) -> Line | None:
    """The next line that begins with `@` and has no such line below it, so that it is no quality line before a header."""
    found: Line | None = None
    while (line := lines.next_filled()) is not None:
        is_header = line[1].startswith(b"@")
        if found is not None and not is_header:
            lines.back([line])
            break
        found = line if is_header else None
    return found


def plain(lines: Iterable[Line]) -> Iterator[Record]:
    """One sequence per line. White space inside a line is not ignored: with it, most prose would pass for a protein."""
    for number, line in lines:
        if letters := line.strip(WHITE_SPACE):
            yield Record(number, "", [letters], number, ignored=b"")


@dataclass(slots=True)
class _Entry:
    """One entry of a GenBank file, from LOCUS to //."""

    line: int
    wanted: bytes
    """The keyword whose section is kept as `body`: ORIGIN, or FEATURES."""
    annotated: bool = False
    """Whether the features are kept too, as `table`."""
    texts: dict[bytes, bytes] = field(default_factory=dict)
    """Keyword -> what stands right of and below it, for the keywords of the header."""
    body: bytearray = field(default_factory=bytearray)
    body_line: int = 0
    table: bytearray = field(default_factory=bytearray)
    table_line: int = 0
    complete: bool = False


def genbank(lines: Iterable[Line], translations: bool, annotated: bool = False) -> Iterator[Record]:
    """Records of a GenBank flat file: the letters below ORIGIN, or with `translations` the proteins of the CDS features.

    An entry counted in residues (GenPept) has its proteins below ORIGIN. With `annotated` its features come with the letters.
    """
    for entry in _entries(lines, translations, annotated):
        if entry.wanted == b"FEATURES":
            yield from _proteins(entry)
        if entry.wanted == b"ORIGIN" or not entry.complete:
            yield _origin(entry)


def _entries(lines: Iterable[Line], translations: bool, annotated: bool) -> Iterator[_Entry]:
    entry: _Entry | None = None
    section = b""
    for number, line in lines:
        if line.startswith(b"LOCUS"):
            if entry is not None:
                yield entry
            residues = b"aa" in line.split()
            entry, section = _Entry(number, b"FEATURES" if translations and not residues else b"ORIGIN", annotated), b"LOCUS"
            entry.texts[section] = line[len(section) :]
        elif entry is None:
            continue  # between entries
        elif line.startswith(b"//"):
            entry.complete = True
            yield entry
            entry = None
        elif section != b"ORIGIN" and line[:1].isalpha():  # a keyword stands in the first column, what belongs to it is indented
            section = line.split(None, 1)[0]
            if section == entry.wanted:
                entry.body_line = number + 1
            elif section == b"FEATURES" and annotated:
                entry.table_line = number + 1
            elif section in (b"DEFINITION", b"ACCESSION", b"VERSION"):
                entry.texts[section] = line[len(section) :]
        elif section == entry.wanted:
            entry.body += line
        elif entry.annotated and section == b"FEATURES":
            entry.table += line
        elif section == b"DEFINITION":
            entry.texts[section] += line
    if entry is not None:
        yield entry


def _origin(entry: _Entry) -> Record:
    words = [entry.texts.get(key, b"").split() for key in (b"VERSION", b"ACCESSION", b"LOCUS")]
    named = (found[0].decode("utf-8", "replace") for found in words if found and not VERSION_ALONE.fullmatch(found[0]))
    identity = next(named, f"line{entry.line}")
    definition = _text(entry.texts.get(b"DEFINITION", b"")).removesuffix(".")
    # Letters stand in groups of ten behind the position of the first one.
    ignored = WHITE_SPACE + b"0123456789"
    record = Record(entry.line, f"{identity} {definition}", [bytes(entry.body)], entry.body_line, ignored)
    record.table, record.table_line = bytes(entry.table), entry.table_line
    record.circular = entry.annotated and b"circular" in entry.texts.get(b"LOCUS", b"").split()
    if not entry.complete:
        record.problem = "no // at the end of the entry"
    elif not entry.body or entry.body.isspace():
        record.problem = "no letters below ORIGIN"
    return record


def _proteins(entry: _Entry) -> Iterator[Record]:
    above, *features = FEATURE.split(bytes(entry.body))
    line = entry.body_line + above.count(b"\n")
    for feature in features:
        if feature.startswith(b"CDS "):
            yield _protein(feature, line)
        line += feature.count(b"\n")


def _protein(feature: bytes, line: int) -> Record:
    values: dict[bytes, re.Match[bytes]] = {}
    linked = []
    for found in QUALIFIER.finditer(feature):
        if found[2] is not None:
            values.setdefault(found[1], found)
            linked += [_text(found[2])] if found[2].startswith(UNIPROTS.encode()) else []
    identity, product = (
        next((_text(values[name][2].replace(b'""', b'"')) for name in names if name in values), "")
        for names in ((b"protein_id", b"locus_tag"), (b"product",))
    )
    record = Record(line, f"{identity or f'line{line}'} {product}", [], line, names=" ".join(linked))
    if (translation := values.get(b"translation")) is not None:
        record.body = [translation[2]]
        record.body_line += feature.count(b"\n", 0, translation.start())
    else:
        record.problem = "/translation has no end" if b"/translation=" in feature else PSEUDOGENE
    return record


def _text(found: bytes) -> str:
    """One line of text, white space as it was inside a line."""
    return " ".join(line.strip() for line in found.decode("utf-8", "replace").strip().split("\n"))
