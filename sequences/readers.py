"""Readers of sequences and text, plain or gz.

Sequences (`read_sequences`): the first line that is not blank tells the format, never the name:
- `>` FASTA: wrapped or not, lower or upper case, blank lines;
- `@` FASTQ: four lines per record, or wrapped; qualities must be as long as the sequence and are then dropped;
- `LOCUS` GenBank flat file, any number of entries: the letters below ORIGIN; for proteins the `/translation` of each
  CDS feature, or ORIGIN where an entry is counted in residues (GenPept);
- else plain: one sequence per line.
UniProt's flat file, XML and TSV have their own reader, `sequences/uniprot.py`; more kinds of text, `sequences/texts.py`.
Text (`read_text`): `.txt` and `.jsonl`, by their names. All of them plain or gz (of one or several members), LF or CRLF, with or without
a byte-order mark. Files are streamed, one record in memory at a time.

Not supported: a carriage return alone as line end; EMBL and 2bit files; GenBank releases with a page of
prose above the first LOCUS; sequences that a GenBank entry only refers to (CONTIG); aligned FASTA (a gap is a letter
outside the alphabet, so the record is set aside); line comments with `;`; a header above plain lines of protein, which
reads as one more sequence because any word is spelled with residues.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from artefacts.errors import Ledger, UserError, at
from sequences.alphabets import Alphabet
from sequences.formats import Line, Record, fasta, fastq, genbank, plain, sniff

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK = 1 << 18
"""Bytes read at once: large enough that Python's own work per block does not count, small enough for the cache."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON can spell halves of a surrogate pair, which cannot be encoded as UTF-8."""
FOREIGN = "\0"
"""Stands for any letter outside the alphabet while a record is judged."""


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


@dataclass(frozen=True, slots=True)
class Text:
    """One text document."""

    id: str
    text: str
    line: int
    """1-based line where it starts."""


def open_bytes(path: str | Path) -> io.BufferedReader | gzip.GzipFile:
    """Open a plain or gz file (one or several members) for reading bytes; gz is known by its first bytes, not by its name.

    Raises:
        UserError: missing, a folder, or not readable.
    """
    try:
        with open(path, "rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        return gzip.open(path, "rb") if zipped else open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path in the recipe") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a readable file is needed") from None


def blocks(path: str | Path, progress: Callable[[int], object] | None = None) -> Iterator[bytes]:
    """The file's content without a byte-order mark, in blocks of whole lines.

    `progress` is called with the number of bytes of the file, as it lies on the disk, that were read since the last call
    (`tqdm.update` fits); the calls add up to the file's size.

    Raises:
        UserError: missing file, or gz data cut short or damaged.
    """
    lines = reported = 0
    with open_bytes(path) as handle:
        raw = cast(BinaryIO, handle.fileobj if isinstance(handle, gzip.GzipFile) else handle)
        try:
            while True:
                block = handle.read1(BLOCK) + handle.readline()
                if progress is not None:
                    progress(raw.tell() - reported)
                    reported = raw.tell()
                if not block:
                    break
                yield block if lines else block.removeprefix(BYTE_ORDER_MARK)
                lines += block.count(b"\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{at(path, lines + 1)}: the gz data is cut short or damaged ({error}); fetch the file again") from None


def numbered_lines(path: str | Path) -> Iterator[Line]:
    """Lines with their 1-based numbers, line ends kept. Raises UserError as `blocks` does."""
    return lines_of(blocks(path))


def fasta_records(path: str | Path) -> Iterator[tuple[int, str, list[bytes]]]:
    """Line of the header, header without `>`, and the raw bytes below it; nothing is validated but the format.

    Raises:
        UserError: missing or damaged file, no record at all, or a file in another format.
    """
    form, content = _begin(path)
    if form != "FASTA":
        number, line = next((number, line) for number, line in lines_of(content) if line.strip())
        shown = line[:30].decode("utf-8", "replace").strip()
        raise UserError(f"{at(path, number)}: not FASTA: expected a header that starts with '>', found '{shown}'")
    for record in fasta(content):
        yield record.line, record.header, record.body


def read_sequences(
    path: str | Path, alphabet: Alphabet, ledger: Ledger, *, keep_case: bool = False, progress: Callable[[int], object] | None = None
) -> Iterator[Sequence]:
    """Read a file of sequences: FASTA, FASTQ, GenBank or one per line, as its content says (the module's docstring lists them).

    A record that is empty, broken, or has a letter outside the alphabet (in either case) is set aside in `ledger` with
    file:line. With `keep_case` lower case stays, as in soft-masked genomes. `progress`: see `blocks`.

    Raises:
        UserError: missing, damaged or empty file; or not one usable record in it.
    """
    form, content = _begin(path, progress)
    table = _table(alphabet, keep_case)
    before, written = ledger.reasons.copy(), 0
    for record in _records(form, content, alphabet):
        ledger.read += 1
        letters = "" if record.problem else _letters(record, table)
        if record.problem:
            ledger.reject(record.problem, at(path, record.line))
        elif not letters:
            ledger.reject("empty sequence", at(path, record.line))
        elif FOREIGN in letters:
            line, letter = _first_foreign(record, table)
            ledger.reject(f"letter outside {alphabet.name}", f"{at(path, line)} ('{letter}')")
        else:
            written += 1
            ledger.written += 1
            name, description = [*record.header.split(None, 1), "", ""][:2]
            yield Sequence(name or f"line{record.line}", description, letters, record.line)
    if not written:
        told_by = ", as it begins with neither '>' nor '@' nor LOCUS" if form == "plain lines" else ""
        raise UserError(
            f"{path}: not one usable {alphabet.name} record: {reasons_since(ledger, before)}. "
            f"Is this file {alphabet.name}? It was read as {form}{told_by}"
        )


def read_text(path: str | Path, ledger: Ledger) -> Iterator[Text]:
    """Read text documents: `.txt` (documents stand between blank lines) or `.jsonl` with a `text` field, each also gz.

    A malformed line or an empty document is set aside in `ledger` with file:line.

    Raises:
        UserError: missing or damaged file, another suffix, or not one usable document in it.
    """
    name = str(path).lower().removesuffix(".gz")
    if not name.endswith((".txt", ".jsonl")):
        raise UserError(f"{path}: text is read from .txt or .jsonl files (also .gz); convert this one")
    before, written = ledger.reasons.copy(), 0
    for line, identity, text in _json_lines(path, ledger) if name.endswith(".jsonl") else _paragraphs(path, ledger):
        if not text.strip():
            ledger.reject("empty text", at(path, line))
            continue
        written += 1
        ledger.written += 1
        yield Text(identity or f"line{line}", text, line)
    if not written:
        raise UserError(
            f"{path}: not one usable text document: {reasons_since(ledger, before)}; mend the file or remove it from the recipe"
        )


def json_records(path: str | Path, ledger: Ledger) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON lines file with their 1-based lines; each is counted as read, other lines are set aside."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        ledger.read += 1
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # not UTF-8 (UnicodeDecodeError is a ValueError); brackets a thousand deep
            ledger.reject("not a JSON line", at(path, number))
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            ledger.reject("not a JSON object", at(path, number))


def _json_lines(path: str | Path, ledger: Ledger) -> Iterator[tuple[int, str, str]]:
    for number, record in json_records(path, ledger):
        text, identity = record.get("text"), str(record.get("id", ""))
        if not isinstance(text, str):
            ledger.reject("no 'text' field", at(path, number))
        elif SURROGATE.search(text) or SURROGATE.search(identity):
            ledger.reject("half a surrogate pair, which is no character", at(path, number))
        else:
            yield number, identity, text


def _paragraphs(path: str | Path, ledger: Ledger) -> Iterator[tuple[int, str, str]]:
    start, lines = 0, list[bytes]()

    def document() -> Iterable[tuple[int, str, str]]:
        ledger.read += 1
        try:
            return [(start, "", b"".join(lines).decode("utf-8").replace("\r\n", "\n").strip("\n"))]
        except UnicodeDecodeError:
            ledger.reject("not UTF-8", at(path, start))
            return []

    for number, line in numbered_lines(path):
        if line.strip():
            if not lines:
                start = number
            lines.append(line)
        elif lines:
            yield from document()
            lines = []
    if lines:
        yield from document()


def _begin(path: str | Path, progress: Callable[[int], object] | None = None) -> tuple[str, Iterator[bytes]]:
    """The file's format, and its content from the start."""
    content = blocks(path, progress)
    head = b""
    for block in content:
        head += block
        if head.strip():
            return sniff(head), chain([head], content)
    raise UserError(f"{at(path, 1)}: no sequence record: the file is empty; remove it from the recipe or fetch it again")


def lines_of(content: Iterable[bytes]) -> Iterator[Line]:
    """Numbered lines of blocks that end at line ends."""
    number = 1
    for block in content:
        yield from enumerate(io.BytesIO(block), number)
        number += block.count(b"\n")


def _records(form: str, content: Iterator[bytes], alphabet: Alphabet) -> Iterator[Record]:
    if form == "FASTA":
        return fasta(content)
    if form == "FASTQ":
        return fastq(lines_of(content))
    if form == "GenBank":
        return genbank(lines_of(content), translations=alphabet.name == "protein")
    return plain(lines_of(content))


@cache
def _table(alphabet: Alphabet, keep_case: bool) -> bytes:
    """What each byte becomes: a letter (upper case, synonyms applied), or `FOREIGN`."""
    table = bytearray(FOREIGN.encode() * 256)
    for letter, meant in {**{letter: letter for letter in alphabet.letters}, **alphabet.synonyms}.items():
        table[ord(letter)] = ord(meant)
        table[ord(letter.lower())] = ord(meant.lower() if keep_case else meant)
    return bytes(table)


def _letters(record: Record, table: bytes) -> str:
    return b"".join(chunk.translate(table, record.ignored) for chunk in record.body).decode("ascii")


def _first_foreign(record: Record, table: bytes) -> tuple[int, str]:
    """1-based line and letter."""
    line = record.body_line
    for chunk in record.body:
        for text in io.BytesIO(chunk):
            if FOREIGN.encode() in text.translate(table, record.ignored):
                return line, next(chr(byte) for byte in text.translate(None, record.ignored) if table[byte] == ord(FOREIGN))
            line += text.endswith(b"\n")
    raise AssertionError("no foreign letter in a record that was said to have one")


def reasons_since(ledger: Ledger, before: Counter[str]) -> str:
    """What was set aside since `before`: the ledger may span several files."""
    since = ledger.reasons - before
    return "; ".join(f"{reason}: {count}" for reason, count in since.most_common(3)) or "none was found"
