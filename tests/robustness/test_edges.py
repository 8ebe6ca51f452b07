"""Every long command with outputs that cannot be, on a full disk, and with damaged inputs: one clear line each, and nothing lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_way import COMMANDS, KILLS, LONG, Runs

import llama_gene
from artefacts.command import guarded
from artefacts.inputs import broken_input

CANNOT_BE = [
    *("/proc/self/x", "/dev/null/x", "", ".", "/", "..", "a" * 300, "bad\udcff", "nul\0x", "~", "~/x"),
    *("@file/x", "@file", "@folder", "@dangling", "@loop", "@loop/x", "@to-file", "@pipe", "@socket", "@folder/.."),
    "@" + "d/" * 1500 + "x",
]
OWN_FORM = ("metrics.json", "losses.json", "head.json", "figures.json")
"""Documents of ours that are written and read whole: cut or replaced they are told, a figure edited by hand is not."""
ADDING = {"embedded": {"@folder"}, "luca.csv": set()}
"""Commands that add to what is there: outputs that they take."""


def given(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit code and lines on stderr of a command in this process. A traceback fails the test."""
    capsys.readouterr()
    code = llama_gene.main(words)
    return code, capsys.readouterr().err.strip().splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_cannot_be_is_refused_in_one_line(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("file", "folder/mine.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("mine\n")
    for link, to in {"dangling": "nowhere", "loop": "loop", "to-file": "file"}.items():
        (tmp_path / link).symlink_to(tmp_path / to)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    before = sorted(tmp_path.rglob("*"))
    for out in CANNOT_BE:
        if out in ADDING.get(name, ()):
            continue
        code, said = given([*runs.words(name), "--out", out.replace("@", f"{tmp_path}/", 1)], capsys)
        assert (code, len(said)) == (2, 1), (out[:50], said)
        assert said[0].startswith("error: "), (out[:50], said)
        assert sorted(tmp_path.rglob("*")) == before, out[:50]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "mine.txt").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["dna", "report.html"])
def test_any_name_that_can_be_is_taken(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    runs.make(name)
    for out in ("a+b %s {x} #1", "null", "x\ny"):
        place = tmp_path / out / f"{out}{Path(name).suffix}"
        code, said = given([*runs.words(name), f"--out={place}"], capsys)
        assert code == 0, (out, said)
        assert place.exists()


NO_TORCH = ("organism", "records")
"""Commands that little memory is tried on. Threads of other libraries wait or try for ever where they cannot start."""
FULL_AFTER = [1 << power for power in range(0, 22, 2)] if LONG else [8_000, 40_000]
LIMITS = [(name, {"largest": size}) for name in COMMANDS for size in FULL_AFTER]
LIMITS += [(name, {"memory": size << 20}) for name in NO_TORCH for size in ((1, 2, 4, 8, 16, 32) if LONG else (1, 8))]


@pytest.mark.parametrize(("name", "limit"), LIMITS, ids=str)
def test_a_full_disk_or_memory_is_one_line_and_no_half_output(runs: Runs, name: str, limit: dict[str, int]) -> None:
    runs.make(name)
    aside = runs.folder / "aside"
    aside.mkdir()
    for path in runs.outputs(name):
        shutil.move(path, aside)
    try:
        code, _ = runs.call(name, **limit)
        told, left = runs.told(name), [path.name for path in runs.outputs(name) if not path.name.endswith((".checkpoints", ".partial"))]
        assert "Traceback" not in told, told
        if code != 0:
            words = "out of memory" if "memory" in limit else "(too large|the disk full|make room)"
            assert code in (1, 2), told
            assert re.search(rf"^error: .*{words}", told, re.MULTILINE), told
            assert left == [] or name in ADDING  # whose finished rows stay
    finally:
        for path in runs.outputs(name):
            (shutil.rmtree if path.is_dir() else os.unlink)(path)
        for path in aside.iterdir():
            shutil.move(path, runs.folder)
        aside.rmdir()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes."
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.1 GiB"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
    ids=str,
)
def test_no_memory_is_one_line_whoever_says_so(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    assert guarded(work) == 1
    assert capsys.readouterr().err.startswith("error: out of memory")


def damaged(path: Path) -> Iterator[bytes]:
    """A file cut short, overwritten, and with each of its first values missing or of another kind."""
    content = path.read_bytes()
    yield from (b"", content[: len(content) // 2], random.Random(0).randbytes(200))
    if path.suffix not in (".json", ".jsonl"):
        return
    yield from (b"null", b"[]", b"{}", b"3", b'"x"', b"[{}]")
    if path.name in OWN_FORM:
        return
    first, *rest = content.splitlines() if path.suffix == ".jsonl" else [content]
    for document in edits(json.loads(first)):
        yield b"\n".join([json.dumps(document).encode(), *rest]) + b"\n"


def edits(document: Any, depth: int = 0) -> Iterator[Any]:
    for key in list(document) if isinstance(document, dict) else []:
        yield {name: value for name, value in document.items() if name != key}
        yield from ({**document, key: bad} for bad in (None, [], "x", {"a": 1}, -7) if type(bad) is not type(document[key]))
        if depth < 1:
            yield from ({**document, key: inner} for inner in edits(document[key], depth + 1))


GIVEN = [(name, read) for name in COMMANDS for read in re.findall(r"@/([\w.]+)", COMMANDS[name]) if read in COMMANDS]
"""Commands and what they read of others; broken tables and sequences are tested in tests/sequences."""


@pytest.mark.parametrize(("name", "given_to_it"), GIVEN)
def test_a_damaged_input_is_one_line(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, given_to_it: str) -> None:
    runs.make(name)
    copy = tmp_path / given_to_it
    (shutil.copytree if (runs.folder / given_to_it).is_dir() else shutil.copy)(runs.folder / given_to_it, copy)
    words = [word.replace(str(runs.folder / given_to_it), str(copy)) for word in runs.words(name)]
    words = [word.replace(str(runs.folder / f"{name}-split"), str(tmp_path / "split")) for word in words]
    files = [path for path in sorted(copy.rglob("*")) if path.is_file()] if copy.is_dir() else [copy]
    draw = random.Random(f"{name} {given_to_it}")
    for number in range(2 * KILLS):
        file = draw.choice(files)
        whole, broken = file.read_bytes(), draw.choice(list(damaged(file)))
        file.write_bytes(broken)
        code, said = given([*words, "--out", str(tmp_path / f"out-{number}" / name)], capsys)
        shutil.rmtree(tmp_path / "split", ignore_errors=True)
        assert code in (0, 2), said
        if code != 0:
            assert said[-1].startswith("error: "), (file, broken[:100], said)
            assert str(copy) in said[-1], (file, broken[:100], said)
            assert "as what its name says" not in said[-1] or str(file) in said[-1], (file, broken[:100], said)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sound_output_is_not_blamed(runs: Runs, name: str) -> None:
    runs.make(name)
    assert broken_input([runs.folder / name]) is None
