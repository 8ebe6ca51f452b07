"""Output folders that are complete or absent, each with a manifest that says how it came to be.

A stage writes into a hidden sibling of its output and renames it when everything, the manifest included, is on disk.
Ctrl-C, an exception or a full disk remove the temporary folder; a power cut leaves a `.name.partial-*` beside the
output, never a half-written output.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from artefacts.errors import UserError

MANIFEST = "manifest.json"
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


def check_absent(out: str | Path, overwrite: bool = False) -> None:
    """Refuse an output that exists, before any expensive work starts."""
    if Path(out).exists() and not overwrite:
        raise UserError(f"{out}: already exists. Choose another output, remove it, or pass --overwrite.")


@contextlib.contextmanager
def new_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends without an exception.

    Raises:
        UserError: `out` exists and `overwrite` is off.
    """
    out = Path(out)
    check_absent(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private; an artefact is as readable as any other file
        yield temporary
        with _undisturbed():
            _put_in_place(temporary, out)
    except BaseException:
        with _undisturbed():
            shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def new_file(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """The same for a single file."""
    out = Path(out)
    check_absent(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, out)
    except BaseException:
        with _undisturbed():
            temporary.unlink(missing_ok=True)
        raise


def _put_in_place(temporary: Path, out: Path) -> None:
    if not out.exists():
        temporary.rename(out)
        return
    # rename(2) cannot replace a folder that is not empty: set the old one aside first, so that one of them always exists.
    old = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    out.rename(old)
    try:
        temporary.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore further Ctrl-C and SIGTERM while outputs are put in place or removed: launchers and impatient people send several."""
    if threading.current_thread() is not threading.main_thread():  # Python runs handlers, and sets them, in the main thread only
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def write_manifest(target: Path, stage: str, *, recipe: Any, inputs: dict[str, str], counts: dict[str, Any], **extra: Any) -> None:
    """Write what made this artefact, from what, with which versions, and what was counted.

    Args:
        target: a folder, which gets a `manifest.json`, or a single file, which gets a `<file>.manifest.json` beside it.
        inputs: name -> fingerprint of each input artefact (see `fingerprint`).
        counts: ledgers and totals.
    """
    document = {
        "stage": stage,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "packages": package_versions(),
        "recipe": recipe,
        "inputs": inputs,
        "counts": counts,
        **extra,
    }
    with new_file(manifest_path(target), overwrite=True) as path:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def manifest_path(target: Path) -> Path:
    """Where the manifest of an artefact, folder or file, is."""
    return target / MANIFEST if target.is_dir() else target.with_name(f"{target.name}.{MANIFEST}")


def read_manifest(folder: str | Path, stage: str | None = None) -> dict[str, Any]:
    """Read a stage's manifest. Raises UserError if the folder is no finished artefact, or of another stage."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: not a finished artefact (no {MANIFEST}). Run the stage that makes it first.")
    manifest = json.loads(path.read_text(encoding="utf-8"))
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
