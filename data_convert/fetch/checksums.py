"""Is a file what its publisher says? Size, checksum and gzip structure, in one reading."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts.errors import UserError

CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """What a publisher's list says of one file."""

    name: str
    """Path below the source's folder, `/` between its parts."""
    url: str
    checksum: str
    """`md5:…`, `sha256:…`, or `git-sha1:…`, the name git gives to a file's contents."""
    size: int | None = None
    """Bytes; None where the list does not say."""


def verify(path: Path, file: RemoteFile, *, unpack: bool) -> None:
    """Read a file through once. Raises UserError when size, checksum or, with `unpack`, gzip structure are not right."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise UserError(f"{file.url}: {size} bytes, but its publisher's list says {file.size}; not kept")
    kind, _, expected = file.checksum.partition(":")
    # against damage, not against an enemy: that is what https is for
    digest = hashlib.new(kind.removeprefix("git-"), f"blob {size}\0".encode() if kind == "git-sha1" else b"", usedforsecurity=False)
    packed = _Gzip() if unpack else None
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
            if packed:
                packed.feed(chunk)
    if digest.hexdigest() != expected:
        raise UserError(f"{file.url}: damaged on the way: its {kind} is {digest.hexdigest()}, its publisher says {expected}; not kept")
    if packed and (damage := packed.damage()):
        raise UserError(f"{file.url}: damaged at its publisher's, whose checksum it has: {damage}; not kept")


class _Gzip:
    """Unpacks to nowhere, member by member, in constant memory."""

    def __init__(self) -> None:
        self._member: Any = None
        self._members = 0
        self._error: str | None = None

    def feed(self, data: bytes) -> None:
        try:
            while data and self._error is None:
                if self._member is None:
                    data = data.lstrip(b"\0") if self._members else data  # padding after a member is allowed
                    if not data:
                        return
                    self._member, self._members = zlib.decompressobj(wbits=31), self._members + 1
                self._member.decompress(data, CHUNK)
                data = self._member.unconsumed_tail
                if self._member.eof:
                    data, self._member = self._member.unused_data, None
        except zlib.error as error:
            self._error = f"not gzip throughout ({error})"

    def damage(self) -> str | None:
        if self._error or self._member is None:
            return self._error or (None if self._members else "an empty gzip file")
        return "a gzip file without its end"
