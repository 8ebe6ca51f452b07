"""What a publisher has now: its own list of files, with their lengths and checksums, in any of five forms, or the card's own.

Names in a list are taken for paths only where they match the card's patterns and are plain (`sources.safe_name`).
"""

import fnmatch
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

from artefacts.errors import UserError
from artefacts.folder import MANIFEST
from data_convert.fetch.download import UNSEEN, Client, RemoteFile, redirected
from data_convert.fetch.sources import ACCESSION, Source, SourceCard, safe_name

_DIGITS = {"md5": 32, "git-sha1": 40, "sha256": 64, "seen-sha256": 0}
"""Hexadecimal digits of each kind of checksum."""


@dataclass(frozen=True)
class Listing:
    """What a publisher has now."""

    files: list[RemoteFile]
    version: str | None = None
    """Its own name for this state: a release, an assembly, a commit."""
    absent: tuple[str, ...] = ()
    """Kinds of file that this assembly does not have."""


def listing(source: Source, client: Client) -> Listing:
    """Ask the publisher which of the card's files there are, how long, and with which checksums.

    Raises:
        UserError: not reachable, no such list, or a file of the card that the list does not have.
    """
    card = source.card
    if card.kind == "ncbi":
        return _assembly(source, client)
    where = card.list_url or card.url
    readers = {"metalink": _metalink, "hub": _hub, "github": _github, "zenodo": _zenodo, "pip": _wheel, "plain": _plain_files}
    entries, version = readers[card.kind](card, client)
    chosen = []
    for pattern in card.files:
        found = [name for name in entries if _matches(name, pattern)]
        if not found:
            raise UserError(f"{where}: nothing named '{pattern}' there any more; the card needs mending")
        chosen += [name for name in found if name not in chosen]
    names = [safe_name(name, where) for name in chosen]
    if card.kind == "pip":  # a package's own folder says nothing
        names = [name.rpartition("/")[2] for name in names]
    files = [_file(name, card.url + quote(there), *entries[there], where) for name, there in zip(names, chosen, strict=True)]
    _check_together(names, where)
    return Listing(files, version)


def _check_together(names: list[str], where: str) -> None:
    """Refuse names that would get in each other's way, or in ours, on some disk."""
    taken = {MANIFEST}
    for name in sorted(names):
        low = name.lower()
        if low in taken or low.endswith((".part", ".part.json")) or any(str(above) in taken for above in PurePosixPath(low).parents):
            raise UserError(f"{where}: '{name}' collides with another file of that name; refused")
        taken.add(low)


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    if wanted[0] == "**":
        parts, wanted = parts[-len(wanted) + 1 :], wanted[1:]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _file(name: str, url: str, checksum: str, size: Any, where: str) -> RemoteFile:
    kind, _, digits = checksum.partition(":")
    if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS.get(kind, 64)}}}", digits) or not (size is None or (isinstance(size, int) and size >= 0)):
        raise UserError(f"{where}: no {kind} checksum or size that can be used for '{name}'")
    return RemoteFile(name, url, checksum, size)


Entries = dict[str, tuple[str, int | None]]
"""name -> (checksum, bytes)"""


def _wheel(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    return {**card.members}, card.url.removeprefix("pip:").rstrip("/")


def _plain_files(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    return {name: (UNSEEN, client.size(card.url + quote(name))) for name in card.files}, None


def _metalink(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    text, _ = client.text(card.list_url)
    entries: Entries = {}
    try:
        if "<!DOCTYPE" in text:  # entities could unfold to any size
            raise ET.ParseError("a document type, which no metalink has")
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise UserError(f"{card.list_url}: no metalink ({error}); is this network's login page in the way?") from None
    for item in root.iterfind(".//{*}file"):
        size = item.findtext("{*}size") or ""
        for checksum in item.iterfind(".//{*}hash"):
            if checksum.get("type") == "md5" and checksum.text:
                entries[item.get("name", "")] = (f"md5:{checksum.text.strip().lower()}", int(size) if size.strip().isdigit() else None)
    return entries, _plain(root.findtext("{*}version") or "") or None


class _Lfs(BaseModel):
    oid: str


class _Item(BaseModel):
    type: str
    path: str
    oid: str = ""
    """What git calls its contents, at the hub; GitHub says `sha`."""
    sha: str = ""
    size: int | None = None
    lfs: _Lfs | None = None


class _GitTree(BaseModel):
    truncated: bool
    tree: list[_Item]


class _Deposit(BaseModel):
    key: str
    size: int | None = None
    checksum: str = ""


class _Record(BaseModel):
    files: list[_Deposit]


def _zenodo(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    found = _parsed(_Record, client.text(card.list_url)[0], card.list_url)
    return {file.key: (file.checksum, file.size) for file in found.files}, _revision(card)


def _hub(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    entries: Entries = {}
    page, seen = card.list_url, set[str]()
    while page not in seen:
        seen.add(page)
        text, headers = client.text(page)
        for item in _parsed(list[_Item], text, page):
            if item.type == "file":  # large files carry their SHA-256, small ones what git calls them
                entries[item.path] = (f"sha256:{item.lfs.oid}" if item.lfs else f"git-sha1:{item.oid}", item.size)
        following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
        if following is None:
            return entries, _revision(card)
        page = redirected(page, following[1])
    raise UserError(f"{card.list_url}: a list that goes round in a circle")


def _github(card: SourceCard, client: Client) -> tuple[Entries, str | None]:
    found = _parsed(_GitTree, client.text(card.list_url)[0], card.list_url)
    if found.truncated:
        raise UserError(f"{card.list_url}: too many files for one list; the card needs a narrower one")
    return {item.path: (f"git-sha1:{item.sha}", item.size) for item in found.tree if item.type == "blob"}, _revision(card)


def _plain(text: str) -> str:
    """What a server says, fit for a terminal."""
    return "".join(letter for letter in text.strip()[:200] if letter.isprintable())


def _revision(card: SourceCard) -> str:
    return urlsplit(card.list_url).path.rpartition("/")[2]


def _parsed(kind: Any, text: str, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError:
        raise UserError(f"{where}: not the list expected; is this network's login page in the way?") from None


def _assembly(source: Source, client: Client) -> Listing:
    """NCBI files GCF_000005845.2 under GCF/000/005/845/GCF_000005845.2_ASM584v2/, where only the listing knows the last part."""
    accession = source.accession or ""
    thousands = ACCESSION.fullmatch(accession)
    assert thousands is not None, "load_source checks accessions"
    above = f"{source.card.list_url}{accession[:3]}/{'/'.join(thousands.groups())}/"
    text, _ = client.text(above)
    links = {_plain(unquote(link)) for link in re.findall(r'href="([^"?/]+)/"', text)}
    folders = sorted(link for link in links if link.startswith(f"{accession}_"))
    if len(folders) != 1:
        others = ", ".join(sorted(link for link in links if link.startswith("GC"))) or "no assembly"
        raise UserError(f"{above}: no folder of {accession} there, only {others}; check the accession and its version")
    folder = urljoin(above, f"{quote(folders[0])}/")
    text, _ = client.text(f"{folder}md5checksums.txt")
    sums = {line[2]: line[1] for line in re.finditer(r"^([0-9a-f]{32}) [ *](?:\./)?(\S+)$", text, re.MULTILINE)}
    files, absent = [], []
    for ending in source.card.files:
        there = f"{folders[0]}_{ending}"
        if there not in sums:
            absent.append(ending)
            continue
        url = folder + quote(there)
        # named by the accession alone: names of a server are no paths here
        files.append(_file(f"{accession}_{ending}", url, f"md5:{sums[there]}", client.size(url), folder))
    if not files:
        raise UserError(f"{folder}md5checksums.txt: none of {', '.join(absent)}; NCBI has withdrawn or suppressed old versions like that")
    return Listing(files, folders[0], tuple(absent))
