"""Damage to any file of any artefact is said before work: one flipped bit, a cut, the same file of another run.

Two files of each artefact here, all of them in `make torture`. Weights have tests of their own (test_damaged_weights.py).
"""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_way import COMMANDS, LONG, Runs

import llama_gene
from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_weights_intact, manifest_path
from artefacts.inputs import broken_input, changed_inputs

CUT = 4096
UNREAD = {"extended/extension_report.html", "drawn/report.html"}
"""Pages for people, written behind the manifest, which no command reads."""


def damages(content: bytes, draw: random.Random) -> Iterator[bytes]:
    """One bit flipped; cut at every 4 KiB, at least once; the same length of other bytes, as a file of another run would be."""
    places = draw.sample(range(len(content)), min(len(content), 20 if LONG else 1))
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    cuts = [*range(0, len(content), CUT), len(content) - 1]
    yield from (content[:cut] for cut in draw.sample(cuts, min(len(cuts), 64 if LONG else 1)))
    yield draw.randbytes(len(content))


def said(artefact: Path, file: Path) -> bool:
    """Whether who reads the artefact hears of the file before work."""
    if file.suffix == ".safetensors":
        try:
            check_weights_intact(file)
        except UserError as error:
            return str(file) in str(error)
    return any(line.startswith(f"{file}: ") for line in changed_inputs([artefact]))


def test_every_file_of_every_artefact(runs: Runs, tmp_path: Path) -> None:
    runs.make(list(COMMANDS)[-1])
    silent, tried = list[str](), 0
    for name in COMMANDS:
        copy, draw = tmp_path / name, random.Random(name)
        (shutil.copytree if (runs.folder / name).is_dir() else shutil.copy)(runs.folder / name, copy)
        if not copy.is_dir():
            shutil.copy(manifest_path(runs.folder / name), manifest_path(copy))
        assert changed_inputs([copy]) == [], "an artefact that is whole is not blamed"
        files = [path for path in sorted(copy.rglob("*")) if path.is_file()] if copy.is_dir() else [copy]
        files = [path for path in files if path.name != MANIFEST and str(path.relative_to(tmp_path)) not in UNREAD]
        for file in files if LONG else draw.sample(files, min(1, len(files))):
            content = file.read_bytes()
            for damaged in damages(content, draw) if content else [b"x"]:
                file.write_bytes(damaged)
                tried += 1
                if damaged != content and not said(copy, file):
                    silent.append(str(file.relative_to(tmp_path)))
            file.unlink()
            # who opens weights, or a single file, says that itself
            if file != copy and file.suffix != ".safetensors" and not said(copy, file):
                silent.append(f"{file.relative_to(tmp_path)}, missing")
            file.write_bytes(content)
    assert not silent, (sorted(set(silent)), tried)


def test_a_manifest_that_is_damaged_is_no_licence(runs: Runs, tmp_path: Path) -> None:
    """Where what it notes can no longer be read, weights are not opened unchecked."""
    runs.make("base")
    shutil.copytree(runs.folder / "base", tmp_path / "base")
    (tmp_path / "base" / MANIFEST).write_text('{"stage": ')
    with pytest.raises(UserError, match=r"manifest\.json: not JSON"):
        check_weights_intact(tmp_path / "base" / "model.safetensors")


def test_a_command_says_what_changed_and_blames_it_where_it_stumbles(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.make("report.html")
    copy = tmp_path / "metrics.json"
    shutil.copy(runs.folder / "metrics.json", copy)
    shutil.copy(manifest_path(runs.folder / "metrics.json"), manifest_path(copy))
    whole = copy.read_text()
    words = ["eval", "report", "--metrics", str(copy), "--out", str(tmp_path / "report.html")]
    capsys.readouterr()
    assert llama_gene.main([*words, "--overwrite"]) == 0
    assert "changed" not in capsys.readouterr().err
    copy.write_text(whole.replace('"n": ', '"n":  ', 1))  # nothing that a report would stumble over
    assert llama_gene.main([*words, "--overwrite"]) == 0
    assert f"{copy}: not the file that its manifest notes" in capsys.readouterr().err
    copy.write_text(json.dumps({**json.loads(whole), "tasks": [{}]}))
    assert llama_gene.main([*words, "--overwrite"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {copy}: not the file that its manifest notes")
    assert broken_input([copy]) is None, "it is JSON all the same"


def test_an_input_that_changes_while_it_is_read_is_said(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file grows while a command reads it: what is made may hold some of both, and is not passed over in silence."""
    runs.make("organism")
    genome = tmp_path / "genome.fa"
    shutil.copy(runs.folder / "organism" / "genome" / "train.fa", genome)
    words = ["tokenizer", "train", "--alphabet", "dna", "--vocab-size", "30", str(genome), "--out", str(tmp_path / "dna.json")]
    over = threading.Event()

    def grow() -> None:
        while not over.is_set():
            with genome.open("a") as file:
                file.write("ACGT\n")
            time.sleep(0.002)

    capsys.readouterr()
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        code = llama_gene.main(words)
    finally:
        over.set()
        writer.join()
    assert code == 0
    assert f"{genome}: changed while this command ran" in capsys.readouterr().err
    assert llama_gene.main([*words, "--overwrite"]) == 0
    assert "changed" not in capsys.readouterr().err
