"""Source cards: where public data lies, under which licence, and where its publisher's checksums are.

A card is a YAML file of configs/sources, or one of your own given by its path. Where no checksum is published, the first
fetch notes the SHA-256 that it saw, and later ones compare with that.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from artefacts.errors import UserError
from artefacts.recipe import Recipe, load
from configs import CONFIGS

SOURCES = CONFIGS / "sources"
ACCESSION = re.compile(r"GC[AF]_(\d{3})(\d{3})(\d{3})\.\d+")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,199}")
_WHEEL = re.compile(r"pip:[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*/", re.ASCII)


class SourceCard(Recipe):
    """One source: what it is, what its licence asks, where its files and their checksums are."""

    title: str
    licence: str
    licence_url: str
    citation: str
    size: str
    """About how much there is, for a first decision; exact sizes are shown before anything is fetched."""
    evidence: str
    """How the addresses, the licence and the checksums are known."""
    kind: Literal["metalink", "ncbi", "hub", "github", "zenodo", "pip", "plain"]
    """What the publisher's list is: UniProt's RELEASE.metalink, NCBI's md5checksums.txt (looked up by assembly accession),
    the file tree of a Hugging Face dataset, or of a GitHub repository at a commit, a Zenodo record; for `pip`, a wheel of the
    package index, `members`; for `plain`, none: lengths come from the server, and nothing vouches for the first download."""
    list_url: str = ""
    """The list; for `ncbi`, the folder below which assemblies are filed by their accessions; none for `pip` and `plain`."""
    url: str
    """What file names are appended to; for `ncbi` the same as list_url; for `pip` pip:NAME==VERSION/."""
    members: dict[str, tuple[Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")], Annotated[int, Field(ge=0)]]] = Field(
        default_factory=dict
    )
    """For `pip`: path in the wheel -> its checksum and bytes. The last part of the path becomes the file's name."""
    files: list[str] = Field(min_length=1)
    """Names, or patterns part by part (`*/*/train.csv`, `**/*.csv` at any depth); for `ncbi`, what follows the assembly's name in them."""
    folder: str = ""
    """Where the files lie below `out`, if not in a folder of the card's name: `owner/name` for datasets read by name."""
    then: str = ""
    """What is left to do by hand, such as unpacking; `{folder}` stands for the folder."""
    traps: list[str] = Field(default_factory=list)

    @field_validator("list_url", "url", "licence_url")
    @classmethod
    def _web(cls, url: str, info: ValidationInfo) -> str:
        if info.data.get("kind") == "pip":  # not known yet where the licence's address is read
            if not (_WHEEL.fullmatch(url) if info.field_name == "url" else url == ""):
                raise ValueError(f"'{url}': a card of kind pip has the url pip:NAME==VERSION/ and no list_url")
            return url
        if info.data.get("kind") == "plain" and info.field_name == "list_url" and not url:
            return url
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"'{url}' is not an http(s) address")
        return url

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if not self.url.endswith("/"):
            raise ValueError("url: ends with '/', since file names are appended to it")
        for pattern in self.files:
            safe_name(pattern if self.kind == "plain" else re.sub(r"[*?]", "x", pattern), "files")
        if self.folder:
            safe_name(self.folder, "folder")
        return self


@dataclass(frozen=True)
class Source:
    """A card as one command names it."""

    card: SourceCard
    folder: str
    """Below `out`: the card's name, for assemblies with the accession behind it."""
    accession: str | None = None


def safe_name(name: str, where: str) -> str:
    """A path below a folder, letters, digits and `_.+=-` only. Raises UserError for anything that could lead elsewhere."""
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise UserError(f"{where}: '{name}' is no plain file name; refused")
    return name


def load_source(name: str) -> Source:
    """Find a card by name (`swissprot`), with an accession (`refseq:GCF_000005845.2`), or by path (`my/own.yaml`).

    Raises:
        UserError: no such card (the nearest is named), a mistake in it, or an accession that is missing or malformed.
    """
    kind, colon, accession = (name, "", "") if name.endswith(".yaml") else name.partition(":")
    known = sorted(path.stem for path in SOURCES.glob("*.yaml"))
    if not name.endswith(".yaml") and kind not in known:
        close = difflib.get_close_matches(kind, known, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'? Known" if close else "known"
        raise UserError(f"source '{name}': no such card; {hint}: {', '.join(known)}")
    path = Path(name) if name.endswith(".yaml") else SOURCES / f"{kind}.yaml"
    card = load(SourceCard, path)
    if card.kind != "ncbi":
        if colon:
            raise UserError(f"source '{name}': only assemblies have something after a colon; write '{kind}'")
        return Source(card, card.folder or safe_name(path.stem, name))
    if path.stem != kind:
        raise UserError(f"{name}: a card of kind ncbi needs an accession, so it is used by name from configs/sources")
    if not ACCESSION.fullmatch(accession):
        raise UserError(f"source '{name}': write the assembly with its version, for example {kind}:GCF_000005845.2")
    return Source(card, f"{kind}/{accession}", accession)


def source_of(file: str) -> str | None:
    """The shipped card that fetches a file which a task names, `gue/tf/0/train.csv` or `hub:owner/name:split`; None
    where there is none."""
    wanted = re.sub(r"^hub:([^@:]+).*", r"\1", file) + "/"
    names = (path.stem for path in sorted(SOURCES.glob("*.yaml")) if path.stem != "refseq")
    return next((name for name in names if wanted.startswith(f"{load_source(name).folder}/")), None)
