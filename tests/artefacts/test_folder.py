"""Outputs are complete or absent, whatever ends the work: an exception, Ctrl-C, SIGTERM, a closed terminal, a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import llama_gene
from artefacts.errors import Ledger, UserError
from artefacts.folder import SEAL, check_absent, damage, fingerprint, new_file, new_folder, read_manifest, seal, write_manifest


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put_old(out: Path) -> None:
    """An artefact of an earlier run."""
    out.mkdir()
    (out / "old.txt").write_text("old", encoding="utf-8")
    write_manifest(out, "test", recipe={}, inputs={}, counts={})


OLD = ["manifest.json", "old.txt"]


def fail_in_folder(out: Path, error: type[BaseException], overwrite: bool) -> None:
    with new_folder(out, overwrite=overwrite) as folder:
        (folder / "half.txt").write_text("half", encoding="utf-8")
        raise error


def fail_in_file(out: Path, error: type[BaseException], overwrite: bool) -> None:
    with new_file(out, overwrite=overwrite) as path:
        path.write_text("half", encoding="utf-8")
        raise error


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        (folder / "a.txt").write_text("a", encoding="utf-8")
        assert not out.exists()
        assert folder.parent == out.parent  # the same file system, or the rename would be a copy
    assert names(out) == ["a.txt"]
    assert names(out.parent) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_fails_leaves_things_as_they_were(tmp_path: Path, error: type[BaseException], overwrite: bool) -> None:
    out = tmp_path / "out"
    if overwrite:
        put_old(out)
    with pytest.raises(error):
        fail_in_folder(out, error, overwrite)
    assert names(tmp_path) == (["out"] if overwrite else [])
    if overwrite:
        assert names(out) == OLD


def test_an_existing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"out: already exists.+--overwrite"), new_folder(out):
        pytest.fail("the work began")
    assert names(tmp_path) == ["out"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put_old(out)
    with new_folder(out, overwrite=True) as folder:
        (folder / "new.txt").write_text("new", encoding="utf-8")
        assert names(out) == OLD
    assert names(out) == ["new.txt"]
    assert names(tmp_path) == ["out"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put_old(out)
    with pytest.raises(FileNotFoundError), new_folder(out, overwrite=True) as folder:
        folder.rmdir()
    assert names(tmp_path) == ["out"]
    assert names(out) == OLD


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_fails_leaves_things_as_they_were(tmp_path: Path, error: type[BaseException], overwrite: bool) -> None:
    out = tmp_path / "deep" / "out.json"
    if overwrite:
        out.parent.mkdir()
        out.write_text("old", encoding="utf-8")
    with pytest.raises(error):
        fail_in_file(out, error, overwrite)
    assert names(out.parent) == (["out.json"] if overwrite else [])
    if overwrite:
        assert out.read_text(encoding="utf-8") == "old"


def test_a_file_is_refused_or_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with new_file(out) as path:
        path.write_text("one", encoding="utf-8")
        assert not out.exists()
    with pytest.raises(UserError, match="already exists"), new_file(out):
        pytest.fail("the work began")
    with new_file(out, overwrite=True) as path:
        path.write_text("two", encoding="utf-8")
        assert out.read_text(encoding="utf-8") == "one"
    assert out.read_text(encoding="utf-8") == "two"
    assert names(tmp_path) == ["out.json"]


WORK = """
import resource, sys, time
from artefacts.command import guarded
from artefacts.folder import new_file, new_folder

kind, out, mode, library = sys.argv[1:]

def work():
    with (new_folder if kind == "folder" else new_file)(out) as path:
        if mode == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        target = path / "a.bin" if kind == "folder" else path
        if library == "safetensors":
            import numpy, safetensors.numpy
            safetensors.numpy.save_file({"a": numpy.zeros(100_000)}, target)
        elif library == "tokenizers":
            import tokenizers
            vocab = {str(i): i for i in range(20_000)}
            tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="0")).save(str(target))
        else:
            target.write_bytes(b"x" * 100_000)
        print("working", flush=True)
        time.sleep(60)

sys.exit(guarded(work))
"""


@pytest.mark.parametrize("library", ["python", "safetensors", "tokenizers"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_full_disk_leaves_nothing_and_one_clear_line(tmp_path: Path, kind: str, library: str) -> None:
    command = [sys.executable, "-c", WORK, kind, str(tmp_path / "out"), "full", library]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: output: File too large; no half-written output was left behind\n"
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [("folder", signal.SIGINT, 130), ("file", signal.SIGINT, 130), ("folder", signal.SIGTERM, 143), ("folder", signal.SIGHUP, 129)],
)
def test_signals_leave_nothing(tmp_path: Path, kind: str, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", WORK, kind, str(tmp_path / "out"), "wait", "python"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        assert len([name for name in names(tmp_path) if ".partial-" in name]) == 1
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors == ("interrupted; no half-written output was left behind\n" if number == signal.SIGINT else "")
    assert names(tmp_path) == []


def test_a_second_ctrl_c_does_not_stop_the_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = shutil.rmtree

    def remove_slowly(path: Path, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError):
        fail_in_folder(tmp_path / "out", RuntimeError, False)
    assert names(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is handler


files = st.dictionaries(st.sampled_from(["a", "b", "deep/a", "deep/b"]), st.binary(max_size=3), max_size=4)


@given(files, files)
@example({"a": b"", "b": b""}, {"a": b"b"})
def test_a_fingerprint_tells_folders_apart(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    prints = []
    for contents in (first, second):
        folder = tmp_path_factory.mktemp("f")
        for name, content in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        prints.append(fingerprint(folder))
    assert (prints[0] == prints[1]) == (first == second)


def test_a_fingerprint_leaves_the_manifest_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = fingerprint(tmp_path)
    write_manifest(tmp_path, "test", recipe={}, inputs={}, counts={})
    assert fingerprint(tmp_path) == before
    assert len(before) == 16
    with pytest.raises(UserError, match=r"absent: no such file or folder"):
        fingerprint(tmp_path / "absent")


def test_a_manifest_says_how_the_folder_came_to_be(tmp_path: Path) -> None:
    write_manifest(tmp_path, "test", recipe={"seed": 1}, inputs={"a": "0" * 16}, counts={"n": 2}, simulated=True)
    manifest = read_manifest(tmp_path, "test")
    assert (manifest["recipe"], manifest["inputs"], manifest["counts"], manifest["simulated"]) == (
        {"seed": 1},
        {"a": "0" * 16},
        {"n": 2},
        True,
    )
    assert manifest["packages"]["torch"]
    assert manifest["commit"]
    assert json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8")) == manifest
    with pytest.raises(UserError, match="made by stage 'test', but 'shards' is needed"):
        read_manifest(tmp_path, "shards")
    with pytest.raises(UserError, match="not a finished artefact"):
        read_manifest(tmp_path / "absent")


@given(st.lists(st.sampled_from(["kept", "too long", "empty"]), max_size=40))
def test_a_ledger_loses_nothing(outcomes: list[str]) -> None:
    ledger = Ledger()
    for line, outcome in enumerate(outcomes, 1):
        ledger.read += 1
        if outcome == "kept":
            ledger.written += 1
        else:
            ledger.reject(outcome, f"x:{line}")
    found = ledger.as_dict()
    assert found["read"] == len(outcomes) == found["written"] + found["rejected"]
    assert sum(found["reasons"].values()) == found["rejected"]
    for reason, places in found["examples"].items():
        assert places == [f"x:{line}" for line, outcome in enumerate(outcomes, 1) if outcome == reason][:5]


def test_a_lost_record_is_a_defect() -> None:
    ledger = Ledger()
    ledger.read = 2
    ledger.written = 1
    with pytest.raises(AssertionError, match="2 read != 1 written"):
        ledger.as_dict()


# --- what is already there ---


def test_overwrite_removes_an_artefact_and_nothing_else(tmp_path: Path) -> None:
    thesis = tmp_path / "documents"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UserError, match=r"documents: has no manifest\.json of llama-gene, so --overwrite does not remove it"):
        check_absent(thesis, overwrite=True)
    (thesis / "manifest.json").write_text('{"name": "a browser extension"}', encoding="utf-8")
    with pytest.raises(UserError, match="of llama-gene"), new_folder(thesis, overwrite=True):
        pytest.fail("the work began")
    note = tmp_path / "note.csv"
    note.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"note\.csv: has no note\.csv\.manifest\.json"):
        check_absent(note, overwrite=True)
    with pytest.raises(UserError, match="documents: is a folder, and a file is to be written"), new_file(thesis, overwrite=True):
        pytest.fail("the work began")
    assert (thesis / "thesis.txt").read_text(encoding="utf-8") == "dear"


def test_overwrite_never_removes_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The very output, a folder above it, and a link to it: even where it is an artefact."""
    ours = tmp_path / "ours"
    put_old(ours)
    (ours / "genome.fa").write_text(">a\nACGT\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(ours)
    for read in (ours / "genome.fa", tmp_path / "link" / "genome.fa"):
        line = ["tokenizer", "train", "--alphabet", "dna", "--vocab-size", "16", "--out", str(ours), "--overwrite", str(read)]
        assert llama_gene.main(line) == 2
        assert f"ours: is or holds {read}, which this command reads" in capsys.readouterr().err
    with pytest.raises(UserError, match="is or holds"):
        check_absent(ours, overwrite=True, inputs=[ours])
    assert (ours / "genome.fa").is_file()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("make", [new_file, new_folder])
def test_what_appears_meanwhile_is_kept(tmp_path: Path, make: Any, overwrite: bool) -> None:
    out = tmp_path / "out"
    if overwrite and make is new_folder:
        put_old(out)
    elif overwrite:
        out.write_text("old", encoding="utf-8")
    other = out / "theirs" if make is new_folder and overwrite else out

    def work() -> None:
        with make(out, overwrite=overwrite) as path:
            (path / "a" if make is new_folder else path).write_text("half", encoding="utf-8")
            other.write_text("theirs", encoding="utf-8")

    with pytest.raises(UserError, match="out: appeared or was changed while this command worked, and is kept"):
        work()
    assert other.read_text(encoding="utf-8") == "theirs"
    assert names(tmp_path) == ["out"]


def test_new_folders_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "out") as folder:
            (folder / "a").touch()
            (folder / "weights.safetensors").touch(0o600)  # as the library writes them
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {0o640}


def test_what_is_complete_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")).split(".partial-")[0])
        sync(handle)

    def renamed(source: Any, target: Any) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with new_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").touch()
    assert sorted(events[:3]) == [".out", "a", "deep"]
    assert events[3:] == ["rename", tmp_path.name]


@given(st.sampled_from(["a", "deep/b"]), st.integers(0, 2), st.sampled_from(["flip", "cut", "remove"]))
def test_damage_to_a_sealed_folder_shows(tmp_path_factory: pytest.TempPathFactory, name: str, place: int, kind: str) -> None:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "deep").mkdir()
    (folder / "a").write_bytes(b"abc")
    (folder / "deep" / "b").write_bytes(b"def")
    assert damage(folder) == f"{SEAL} is missing"
    seal(folder)
    (folder / "later").touch()
    assert damage(folder) is None
    content = bytearray((folder / name).read_bytes())
    if kind == "flip":
        content[place] ^= 1
    (folder / name).write_bytes(content[:place] if kind == "cut" else content)
    if kind == "remove":
        (folder / name).unlink()
    assert damage(folder) == f"{name} is {'missing' if kind == 'remove' else 'damaged'}"
    (folder / SEAL).write_text("[1]", encoding="utf-8")
    assert str(damage(folder)).startswith("cannot be read")
