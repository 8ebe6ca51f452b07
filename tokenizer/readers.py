"""Readers of FASTA and text, plain or gz: a plain loop over bytes, no dependency.

Not supported: FASTQ, GenBank, aligned FASTA (a gap is a letter outside the alphabet, so the record is set aside), line
comments with `;`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from artefacts.errors import Ledger, UserError, at
from tokenizer.alphabets import Alphabet

GZIP_MAGIC = b"\x1f\x8b"
WHITE_SPACE = b" \t\r\n\v\f"


@dataclass(frozen=True, slots=True)
class Sequence:
    """One FASTA record."""

    id: str
    """First word of the header; `line<n>` where the header is empty."""
    description: str
    """The rest of the header."""
    letters: str
    """Upper case, synonyms applied, nothing but letters of the alphabet."""
    line: int
    """1-based line of the header."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text document."""

    id: str
    text: str
    line: int
    """1-based line where it starts."""


def open_bytes(path: str | Path) -> BinaryIO:
    """Open a plain or gz file (one or several members) for reading bytes; gz is known by its first bytes, not by its name.

    Raises:
        UserError: missing, a folder, or not readable.
    """
    try:
        with open(path, "rb") as handle:
            zipped = handle.read(2) == GZIP_MAGIC
        return cast(BinaryIO, gzip.open(path, "rb")) if zipped else open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path in the recipe") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a readable file is needed") from None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their 1-based numbers, line ends kept. Raises UserError when the gz data is cut short or damaged."""
    number = 0
    with open_bytes(path) as handle:
        try:
            for number, line in enumerate(handle, 1):
                yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{at(path, number + 1)}: the gz data is cut short or damaged ({error}); fetch the file again") from None


def fasta_records(path: str | Path) -> Iterator[tuple[int, str, list[bytes]]]:
    """Line of the header, header without `>`, and the raw lines below it; nothing is validated but the format.

    Raises:
        UserError: missing or damaged file, no record at all, or the first letter of the file is not `>`.
    """
    header: str | None = None
    start, body = 0, list[bytes]()
    for number, line in numbered_lines(path):
        if line[0] == 62:  # '>'
            if header is not None:
                yield start, header, body
            header, start, body = line[1:].decode("utf-8", "replace").strip(), number, []
        elif header is not None:
            body.append(line)
        elif line.strip(WHITE_SPACE):
            shown = line[:30].decode("utf-8", "replace").strip()
            raise UserError(f"{at(path, number)}: not FASTA: expected a header that starts with '>', found '{shown}'")
    if header is None:
        raise UserError(f"{at(path, 1)}: no sequence record: the file is empty; remove it from the recipe or fetch it again")
    yield start, header, body


def read_fasta(path: str | Path, alphabet: Alphabet, ledger: Ledger) -> Iterator[Sequence]:
    """Read a FASTA file: wrapped or one line per sequence, LF or CRLF, either case, blank lines allowed.

    A record that is empty or has a letter outside the alphabet is set aside in `ledger` with file:line.

    Raises:
        UserError: missing, damaged, empty, or not a FASTA file; or not one usable record in it.
    """
    table, foreign_to = _translation(alphabet)
    before, written = ledger.reasons.copy(), 0
    for start, header, body in fasta_records(path):
        ledger.read += 1
        letters = b"".join(body).translate(table, WHITE_SPACE)
        if not letters:
            ledger.reject("empty sequence", at(path, start))
        elif letters.translate(None, foreign_to):
            ledger.reject(f"letter outside {alphabet.name}", _first_foreign(path, start, body, table, foreign_to))
        else:
            written += 1
            ledger.written += 1
            name, description = [*header.split(None, 1), "", ""][:2]
            yield Sequence(name or f"line{start}", description, letters.decode("ascii"), start)
    if not written:
        raise UserError(f"{path}: not one usable {alphabet.name} record: {_reasons(ledger, before)}. Is this file {alphabet.name}?")


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
        raise UserError(f"{path}: not one usable text document: {_reasons(ledger, before)}; mend the file or remove it from the recipe")


def _json_lines(path: str | Path, ledger: Ledger) -> Iterator[tuple[int, str, str]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        ledger.read += 1
        try:
            record = json.loads(line)
        except ValueError:  # bytes that are not UTF-8 raise UnicodeDecodeError, which is one
            ledger.reject("not a JSON line", at(path, number))
            continue
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            ledger.reject("no 'text' field", at(path, number))
            continue
        yield number, str(record.get("id", "")), record["text"]


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


@cache
def _translation(alphabet: Alphabet) -> tuple[bytes, bytes]:
    """Byte table (lower to upper case, synonyms) and the alphabet's letters, to be deleted in search of foreign ones."""
    table = bytearray(range(256))
    for letter in alphabet.letters:
        table[ord(letter.lower())] = ord(letter)
    for letter, meant in alphabet.synonyms.items():
        table[ord(letter)] = table[ord(letter.lower())] = ord(meant)
    return bytes(table), alphabet.letters.encode("ascii")


def _first_foreign(path: str | Path, start: int, body: list[bytes], table: bytes, letters: bytes) -> str:
    for number, line in enumerate(body, start + 1):
        if foreign := line.translate(table, WHITE_SPACE).translate(None, letters):
            return f"{at(path, number)} ('{foreign[:1].decode('latin-1')}')"
    raise AssertionError("no foreign letter in a record that was said to have one")


def _reasons(ledger: Ledger, before: Counter[str]) -> str:
    """What was set aside since `before`: the ledger may span several files."""
    since = ledger.reasons - before
    return "; ".join(f"{reason}: {count}" for reason, count in since.most_common(3)) or "it is empty"
