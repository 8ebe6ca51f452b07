"""Output folders that are complete or absent, each with a manifest that says how it came to be.

A stage writes into a hidden sibling of its output and renames it when everything, the manifest included, is on disk.
Ctrl-C, an exception or a full disk remove the temporary folder; SIGKILL or a power cut leave a `.name.partial-*` beside the
output, which the next run names and removes, never a half-written output.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from artefacts.children import handled
from artefacts.errors import UserError
from artefacts.hub import pinned
from artefacts.owner import State, check_unchanged, noted, owned, place_of, state_of

MANIFEST = "manifest.json"
OF_MODELS = ("config.json", "adapter_config.json", "head.json")
"""A folder with one of these holds weights, whose hashes its manifest notes."""
MOST_NOTED = 1 << 30
"""Bytes of an artefact up to which the hashes of its files are noted: shards and stores are larger."""
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "trl",
    "deepspeed",
    "accelerate",
    "datasets",
    "sentencepiece",
    "numpy",
    "scikit-learn",
)


def check_absent(out: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse an output that exists, before any expensive work starts.

    Args:
        overwrite: it may be replaced, if it is an artefact of ours (has a manifest, or is empty) and holds none of the inputs.
    """
    out = Path(out)
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f"{out}: already exists. Choose another output, remove it, or pass --overwrite.")
    check_no_input(out, inputs)
    if not _is_ours(out):
        raise UserError(
            f"{out}: has no {manifest_path(out).name} of llama-gene, so --overwrite does not remove it; choose another output, or "
            "remove it yourself"
        )


def check_no_input(out: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse to remove an output that is, or holds, what the command reads."""
    place = place_of(out)
    for path in inputs:
        if place in (place_of(path), *place_of(path).parents):
            raise UserError(f"{out}: is or holds {path}, which this command reads, so it is not removed; choose another output")


def _is_ours(out: Path) -> bool:
    if out.is_dir() and not any(out.iterdir()):
        return True
    found = read_noted(manifest_path(out))
    return found is not None and {"stage", "recipe", "created"} <= found.keys()


def check_room(out: Path, needed: int, what: str, remedy: str) -> None:
    """Raise UserError where the disk of an output has less room than so many bytes."""
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    if needed > (free := shutil.disk_usage(place).free):
        raise UserError(f"{out}: {what} {in_bytes(needed)}, but only {in_bytes(free)} of disk are free; {remedy}")


@contextlib.contextmanager
def new_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends without an exception.

    Raises:
        UserError: `out` exists and `overwrite` is off, or it is none of ours; somebody is at work there; it appeared meanwhile.
    """
    out = Path(out)
    with owned(out):
        check_absent(out, overwrite)
        temporary, before = _temporary(out), state_of(out)
        temporary.mkdir()
        with _whole(temporary):
            yield temporary
            allowed = temporary.stat().st_mode & 0o666  # what the umask leaves; safetensors writes for its owner alone
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    file.chmod(file.stat().st_mode | allowed)
            with handled(signal.SIG_IGN):  # launchers and impatient people send several
                put_in_place(temporary, out, before)


@contextlib.contextmanager
def new_file(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """The same for a single file, for whoever holds it; with `overwrite`, any file of that name is replaced."""
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder, and a file is to be written; choose another output")
    if not overwrite:
        check_absent(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary, before = _temporary(out), state_of(out)
    with _whole(temporary):
        yield temporary
        put_in_place(temporary, out, before)


def _temporary(out: Path) -> Path:
    """What becomes an output, until it is whole."""
    return out.with_name(f".{out.name}.partial-{os.getpid()}")


@contextlib.contextmanager
def _whole(temporary: Path) -> Iterator[None]:
    """Remove it when anything goes wrong."""
    try:
        yield
    except BaseException:
        with handled(signal.SIG_IGN):  # launchers and impatient people send several
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
        raise


def put_in_place(temporary: Path, out: Path, before: State) -> None:
    """Flush what is complete to the disk, and give it its name. What is replaced goes afterwards.

    Args:
        before: `state_of(out)` when the work began.

    Raises:
        UserError: since then something appeared or was changed there.
    """
    flush(temporary)
    check_unchanged(out, before)
    if not (temporary.is_dir() and out.is_dir()):
        os.replace(temporary, out)
        old = None
    else:
        # rename(2) cannot replace a folder that is not empty: the old one is set aside first, where the next run would find it
        old = out.with_name(f".{out.name}.replaced-{os.getpid()}")
        out.rename(old)
        try:
            temporary.rename(out)
        except BaseException:
            old.rename(out)
            raise
    flush_folder(out.parent)
    noted(out)
    if old is not None:
        shutil.rmtree(old)


def discard(work: Path, out: Path) -> None:
    """Remove what an output was made from, once that is in place; where this is cut short, the next run does it."""
    aside = _temporary(out)
    work.rename(aside)
    shutil.rmtree(aside)


def flush(path: Path) -> None:
    """Have a file, or all files and folders of a folder, on the disk itself: a power cut does not undo it."""
    folders = [path] if path.is_dir() else []
    for file in [path] if not folders else path.rglob("*"):
        if file.is_dir():
            folders.append(file)
        elif file.is_file():
            flush_folder(file)
    for folder in folders:
        flush_folder(folder)


def flush_folder(path: Path) -> None:
    """The names in a folder (or the bytes of one file) alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


SEAL = "sha256.json"
"""Of a sealed folder: name of each file -> its SHA-256."""


def seal(folder: Path) -> None:
    """Note the hash of every file, so that damage shows."""
    document = json.dumps(_hashes(folder), indent=1)
    (folder / SEAL).write_text(document + "\n", encoding="utf-8")


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder; None where every file is as it was. Files that came later are not looked at."""
    try:
        noted = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        found = _hashes(folder, noted)
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(folder)} is missing"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"cannot be read ({error})"
    return next((f"{name} is damaged" for name in noted if found[name] != noted[name]), None)


def sound(folder: Path) -> bool:
    """Whether a sealed folder is there and whole; says so where it is damaged, and is made again."""
    if not folder.is_dir():
        return False
    if wrong := damage(folder):
        print(f"{folder}: {wrong}; made again", file=sys.stderr)
    return wrong is None


def check_weights_intact(*files: Path) -> None:
    """Refuse weights whose bytes are no longer those that their folder's manifest notes: a flipped bit
    opens, and answers otherwise. Files that no manifest of ours notes pass. Raises UserError."""
    for file in files:
        manifest, noted = file.parent / MANIFEST, noted_part(file.parent, "weights").get(file.name)
        if noted is not None and _hashes(file.parent, [file.name]) != {file.name: noted}:
            raise UserError(
                f"{file}: not the weights that {manifest} notes: damaged, or changed since; make or copy the "
                "folder again, or take `weights` out of its manifest if this was meant"
            )


def changed_files(path: Path) -> list[Path]:
    """Files of an artefact, or of a part of one, that are missing or no longer have the bytes that its manifest notes."""
    for manifest in (manifest_path(path), *(folder / MANIFEST for folder in path.parents[:3])):
        noted = (read_noted(manifest) or {}).get("sha256")
        if isinstance(noted, dict):
            mine = [name for name in noted if path in (manifest.parent / name, *(manifest.parent / name).parents)]
            found = _hashes(manifest.parent, [name for name in mine if os.path.isfile(manifest.parent / name)])
            return [manifest.parent / name for name in mine if found.get(name) != noted[name]]
    return []


def _hashes(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Name -> SHA-256 of these files of a folder, by default of all."""
    if names is None:
        names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = sorted(names)

    def digest(name: str) -> str:
        with (folder / name).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock: as fast as the disk
        return dict(zip(names, pool.map(digest, names), strict=True))


def write_manifest(target: Path, stage: str, *, recipe: Any, inputs: dict[str, str], counts: dict[str, Any], **extra: Any) -> None:
    """Write what made this artefact, from what, with which versions, and what was counted. That of a file is written before the file
    has its name: whoever finds the one finds the other.

    Args:
        target: a folder, which gets a `manifest.json`, or a single file, which gets a `<file>.manifest.json` beside it.
        inputs: name -> fingerprint of each input artefact (see `fingerprint`).
        counts: ledgers and totals.

    The hash of each file is noted too: of a model's weights for `check_weights_intact`, of the others, where they are no more
    than MOST_NOTED bytes, for `changed_files`.
    """
    commits = pinned(recipe)
    document: dict[str, Any] = {
        "stage": stage,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "packages": package_versions(),
        "recipe": recipe,
        "inputs": inputs,
        "counts": counts,
        **({"hub": commits} if commits else {}),
        **extra,
    }
    if any((target / name).is_file() for name in OF_MODELS):
        names = [path.name for path in target.glob("*.safetensors")]
        document["weights"] = _hashes(target, names)
    if target.is_dir():
        left_out, files = (MANIFEST, *document.get("weights", ())), [path for path in target.rglob("*") if path.is_file()]
        # what begins with a dot another process is about to name: stores are shared
        names = [str(path.relative_to(target)) for path in files if path.name[0] != "." and path.name not in left_out]
        if sum((target / name).stat().st_size for name in names) <= MOST_NOTED:
            document["sha256"] = _hashes(target, names)
    elif (made := _temporary(target)).is_file():
        document["sha256"] = {target.name: _hashes(made.parent, [made.name])[made.name]}
    with new_file(manifest_path(target), overwrite=True) as path:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def manifest_path(target: Path) -> Path:
    """Where the manifest of an artefact, folder or file, is."""
    return target / MANIFEST if target.is_dir() else target.with_name(f"{target.name}.{MANIFEST}")


def parsed_json(text: str | bytes) -> Any:
    """A JSON text as values that can be written again. Raises ValueError for anything else, brackets without
    end and half a character (\\ud800), which JSON can spell, included."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("more brackets in one another than can be read") from None
    if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
        json.dumps(found, ensure_ascii=False).encode()
    return found


def read_json(path: Path, remedy: str, kind: type = object) -> Any:
    """What a JSON file holds. Raises UserError, with the remedy, where it is none, or not of that kind."""
    try:
        found = parsed_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(found, kind):
        raise UserError(f"{path}: no JSON {'object' if kind is dict else kind.__name__}; {remedy}")
    return found


def read_noted(path: Path) -> dict[str, Any] | None:
    """What a file of ours notes, or where it should be; None where there is no JSON object."""
    try:
        found = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def noted_part(folder: Path, name: str) -> dict[str, Any]:
    """A section of a folder's manifest; empty where there is no manifest, or no such section.
    Raises UserError where the manifest is no JSON: what it notes would go unchecked."""
    path = folder / MANIFEST
    found = read_json(path, "make or copy the folder again") if path.is_file() else None
    part = found.get(name) if isinstance(found, dict) else None
    return part if isinstance(part, dict) else {}


def write_json(path: Path, document: Any) -> None:
    """Put JSON in place of what was there."""
    with new_file(path, overwrite=True) as file:
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path, stage: str | None = None) -> dict[str, Any]:
    """Read a stage's manifest. Raises UserError if the folder is no finished artefact, or of another stage."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: not a finished artefact (no {MANIFEST}). Run the stage that makes it first.")
    manifest = read_json(path, "make the artefact again")
    parts = {"stage": str, "recipe": dict, "inputs": dict, "counts": dict}
    if wrong := [name for name, kind in parts.items() if not isinstance(manifest, dict) or not isinstance(manifest.get(name), kind)]:
        raise UserError(f"{path}: no manifest ({wrong[0]} is missing, or of another kind); make the artefact again")
    if stage is not None and manifest["stage"] != stage:
        raise UserError(f"{folder}: made by stage '{manifest['stage']}', but '{stage}' is needed here")
    return manifest


def fingerprint(*paths: str | Path) -> str:
    """SHA-256 (16 hex digits) over names and contents of the files given; folders are walked, manifests left out."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.name == MANIFEST:
                continue
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())  # or a file's end could pass for the next one's name
            with file.open("rb") as handle:
                while chunk := handle.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()[:16]


def package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@cache
def git_commit() -> str:
    """Commit of the project's checkout with `+changes` if it is not clean; 'unknown' outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names whose values differ between two sets of settings, absent ones taken as None."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def in_bytes(size: float) -> str:
    """As a reader takes it in: 512 B, 34.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
