"""`baseline embed`: what it reads, what it refuses, what it writes, and that it goes on where it was."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import llama_gene
from artefacts.errors import UserError
from artefacts.folder import read_manifest
from artefacts.recipe import load
from eval.baselines.embedding.command import embed
from eval.baselines.embedding.inputs import read_inputs, read_letters
from eval.baselines.embedding.open import LARGE, OneHot, identity
from eval.baselines.embedding.recipe import EmbedRecipe
from eval.baselines.embedding.store import StoreReader, StoreWriter, cleaned, digest, safe_names
from sequences.alphabets import BadSequence

ROWS = [("p1", "x", "MKVLAAGWTY"), ("p/2", "y", "ACDEF" * 30), ("sp|Q9|NAME", "z", "WYWY*")]
"""Id, something else, sequence."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "proteins.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([("name", "kind", "seq"), *ROWS])
    return path


def recipe(path: Path, **more: Any) -> EmbedRecipe:
    return EmbedRecipe.model_validate({"input_file": path, "out": path.parent / "out", "encoder": "one-hot", "seq_type": "prot", **more})


def one_hot(letters: str) -> np.ndarray:
    return np.eye(39, dtype=np.float32)[OneHot(1, torch.device("cpu")).ids("protein", letters)]


# --- reading ---


def test_csv_by_index_and_name_tsv_and_fasta_read_alike(table: Path, tmp_path: Path) -> None:
    expected = [(name, letters.removesuffix("*")) for name, _, letters in ROWS]
    tsv, fasta, zipped = tmp_path / "p.tsv", tmp_path / "p.fasta", tmp_path / "p.fa.gz"
    tsv.write_text("\n".join("\t".join(row) for row in [("name", "kind", "seq"), *ROWS]))
    text = "".join(f">{name}\n{letters[:7]}\n{letters[7:].lower()}\n" for name, _, letters in ROWS)
    fasta.write_text(text)
    zipped.write_bytes(gzip.compress(text.encode()))
    for path, columns in (
        (table, (None, None)),
        (table, (0, 2)),
        (table, ("name", "seq")),
        (tsv, (None, None)),
        (fasta, (None, None)),
        (zipped, (None, None)),
    ):
        items, ledger = read_inputs(path, "prot", *columns, "refuse")
        assert [(item.id, item.letters) for item in items] == expected
        assert ledger.as_dict()["rejected"] == 0
    with pytest.raises(UserError, match="no column 'sequence'; the header has 0 name, 1 kind, 2 seq"):
        read_inputs(table, "prot", None, "sequence", "refuse")
    with pytest.raises(UserError, match="seq_type 'peptide' is not known"):
        read_inputs(table, "peptide", None, None, "refuse")


BAD = {
    "p4,x,MK1V": "letter outside protein ('1' at position 3)",
    "p4,x,": "empty sequence",
    "p4,x,*": "empty sequence",
    f"p4,x,{'ACGT' * 20}": "nucleotides where a protein should be",
    ",x,MKV": "record: no id",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_records_are_refused_or_set_aside_and_counted(table: Path, line: str) -> None:
    table.write_text(table.read_text() + line + "\r\np5,x,MMM\r\n")
    with pytest.raises(UserError, match=r"proteins.csv:5: ") as error:
        read_inputs(table, "prot", None, None, "refuse")
    assert BAD[line] in str(error.value)
    items, ledger = read_inputs(table, "prot", None, None, "set_aside", max_broken=0.2)
    assert [item.id for item in items] == ["p1", "p/2", "sp|Q9|NAME", "p5"]
    counts = ledger.as_dict()
    assert (counts["read"], counts["written"], counts["rejected"]) == (5, 4, 1)
    assert next(iter(counts["examples"].values())) == [f"{table}:5"]


def test_an_id_stands_for_one_sequence(table: Path) -> None:
    whole = table.read_text()
    table.write_text(whole + "p1,x,MKVLAAGWTY\n")
    items, ledger = read_inputs(table, "prot", None, None, "refuse")
    assert len(items) == 3
    assert ledger.as_dict()["reasons"] == {"id and sequence stand in the file before": 1}
    table.write_text(whole + "p1,x,MKV\n")
    for on_bad in ("refuse", "set_aside"):
        with pytest.raises(UserError, match=r"proteins.csv:5: id 'p1' also stands for another sequence at .*:2"):
            read_inputs(table, "prot", None, None, on_bad)  # type: ignore[arg-type]
    table.write_text("name,kind,seq\np1,x\n")
    with pytest.raises(UserError, match=r":2: p1: more or fewer fields|:2: record: more or fewer fields than the header has"):
        read_inputs(table, "prot", None, None, "refuse")
    table.write_text("name,kind,seq\n")
    with pytest.raises(UserError, match="not one usable sequence to embed"):
        read_inputs(table, "prot", None, None, "refuse")


def test_molecules() -> None:
    assert read_letters(" acGuRYN ", "rna") == ("dna", "ACGTRYN")
    assert read_letters("RYRY", "gene") == ("dna", "RYRY")
    assert read_letters("GACT" * 5, "prot")[0] == "protein"  # a short peptide may be spelled like a gene; upstream refuses it
    assert read_letters("MACGTACGTACGT" * 9 + "*", "prot") == ("protein", "MACGTACGTACGT" * 9)
    for letters, seq_type, words in (
        ("MKVLG", "gene", "letter outside gene ('L' at position 4)"),
        ("MKVSRHWMKVDSR", "gene", "a protein where nucleotides should be"),
        ("ATG TGC", "gene", "blanks inside the sequence (k-mers?) (at position 4)"),
        ("*", "prot", "empty sequence"),
    ):
        with pytest.raises(BadSequence) as error:
            read_letters(letters, seq_type)
        assert str(error.value) == words


def test_a_first_line_that_is_a_sequence_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,ACGTTG\nb,GGGGTT\n")
    with pytest.raises(UserError, match=r"t\.csv:1: 'ACGTTG' is a sequence, not the name of a column; put a header line above"):
        read_inputs(path, "gene", None, None, "refuse")
    path.write_text("a,MKVLAAGWTYLL\nb,MKV\n")
    with pytest.raises(UserError, match=r"'MKVLAAGWTYLL' is a sequence"):
        read_inputs(path, "prot", None, None, "refuse")


# --- names ---


def test_unsafe_names_are_made_safe() -> None:
    names = safe_names(
        ["a", "A", "x/y", "x_y", "../../etc/passwd", "sp|Q9|N", "two words", "", ".", "ö" * 300, "CL0023#PF00004#Q20755_CAEEL#246-375"]
    )
    assert len({name.lower() for name in names.values()}) == len(names)
    assert names["sp|Q9|N"] == "Q9"
    assert names["two words"] == "twowords"
    assert names["CL0023#PF00004#Q20755_CAEEL#246-375"] == "CL0023#PF00004#Q20755_CAEEL#246-375"
    assert names["a"] != "a"  # A claims it too


@given(st.lists(st.text(max_size=20), unique=True, max_size=8))
def test_any_id_gets_a_file_name_of_its_own(ids: list[str]) -> None:
    names = safe_names(ids)
    assert len({name.lower() for name in names.values()}) == len(ids)
    for name in names.values():
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(f"matrix_{name}.pt".encode()) < 255
        assert safe_names(ids) == names


# --- writing ---


@pytest.mark.parametrize("save_type", ["numpy", "tensor", "safetensors"])
@pytest.mark.parametrize("special", [False, True])
def test_what_is_written_is_read(table: Path, save_type: Any, special: bool) -> None:
    assert embed(recipe(table, save_type=save_type, matrix_add_special_token=special)) == 3
    reader = StoreReader(table.parent / "out")
    for name, _, letters in ROWS:
        rows = one_hot(letters.removesuffix("*"))
        expected = np.concatenate([np.eye(39)[[2]], rows, np.eye(39)[[3]]]) if special else rows
        assert np.array_equal(reader.read(name), expected)
    with pytest.raises(UserError, match="no embedding of 'p9'"):
        reader.read("p9")
    assert read_manifest(table.parent / "out", "embeddings")["counts"]["in_store"] == 3
    if save_type != "safetensors":
        path = table.parent / "out" / "matrix_Q9.pt"
        found = torch.load(path, weights_only=save_type == "tensor")  # as the original's tools do under their torch
        assert isinstance(found, np.ndarray if save_type == "numpy" else torch.Tensor)
        assert found.shape == (4 + 2 * special, 39)


@pytest.mark.parametrize("kind", ["mean", "max", "cls"])
def test_vectors(table: Path, kind: str) -> None:
    embed(recipe(table, embedding_type="vector", vector_type=kind, save_type="tensor"))
    rows = one_hot(ROWS[0][2])
    expected = {"mean": rows.mean(0), "max": rows.max(0), "cls": np.eye(39)[2]}[kind]
    assert StoreReader(table.parent / "out").read("p1") == pytest.approx(expected)
    assert (table.parent / "out" / "vector_p1.pt").is_file()


@pytest.mark.parametrize("save_type", ["numpy", "safetensors"])
def test_a_stopped_run_goes_on(table: Path, save_type: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before the second embedding: what is there stays, what is missing is made, nothing twice."""
    monkeypatch.setattr("eval.baselines.embedding.store.SHARD_BYTES", 1)
    put = StoreWriter.put

    def stopping(self: StoreWriter, *arguments: Any) -> None:
        if self.done:
            raise KeyboardInterrupt
        put(self, *arguments)

    monkeypatch.setattr(StoreWriter, "put", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed(recipe(table, save_type=save_type))
    monkeypatch.setattr(StoreWriter, "put", put)
    index = table.parent / "out" / "index.jsonl"
    index.write_bytes(index.read_bytes() + b'{"id": "torn')
    assert embed(recipe(table, save_type=save_type)) == 2
    assert embed(recipe(table, save_type=save_type)) == 0
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(name for name, _, _ in ROWS)
    reader = StoreReader(table.parent / "out")
    assert all(np.array_equal(reader.read(name), one_hot(letters.removesuffix("*"))) for name, _, letters in ROWS)


@pytest.mark.parametrize("gone", [0, 2])
def test_a_shard_that_was_removed_takes_no_other_with_it(table: Path, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.baselines.embedding.store.SHARD_BYTES", 1)
    out = table.parent / "out"
    embed(recipe(table))
    lost = sorted(out.glob("shard-*.safetensors"))[gone]
    lost.unlink()
    more = table.parent / "more.csv"
    more.write_text("name,seq\nq1,MMM\n")
    assert embed(recipe(more)) == 1
    reader = StoreReader(out)
    texts = {"q1": "MMM", **{name: letters.removesuffix("*") for name, _, letters in ROWS}}
    there = [name for name in texts if name in reader]
    assert len(there) == 3
    for name in there:  # and no id has the rows of the shard that came in its place
        assert np.array_equal(reader.read(name, digest("protein", texts[name])), one_hot(texts[name]))
    assert embed(recipe(table)) == 1
    reader = StoreReader(out)
    assert all(np.array_equal(reader.read(name), one_hot(letters)) for name, letters in texts.items())
    shard = max(out.glob("shard-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be read"):
        [StoreReader(out).read(name) for name in texts]


def test_a_file_that_was_removed_may_become_anothers(table: Path) -> None:
    out = table.parent / "out"
    embed(recipe(table, save_type="numpy"))
    (out / "matrix_p_2.pt").unlink()  # that of p/2
    more = table.parent / "more.csv"
    more.write_text("name,seq\np_2,MMM\n")
    embed(recipe(more, save_type="numpy"))
    assert (out / "matrix_p_2.pt").is_file()
    reader = StoreReader(out)
    assert "p/2" not in reader
    assert np.array_equal(reader.read("p_2"), one_hot("MMM"))


def test_folders_are_told_apart_by_their_weights_and_not_by_their_place(tmp_path: Path) -> None:
    """Same names, same sizes, other bytes at one place of the weights."""
    size = LARGE + 12_345

    def folder(name: str, *places: int) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        with (tmp_path / name / "model.safetensors").open("wb") as handle:
            handle.truncate(size)
            for place in places:
                handle.seek(place)
                handle.write(b"x")
        return identity(str(tmp_path / name))

    found = [folder("none"), *(folder(str(place), place) for place in (0, size // 2, size // 4, size - 1))]
    assert len(set(found)) == len(found)
    assert folder("elsewhere", size - 1) == found[-1]


def test_nothing_is_removed_for_a_run_that_cannot_begin(table: Path) -> None:
    out = table.parent / "out"
    embed(recipe(table))
    broken = table.parent / "model"
    broken.mkdir()
    for more, message in (
        ({"encoder": str(broken)}, "no model folder"),
        ({"encoder": "kmer", "embedding_type": "vector", "vector_type": "cls"}, "no cls vector"),
        ({"input_file": table.parent / "absent.csv"}, "absent"),
    ):
        with pytest.raises(UserError, match=message):
            embed(recipe(table, **{"out": out, **more}), overwrite=True)
        assert embed(recipe(table)) == 0  # all there
    editor = table.parent / "editor"
    editor.mkdir()
    for text in ('{"theme": "dark"}', "[1]", "// none"):
        (editor / "settings.json").write_text(text)
        with pytest.raises(UserError, match=r"settings\.json: .*no settings of"):
            embed(recipe(table, out=editor), overwrite=True)
        assert (editor / "settings.json").read_text() == text


def test_other_settings_do_not_mix(table: Path) -> None:
    embed(recipe(table))
    with pytest.raises(UserError, match="was made with truncation_seq_length=4094, now it is 3"):
        embed(recipe(table, truncation_seq_length=3))
    assert embed(recipe(table, truncation_seq_length=3), overwrite=True) == 3
    assert len(StoreReader(table.parent / "out").read("p1")) == 3
    foreign = table.parent / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        embed(recipe(table, out=foreign))


def test_a_second_run_adds_and_mixes_nothing_up(table: Path, tmp_path: Path) -> None:
    """The second column of pairs, for instance: names that were safe may collide now, ids may mean something else."""
    embed(recipe(table, save_type="numpy"))
    more = tmp_path / "more.csv"
    more.write_text("name,seq\np_2,MMM\nP1,MK\n")  # p/2 is in matrix_p_2.pt, p1 in matrix_p1.pt
    assert embed(recipe(more, save_type="numpy", out=table.parent / "out")) == 2
    reader = StoreReader(table.parent / "out")
    for name, letters in [*((name, letters.removesuffix("*")) for name, _, letters in ROWS), ("p_2", "MMM"), ("P1", "MK")]:
        assert np.array_equal(reader.read(name, digest("protein", letters)), one_hot(letters))
    with pytest.raises(UserError, match="is of another sequence"):
        reader.read("p1", digest("protein", "MK"))
    more.write_text("name,seq\np1,MMM\n")
    with pytest.raises(UserError, match=r"more.csv:2: .* holds another sequence under the id 'p1'"):
        embed(recipe(more, save_type="numpy", out=table.parent / "out"))


def test_folders_of_the_original_and_damaged_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    torch.save(rows, tmp_path / f"matrix_{cleaned('>sp|Q9|NAME')}.pt")
    reader = StoreReader(tmp_path)
    assert np.array_equal(reader.read("sp|Q9|NAME"), rows)
    ours = tmp_path / "ours"  # whose index says which file is whose
    (tmp_path / "one.fa").write_text(">sp|P1|A\nMKV\n")
    embed(recipe(tmp_path / "one.fa", out=ours, save_type="numpy"))
    with pytest.raises(UserError, match=r"no embedding of 'tr\|P1\|B'"):
        StoreReader(ours).read("tr|P1|B", digest("protein", "WWW"))
    torch.save(print, tmp_path / "matrix_evil.pt")
    (tmp_path / "matrix_short.pt").write_bytes((tmp_path / "matrix_Q9.pt").read_bytes()[:200])
    for name in ("evil", "short"):
        with pytest.raises(UserError, match="cannot be read"):
            reader.read(name)
    with pytest.raises(UserError, match="no such folder"):
        StoreReader(tmp_path / "absent")


# --- the command ---


def test_a_command_of_the_original(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its flags under its names."""
    out = table.parent / "embedded"
    line = [
        "baseline",
        "embed",
        "--llm_dir",
        "one-hot",
        "--input_file",
        str(table),
        "--id_idx",
        "0",
        "--seq_idx",
        "2",
        "--seq_type",
        "prot",
    ]
    line += [
        "--embedding_type",
        "matrix",
        "--trunc_type",
        "left",
        "--truncation_seq_length",
        "20",
        "--matrix_add_special_token",
        "--save_type",
        "numpy",
    ]
    line += [
        "--embedding_complete",
        "--embedding_complete_seg_overlap",
        "--embedding_fixed_len_a_time",
        "50",
        "--gpu_id",
        "-1",
        "--save_path",
        str(out),
    ]
    assert llama_gene.main(line) == 0
    assert StoreReader(out).read("p/2").shape == (152, 39)
    passes = {line["id"]: line["passes"] for line in map(json.loads, (out / "index.jsonl").read_text().splitlines())}
    assert passes == {"p1": 1, "p/2": 5, "sp|Q9|NAME": 1}
    assert llama_gene.main([*line[:4], *["--seq", "MKV", "--seq_type", "prot", "--out"], str(table.parent / "single")]) == 0
    assert StoreReader(table.parent / "single").read("seq").shape == (3, 39)
    capsys.readouterr()
    assert llama_gene.main(["baseline", "embed", "--input-file", "absent.fa", "--seq-type", "prot", "--out", "o"]) == 2
    assert "absent.fa: no such file" in capsys.readouterr().err


def test_released_models_by_version_and_step() -> None:
    given_ = ["input_file=x", "out=y", "seq_type=gene"]
    assert load(EmbedRecipe, None, given_).encoder_name() == "LucaGroup/LucaOne-default-step36M"
    assert load(EmbedRecipe, None, [*given_, "llm_version=lucaone-gene"]).encoder_name() == "LucaGroup/LucaOne-gene-step36.8M"
    with pytest.raises(UserError, match="no released lucaone of 5 steps"):
        load(EmbedRecipe, None, [*given_, "llm_step=5"])
    with pytest.raises(UserError, match="either input_file or seq"):
        load(EmbedRecipe, None, given_[1:])
