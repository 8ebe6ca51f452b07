"""Bytes of a file as blocks of whole lines: plain or gz, one kind of line end, data of other kinds refused by name.

- gz is known by its first bytes, one member or several.
- Line ends `\n`, `\r\n` and `\r` come out as `\n`; a byte-order mark is dropped.
- Compressed, packed and binary data (TELLTALES, or many zero bytes) and UTF-16 are refused: their bytes hold letters enough to
  pass for sequence.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from artefacts.errors import UserError, at

Line = tuple[int, bytes]
"""1-based number, and the line with its end."""
GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK = 1 << 18
"""Bytes read at once: large enough that Python's own work per block does not count, small enough for the cache."""
MOST_ZEROS = 0.02
"""Share of zero bytes from which a file is taken for binary data, or UTF-16."""
FEW_ZEROS = 4
UNPACK = "unpack it and give the files inside"
TELLTALES = (
    (0, b"\x28\xb5\x2f\xfd", "zstd data", "unpack it with `zstd -d`"),
    (0, b"\xfd7zXZ\0", "xz data", "unpack it with `xz -d`"),
    *((0, b"BZh%d1AY&SY" % level, "bz2 data", "unpack it with `bzip2 -d`") for level in range(1, 10)),
    (0, GZIP_MAGIC, "gz data inside gz data", "unpack it once with `gzip -d`"),
    (0, b"\x04\x22\x4d\x18", "lz4 data", "unpack it with `lz4 -d`"),
    (0, b"\x1f\x9d", "data of `compress`", "unpack it with `gzip -d`"),
    (0, b"PK\x03\x04", "a zip archive (or an Excel file)", f"{UNPACK}, or save the sheet as CSV"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!", "a rar archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"BAM\x01", "BAM", "write FASTA with `samtools fasta`"),
    (0, b"CRAM\x02", "CRAM", "write FASTA with `samtools fasta`"),
    (0, b"CRAM\x03", "CRAM", "write FASTA with `samtools fasta`"),
    (0, b"\x43\x27\x41\x1a", "2bit", "write FASTA with `twoBitToFa`"),
    (0, b"\x1a\x41\x27\x43", "2bit", "write FASTA with `twoBitToFa`"),
    (0, b"PAR1", "parquet", "write CSV or JSON lines"),
    (0, b"ARROW1", "Arrow data", "write CSV or JSON lines"),
    (0, b"%PDF", "a PDF", "give the text itself"),
    (0, b"\x89PNG", "a PNG picture", "give the data itself"),
    (0, b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (0, b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
)  # fmt: skip
"""Place, bytes found there, what such a file is, and what its owner can do."""


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
    """The file's content in blocks of whole lines, as the module says.

    `progress` is called with the number of bytes of the file, as it lies on the disk, that were read since the last call
    (`tqdm.update` fits); the calls add up to the file's size.

    Raises:
        UserError: missing file, gz data cut short or damaged, or a file of another kind.
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
                if not lines:
                    refuse_foreign(path, block)
                    block = block.removeprefix(BYTE_ORDER_MARK)
                if b"\r" in block:
                    block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                yield block
                lines += block.count(b"\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{at(path, lines + 1)}: the gz data is cut short or damaged ({error}); fetch the file again") from None


def refuse_foreign(path: str | Path, head: bytes) -> None:
    """Raise UserError where the first bytes of a file are known to be no text."""
    for place, telltale, kind, remedy in TELLTALES:
        if head.startswith(telltale, place):
            raise UserError(f"{at(path, 1)}: this is {kind}, which is not read here; {remedy}")
    zeros = head[:4096].count(0)
    if zeros > MOST_ZEROS * len(head[:4096]) and zeros > FEW_ZEROS:
        line = head.count(b"\n", 0, head.index(0)) + 1
        raise UserError(f"{at(path, line)}: binary data, which is not read here; give text")


def numbered_lines(path: str | Path) -> Iterator[Line]:
    """Lines with their 1-based numbers, line ends kept. Raises UserError as `blocks` does."""
    return lines_of(blocks(path))


def lines_of(content: Iterable[bytes]) -> Iterator[Line]:
    """Numbered lines of blocks that end at line ends."""
    number = 1
    for block in content:
        yield from enumerate(io.BytesIO(block), number)
        number += block.count(b"\n")


def with_head(content: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first blocks up to one that is not blank, and all blocks, those included."""
    head = b""
    for block in content:
        head += block
        if head.strip():
            break
    return head, chain([head], content)


class Lines:
    """Lines, some of which can be put back."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> Line:
        return self._again.popleft() if self._again else next(self._lines)

    def back(self, lines: list[Line]) -> None:
        self._again.extendleft(reversed(lines))

    def next_filled(self) -> Line | None:
        for line in self:
            if line[1].strip():
                return line
        return None
