"""`llama-gene convert fetch`: public data by its source cards, complete and verified, with licences kept beside it.

Everything is planned before anything is fetched: all cards, the publishers' lists, what is here already, the free disk.
A file appears under its name only once its checksum is right; until then it is `NAME.part`, which the next run continues.
"""

import contextlib
import fnmatch
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from tqdm import tqdm

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_room, in_bytes, write_manifest
from artefacts.owner import owned
from artefacts.recipe import Recipe
from data_convert.fetch.download import UNSEEN, Client, RemoteFile, Unreachable, from_wheel, verify
from data_convert.fetch.publishers import Listing, listing
from data_convert.fetch.sources import Source, load_source

CHECKSUMS = {
    "pip": "in the card",
    "plain": "none published: nothing vouches for the first download; its SHA-256 is noted and checked from then on",
}
"""Where they are, of kinds of source without a list."""
SPARE = 1 << 26
"""Bytes of the disk that are left free."""


class FetchRecipe(Recipe):
    """Fetch public data: checksums verified, licences shown, broken downloads continued."""

    sources: list[str] = Field(min_length=1)
    """Cards of configs/sources (swissprot, trembl, refseq:ACCESSION, gue, …) or paths of your own."""
    out: Path
    """Folder that gets one folder per source; what is there already is kept."""
    only: list[str] = Field(default_factory=list)
    """Only files that match one of these patterns, such as *.dat.gz."""
    attempts: int = Field(default=6, ge=1)
    """Failures in a row, without a byte gained, before giving up."""
    wait: float = Field(default=1.0, ge=0)
    """Seconds before the second attempt, doubled for each further one."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds of silence after which a connection counts as broken."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("a source is named twice")
        return self


@dataclass(frozen=True)
class Plan:
    """One source: what its publisher has, what of it is here, what is to be fetched."""

    source: Source
    folder: Path
    found: Listing
    kept: list[RemoteFile]
    wanted: list[RemoteFile]

    def missing(self) -> int:
        """Bytes still to come, as far as the publisher says; those of .part files are here already."""
        return sum((file.size or 0) - min(file.size or 0, _bytes(self.folder / f"{file.name}.part")) for file in self.wanted)


def preview(recipe: FetchRecipe) -> None:
    """Print what would be fetched, from the cards alone: no network is used."""
    for source in map(load_source, recipe.sources):
        print(_about(source, recipe.out / source.folder))


def fetch(recipe: FetchRecipe, *, overwrite: bool = False) -> None:
    """Fetch every source into `out`/SOURCE and write its manifest.

    Args:
        overwrite: replace files that differ from what their publishers have now.

    Raises:
        UserError: unknown source, no network (the message names URL and file), refused redirect, too little disk, a file
            that differs from its publisher's, or one that is damaged (nothing of it is kept).
    """
    client = Client(recipe.attempts, recipe.wait, recipe.timeout)
    sources = [load_source(name) for name in recipe.sources]
    plans = []
    for source in sources:
        print(_about(source, recipe.out / source.folder))
        with _by_hand(source, recipe.out / source.folder):
            plans.append(_plan(source, recipe, listing(source, client), overwrite))
        print(_amount(plans[-1]))
    if needed := sum(plan.missing() for plan in plans):
        check_room(recipe.out, needed + SPARE, "what is to be fetched takes", "make room, or choose with only=[…]")
    for plan in plans:
        _fetch(plan, recipe, client)


def _about(source: Source, folder: Path) -> str:
    card = source.card
    lines = [
        f"{card.title}{f', {source.accession}' if source.accession else ''}",
        f"  licence   {card.licence} ({card.licence_url})",
        f"  cite      {card.citation}",
        f"  size      {card.size}",
        f"  from      {card.url}",
        f"  files     {', '.join(card.files)}",
        f"  checksums {card.list_url or CHECKSUMS[card.kind]}",
        f"  to        {folder}",
    ]
    return "\n".join(lines + [f"  mind      {trap}" for trap in card.traps])


def _plan(source: Source, recipe: FetchRecipe, found: Listing, overwrite: bool) -> Plan:
    folder = recipe.out / source.folder
    files = [file for file in found.files if not recipe.only or any(fnmatch.fnmatchcase(file.name, only) for only in recipe.only)]
    if not files:
        names = ", ".join(file.name for file in found.files[:5])
        raise UserError(f"only={recipe.only}: matches no file of {source.folder}, which has {names}")
    kept: list[RemoteFile] = []
    wanted: list[RemoteFile] = []
    earlier = _earlier(folder)
    for listed in files:
        path = folder / listed.name
        seen = earlier.get(listed.name, {}).get("checksum", "") if listed.checksum == UNSEEN else ""
        file = replace(listed, checksum=seen) if seen.startswith(UNSEEN) else listed
        if not path.exists():
            wanted.append(listed if overwrite else file)
            continue
        if not path.is_file():
            raise UserError(f"{path}: is no file, and one of that name is to be fetched; choose another output")
        try:
            kept.append(replace(file, checksum=verify(path, file, unpack=False)))  # gzip was unpacked when it came
        except UserError:
            if not overwrite:
                raise UserError(
                    f"{path}: not what {file.url} is now ({file.checksum}): changed there or here. Pass --overwrite to replace it, "
                    "or choose another output"
                ) from None
            wanted.append(listed)
    return Plan(source, folder, found, kept, wanted)


def _amount(plan: Plan) -> str:
    unknown = sum(file.size is None for file in plan.wanted)
    text = f"  now       {plan.found.version or 'state of today'}: {len(plan.wanted)} files to fetch, {in_bytes(plan.missing())}"
    text += f", {unknown} of unknown size" * bool(unknown) + f"; {len(plan.kept)} here already" * bool(plan.kept)
    return text + f"; it has no {', '.join(plan.found.absent)}" * bool(plan.found.absent)


def _fetch(plan: Plan, recipe: FetchRecipe, client: Client) -> None:
    earlier = _earlier(plan.folder)
    records = {file.name: earlier.get(file.name, {}) | {"checksum": file.checksum} for file in plan.kept}
    total = sum(file.size or 0 for file in plan.wanted)
    try:
        with owned(plan.folder), tqdm(total=total or None, unit="B", unit_scale=True, desc=plan.source.folder, disable=None) as bar:
            for file in plan.wanted:
                target = plan.folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with _by_hand(plan.source, plan.folder, file):
                    if plan.source.card.kind == "pip":
                        from_wheel(file, target, recipe.attempts, recipe.timeout, bar.update)
                        records[file.name] = {}
                    else:
                        records[file.name] = client.download(file, target, bar.update)
    except (KeyboardInterrupt, SystemExit):
        print(f"{plan.folder}: what is complete, and a begun .part file, stay; the same command goes on from there", file=sys.stderr)
        raise
    finally:
        _remove_empty(plan.folder, recipe.out)
    card = plan.source.card
    others = {name: it for name, it in earlier.items() if name not in records and (plan.folder / name).is_file()}
    files = [*others.values()] + [  # a choice by `only` forgets nothing of what came before
        {"path": file.name, "url": file.url, "checksum": file.checksum, "bytes": _bytes(plan.folder / file.name)}
        | {"etag": None, "last_modified": None}
        | {key: records[file.name][key] for key in ("checksum", "etag", "last_modified") if key in records[file.name]}
        for file in plan.found.files
        if file.name in records
    ]
    write_manifest(
        plan.folder,
        "fetch",
        recipe=recipe.model_dump(mode="json"),
        inputs={},
        counts={"files": len(files), "bytes": sum(_bytes(plan.folder / file["path"]) for file in files)},
        source=card.model_dump(mode="json", include={"title", "licence", "licence_url", "citation", "list_url"})
        | {"name": plan.source.folder, "version": plan.found.version},
        files=files,
    )
    checked = "all checksums right" if card.kind != "plain" else f"SHA-256 noted in {MANIFEST}, nobody vouches for what came first"
    print(f"{plan.folder}: {len(plan.wanted)} files fetched, {len(plan.kept)} kept, {checked}; licence {card.licence}")
    if card.then:
        print(f"then: {card.then.replace('{folder}', str(plan.folder))}")


@contextlib.contextmanager
def _by_hand(source: Source, folder: Path, file: RemoteFile | None = None) -> Iterator[None]:
    """Add to an error what someone without a network can do."""
    try:
        yield
    except Unreachable as error:
        if source.card.kind == "pip" and file is not None:
            remedy = (
                f"Say where pip finds packages (its index-url, or a folder as find-links); or bring that file here as {folder / file.name}"
            )
        elif file is not None:
            remedy = f"Give the same command again to go on; or bring {file.url} here by hand as {folder / file.name}"
        elif source.card.kind in ("metalink", "plain"):
            card = source.card
            remedy = "Without a network, bring by hand: " + ", ".join(f"{card.url}{name} as {folder / name}" for name in card.files)
        else:
            files = ", ".join(source.card.files)
            remedy = f"Without a network, bring {files} from {source.card.url} by hand into {folder}, or copy that folder from elsewhere"
        raise Unreachable(f"{error}. {remedy}") from None


def _earlier(folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest of an earlier run says of files that are kept."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return {file["path"]: file for file in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]}
    return {}


def _remove_empty(folder: Path, out: Path) -> None:
    """Leave no empty folders in `out` where nothing was kept."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder, *folder.parents]:
        if path == out:
            return
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
