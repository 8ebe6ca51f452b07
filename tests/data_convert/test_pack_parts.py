"""Parts, workers, array tasks, killed runs: always the same bytes; every document comes back out of the shards."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artefacts.folder
from artefacts.errors import UserError
from artefacts.folder import fingerprint, read_manifest
from data_convert.corpus import pack as packing
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.plan import plan
from data_convert.corpus.shards import COUNTS, load_shards, shard_folders

BLOCK = 64


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(3)
    (folder / "g.fa").write_text("".join(f">c{i}\n{''.join(draw.choices('ACGT', k=900))}\n" for i in range(12)))
    proteins = "".join(f">p{i}\n{''.join(draw.choices('ACDEFGHIKLMNPQRSTVWY', k=draw.randint(5, 300)))}\n" for i in range(80))
    (folder / "p.faa.gz").write_bytes(gzip.compress(proteins.encode(), mtime=0))
    texts = ["\n\n".join(" ".join(draw.choices(["gene", "the", "célula", "binds"], k=40)) for _ in range(6)) for _ in range(30)]
    (folder / "t.jsonl").write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    return folder


@pytest.fixture
def recipe(corpus: Path, extended_folder: Path, tmp_path: Path) -> Callable[..., PackRecipe]:
    def make(name: str, **changes: object) -> PackRecipe:
        sources = [
            Source(modality="dna", files=[corpus / "g.fa"], window=200, heldout_share=0.1, both_strands=True),
            Source(modality="protein", files=[corpus / "p.faa.gz"], heldout_share=0.1),
            Source(modality="text", files=[corpus / "t.jsonl"], heldout_share=0.1),
        ]
        values = {"tokenizer": extended_folder, "out": tmp_path / name, "block_tokens": BLOCK, "sources": sources}
        return PackRecipe(**{**values, "part_bytes": 3000, "shard_blocks": 40, **changes})

    return make


@pytest.fixture
def whole(recipe: Callable[..., PackRecipe]) -> str:
    """Fingerprint of an uninterrupted run, verified."""
    made = recipe("whole", verify=True)
    counts = pack(made)
    assert counts["verified"]["documents"] == sum(
        source[split]["written"] for source in counts["sources"] for split in ("train", "heldout")
    )
    assert not made.out.with_name("whole.parts").exists()
    assert len(shard_folders(made.out, "train")) > 3
    return fingerprint(made.out)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(recipe, whole, monkeypatch):
    monkeypatch.setattr(packing, "TOKENS_WORTH_A_WORKER", 1)
    made = recipe("two", workers=2)
    pack(made)
    assert fingerprint(made.out) == whole


def test_array_tasks_and_a_merge_are_one_run(recipe, whole, tmp_path):
    of = 3
    for index in (3, 1):
        assert pack(recipe("array", part=f"{index}/{of}"))["converted"] > 0
    assert not (tmp_path / "array").exists()
    parts = plan(recipe("array"))
    lost = [part for part in parts if part.number % of == 1]
    with pytest.raises(UserError, match=f"{len(lost)} of {len(parts)} parts are missing: {lost[0].number} .*{lost[0].file.name}"):
        pack(recipe("array", part="merge"))
    assert pack(recipe("array", part=f"2/{of}"))["converted"] == len(lost)
    assert pack(recipe("array", part=f"2/{of}"))["converted"] == 0  # done already
    pack(recipe("array", part="merge"))
    assert fingerprint(tmp_path / "array") == whole


def test_a_run_killed_anywhere_goes_on(recipe, whole, tmp_path):
    """Killed before and after a folder is put in place, again and again until it is done; finished parts and shards stay."""
    made = recipe("killed")
    done: set[tuple[str, int]] = set()
    for turn in range(60):
        child = os.fork()
        if not child:
            try:
                _die_at_folder(2, after=bool(turn % 2))
                pack(made)
            finally:
                os._exit(0 if made.out.exists() else 1)
        _, status = os.waitpid(child, 0)
        made_now = [path for depth in ("*/*", "*/*/*") for path in tmp_path.glob(f"killed.parts/{depth}/{COUNTS}")]
        found = {(str(path), path.stat().st_mtime_ns) for path in made_now if ".partial-" not in str(path)}
        if not status:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert done < found, "finished parts are neither lost nor made again"
        done = found
    assert turn > 10
    assert fingerprint(made.out) == whole
    assert not list(tmp_path.glob("killed.parts"))


@pytest.mark.parametrize("what", ["parts/*/tokens", "shards/train-*/*/data-*"])
def test_a_damaged_part_or_shard_is_made_again(recipe, whole, tmp_path, monkeypatch, capfd, what):
    made = recipe("damaged")
    with monkeypatch.context() as patch:
        patch.delattr(packing, "_counts")
        with pytest.raises(NameError):
            pack(made)
    file = sorted(tmp_path.glob(f"damaged.parts/{what}"))[-1]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    capfd.readouterr()
    pack(made)
    assert capfd.readouterr().err.count(f"{file.parent}: {file.name} is damaged; made again") == 1
    assert fingerprint(made.out) == whole


def _die_at_folder(number: int, after: bool) -> None:
    """Let this process be killed when it puts its n-th folder in place."""
    put, count = artefacts.folder.put_in_place, iter(range(1, 1000))

    def dies(temporary: Path, out: Path, before: Any) -> None:
        last = temporary.is_dir() and next(count) == number
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        put(temporary, out, before)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    artefacts.folder.put_in_place = dies


def test_a_changed_file_is_converted_again(recipe, corpus, tmp_path):
    file = shutil.copy(corpus / "g.fa", tmp_path / "g.fa")
    sources = [Source(modality="dna", files=[Path(file)], window=200, heldout_share=0)]
    parts = len(plan(recipe("again", sources=sources)))
    assert pack(recipe("again", sources=sources, part="1/1"))["converted"] == parts > 2
    Path(file).write_text(Path(file).read_text() + ">new\nACGTTGCA\n")
    assert pack(recipe("again", sources=sources, part="1/1"))["converted"] == len(plan(recipe("again", sources=sources)))
    assert pack(recipe("again", sources=sources, part="1/1", seed=3))["converted"] == 0  # the seed comes later
    counts = pack(recipe("again", sources=sources))
    assert counts["sources"][0]["records"][str(file)]["read"] == 13


def test_files_without_one_usable_record(recipe, tmp_path):
    (tmp_path / "bad.fa").write_text(">a\nAC!\n")
    sources = [Source(modality="protein", files=[tmp_path / "bad.fa"]), *recipe("x").sources]
    with pytest.raises(UserError, match=r"bad\.fa: not one usable protein record"):
        pack(recipe("bad", sources=sources))
    (tmp_path / "bad.fa").write_text(">a\nAC!\n" * 1000)  # several parts, each without a record
    with pytest.raises(UserError, match=r"bad\.fa: not one usable record"):
        pack(recipe("bad", sources=sources, part_bytes=2000))


@settings(max_examples=40)
@given(
    records=st.lists(st.text("ab\n ", max_size=30).map(lambda text: text.replace("\n ", "\n")), min_size=1, max_size=12),
    kind=st.sampled_from([(".fa", ">{}\nAC\n{}\n"), (".jsonl", '{{"text": "{}"}}\n'), (".txt", "x{}\n{}\n\n")]),
    size=st.integers(1, 60),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_parts_are_the_file_cut_between_records(tmp_path_factory, extended_folder, records, kind, size, ends):
    suffix, form = kind
    file = tmp_path_factory.mktemp("cut") / f"f{suffix}"
    lines = [form.format(*(record.split("\n")[0], "AC") if suffix != ".jsonl" else (record.split("\n")[0],)) for record in records]
    file.write_bytes("".join(lines).replace("\n", ends).encode())
    modality = "dna" if suffix == ".fa" else "text"
    source = Source(modality=modality, files=[file])
    parts = plan(PackRecipe(tokenizer=extended_folder, out=Path("x"), sources=[source], part_bytes=size))
    content = file.read_bytes()
    assert [parts[0].start, *(part.stop for part in parts)] == [*(part.start for part in parts), len(content)]
    begins = {".fa": b">", ".jsonl": b"{", ".txt": b"x"}[suffix]
    for part in parts:
        piece = content[part.start : part.stop]
        assert piece.startswith(begins)
        if suffix == ".txt":
            assert piece.rstrip(b"\r\n") != piece
            assert part.stop == len(content) or not piece.splitlines()[-1].strip()
        assert part is parts[-1] or len(piece) >= size
    assert size < 60 or len(parts) <= 1 + len(content) // size


def test_gz_stays_whole_and_the_ledger_names_the_file(recipe, corpus, tmp_path):
    draw = random.Random(1)
    good = "".join(f">g{i}\n{''.join(draw.choices('ACGT', k=100))}\n" for i in range(30))
    (tmp_path / "g.fa").write_text(good + ">bad\nAC!GT\n")
    made = recipe("ledger", sources=[Source(modality="dna", files=[tmp_path / "g.fa"], heldout_share=0)], part_bytes=1000)
    assert len(plan(made)) > 2
    assert all(part.whole for part in plan(recipe("gz")) if part.file.suffix == ".gz")
    (report,) = pack(made)["sources"]
    (ledger,) = report["records"].values()
    assert (ledger["read"], ledger["written"]) == (31, 30)
    (example,) = ledger["examples"]["letter outside dna"]
    last = plan(recipe("x", sources=made.sources, part_bytes=1000))[-1]
    assert example.startswith(f"{tmp_path / 'g.fa'}[from byte {last.start}]:")
    assert read_manifest(made.out, "shards")["inputs"].keys() == {"tokenizer", str(tmp_path / "g.fa")}


def test_small_corpora_take_one_process_and_large_ones_all_cores(recipe):
    parts = plan(recipe("x"))
    assert packing._workers(recipe("x"), parts) == 1
    assert packing._workers(recipe("x", workers=7), parts) == 7


def test_shards_stand_by_themselves(recipe, whole, tmp_path):
    import datasets

    folders = shard_folders(tmp_path / "whole", "train")
    rows = [row for folder in folders for row in datasets.load_from_disk(str(folder))]
    assert rows == list(load_shards(tmp_path / "whole", "train"))
    shutil.rmtree(folders[1])
    with pytest.raises(UserError, match="shard 00001 is missing"):
        load_shards(tmp_path / "whole", "train")
