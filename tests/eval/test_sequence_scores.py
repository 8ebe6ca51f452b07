"""`eval sequences score`: likelihood per letter, whatever the vocabulary, against sums by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import letters
from table_model import TableModel
from tokenizers import Tokenizer

import llama_gene
from artefacts.folder import read_manifest
from eval.sequences.frame import Ask, Frame
from eval.sequences.recipe import FIGURES, ScoreSequencesRecipe
from sequences.alphabets import DNA, reverse_complement
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of

KINDS = ["letters", "3-mers", "bpe"]
CHANCES = {"A": 0.1, "C": 0.2, "G": 0.3, "T": 0.4}


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path, byte_level_base: Base, dna_bpe: Tokenizer) -> TableModel:
    """A random table of each kind of vocabulary."""
    vocabulary = dna_bpe if request.param == "bpe" else vocabulary_of(DNA, 3 if request.param == "3-mers" else 1)
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary)
    model.table = torch.randn(model.size, model.size, generator=torch.Generator().manual_seed(0)) * 2
    return model


def fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
    return path


def run(*words: Any) -> int:
    return llama_gene.main(["eval", "sequences", *map(str, words)])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def figures(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(found["of"], found["metric"]): found for found in json.loads((folder / FIGURES).read_text())["figures"]}


RECORDS = {f"r{number}": letters("ACGT", size, number) for number, size in enumerate((1, 2, 3, 7, 60, 61, 200))}
RECORDS |= {"unknown": "ACGTNNACGRYTTA", "again": RECORDS["r4"]}


def test_letters_of_known_chances(tmp_path: Path, byte_level_base: Base) -> None:
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 1))
    for letter, chance in CHANCES.items():
        model.table[:, model.ids[letter]] = math.log(chance)
    model.save()
    assert run("score", fasta(tmp_path / "in.fa", {"a": "AACGT", "b": "TTTT"}), "--model", model.folder, "--out", tmp_path / "out") == 0
    nats = [2 * math.log(0.1) + math.log(0.2) + math.log(0.3) + math.log(0.4), 4 * math.log(0.4)]
    for row, value in zip(rows(tmp_path / "out"), nats, strict=True):
        assert float(row["log_likelihood"]) == pytest.approx(value, abs=1e-5)
        assert float(row["bits_per_letter"]) == pytest.approx(-value / math.log(2) / int(row["letters"]), abs=1e-5)
    found = figures(tmp_path / "out")["all records", "bits per base"]
    assert (found["n"], found["value"]) == (2, pytest.approx(-sum(nats) / math.log(2) / 9, abs=1e-5))
    assert found["low"] <= found["value"] <= found["high"]


def test_every_vocabulary_by_hand_and_letters_add_up_to_tokens(made: TableModel, tmp_path: Path) -> None:
    made.save()
    assert run("score", fasta(tmp_path / "in.fa", RECORDS), "--model", made.folder, "--out", tmp_path / "out", "--bases") == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "bases.jsonl").read_text().splitlines()]
    for (name, text), row, line in zip(RECORDS.items(), rows(tmp_path / "out"), lines, strict=True):
        assert row["id"] == line["id"] == name
        assert len(line["log_likelihoods"]) == len(text)
        assert line["log_likelihoods"] == pytest.approx(made.by_letter(text), abs=1e-4)
        assert float(row["log_likelihood"]) == pytest.approx(made.log_likelihood(text), abs=1e-3)
        assert sum(line["log_likelihoods"]) == pytest.approx(made.log_likelihood(text), abs=1e-3)
    ledger = read_manifest(tmp_path / "out", "sequences")["counts"]["records"]
    assert (ledger["read"], ledger["written"], ledger["rejected"]) == (len(RECORDS), len(RECORDS), 0)


def test_windows_score_each_letter_once_behind_letters_of_the_window_before(made: TableModel, tmp_path: Path) -> None:
    folder, source = made.save(), fasta(tmp_path / "in.fa", RECORDS)
    found = {}
    for name, fields in {"one": [], "many": ["context=20"], "apart": ["context=20", "overlap=0"]}.items():
        assert run("score", source, "--model", folder, "--out", tmp_path / name, *fields) == 0
        found[name] = [float(row["log_likelihood"]) for row in rows(tmp_path / name)]
    # of a table only the token before counts, and that is in the overlap
    assert found["many"] == pytest.approx(found["one"], abs=1e-4)
    assert found["apart"][:4] == pytest.approx(found["one"][:4], abs=1e-4)
    assert found["apart"][6] != pytest.approx(found["one"][6], abs=1e-2)  # its windows begin with the tag


def test_a_part_of_a_sequence_is_the_sum_of_its_letters(made: TableModel) -> None:
    from eval.sequences.likelihood import Reader

    text = letters("ACGT", 80, 3)
    recipe = ScoreSequencesRecipe(model=made.save(), out=Path("unused"), files=[Path("unused")], context=30)
    frame, expected = Frame.of(recipe), made.by_letter(text)
    asks = [Ask(text, first, last) for first, last in ((0, 1), (5, 7), (0, 80), (33, 61), (79, 80))]
    windows = frame.windows(asks, 0.5)
    found = frame.log_likelihoods(asks, windows, Reader(recipe, frame)(windows))
    for ask, values in zip(asks, found, strict=True):
        assert values == pytest.approx(expected[ask.first : ask.last], abs=1e-4)


def test_both_strands_are_averaged(made: TableModel, tmp_path: Path) -> None:
    made.save()
    source, text = fasta(tmp_path / "in.fa", {"a": "ACCTGGATTAC"}), "ACCTGGATTAC"
    assert run("score", source, "--model", made.folder, "--out", tmp_path / "out", "--both-strands", "--bases") == 0
    (row,), other = rows(tmp_path / "out"), reverse_complement(text)
    assert float(row["forward"]) == pytest.approx(made.log_likelihood(text), abs=1e-4)
    assert float(row["reverse"]) == pytest.approx(made.log_likelihood(other), abs=1e-4)
    assert float(row["log_likelihood"]) == pytest.approx((float(row["forward"]) + float(row["reverse"])) / 2, abs=1e-5)
    line = json.loads((tmp_path / "out" / "bases.jsonl").read_text())
    means = [(a + b) / 2 for a, b in zip(made.by_letter(text), made.by_letter(other)[::-1], strict=True)]
    assert line["log_likelihoods"] == pytest.approx(means, abs=1e-4)


def test_a_batch_is_its_rows_one_by_one(extended_folder: Path, tmp_path: Path) -> None:
    source = fasta(tmp_path / "in.fa", RECORDS)
    for name, tokens in {"all": 10_000, "each": 1}.items():
        assert run("score", source, "--model", extended_folder, "--out", tmp_path / name, "--bases", f"batch_tokens={tokens}") == 0
    for one, two in zip(rows(tmp_path / "all"), rows(tmp_path / "each"), strict=True):
        assert float(one["log_likelihood"]) == pytest.approx(float(two["log_likelihood"]), abs=1e-3)


def test_bits_of_the_held_out_loss_are_the_same(extended_folder: Path, tmp_path: Path) -> None:
    """What pre-training measures of a document without windows is what this measures of a record."""
    from transformers import AutoModelForCausalLM

    from data_convert.corpus.documents import Document
    from data_convert.corpus.encode import Encoder
    from pretrain.bits import heldout_bits
    from training.loss import score_in_head

    text = RECORDS["r5"]
    encoder = Encoder(extended_folder, {"dna"}, 256)
    ((fragment,),) = encoder.encode([Document("a", "dna", text)])  # type: ignore[misc]
    model = AutoModelForCausalLM.from_pretrained(extended_folder)
    score_in_head(model, "chunked")
    row = {"input_ids": fragment.ids.tolist(), "seq_lengths": [len(fragment.ids)], "letters": [fragment.letters], "modality": "dna"}
    silent = sorted({*fragment.ids.tolist()} - set(encoder._genes["dna"].pieces.values()))
    expected = heldout_bits(model, [row], silent, 1)["dna"]["bits_per_letter"]
    assert run("score", fasta(tmp_path / "in.fa", {"a": text}), "--model", extended_folder, "--out", tmp_path / "out") == 0
    assert float(rows(tmp_path / "out")[0]["bits_per_letter"]) == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_read_is_counted_and_listed(extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fasta(tmp_path / "in.fa", {**RECORDS, "foreign": "ACGJ"})
    words = ["score", source, "--model", extended_folder, "--out", tmp_path / "out"]
    assert run(*words, "max_broken=0.05") == 2
    assert "more than max_broken=0.05: letter outside dna: 1" in capsys.readouterr().err
    assert run(*words, "max_broken=0.5") == 0
    said = capsys.readouterr()
    assert f"read {len(RECORDS) + 1}, written {len(RECORDS)}, set aside 1 (letter outside dna: 1)" in said.err
    told = f"score: {len(RECORDS)} rows in {tmp_path}/out/rows.csv, figures in {tmp_path}/out/figures.json"
    assert told in said.out.splitlines()
    assert "letter outside dna" in (tmp_path / "out" / "set_aside.tsv").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["alphabet=protein", "both_strands=true"], "a protein has no other strand"),
        (["context=100000"], "context=100000: "),
        (["--model", "absent"], "absent/config.json: no such model"),
    ],
)
def test_mistakes_are_one_line(
    extended_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: list[str], message: str
) -> None:
    source = fasta(tmp_path / "in.fa", RECORDS)
    model = [] if "--model" in fields else ["--model", extended_folder]
    assert run("score", source, *model, "--out", tmp_path / "out", *fields) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_real_sequences(extended_folder: Path, tmp_path: Path, shared_data: Path) -> None:
    """A fresh model knows nothing of a phage: about the bits of even letters, each scored once."""
    source = shared_data / "genomes" / "phix174_like_rokyta2006.fasta"
    if not source.is_file():
        pytest.skip(f"no {source}")
    short = tmp_path / "few.fa"
    short.write_text("".join(source.read_text().partition("\n>")[0][:3000]) + "\n")
    assert run("score", short, "--model", extended_folder, "--out", tmp_path / "out", "--bases", "context=200") == 0
    (row,) = rows(tmp_path / "out")
    line = json.loads((tmp_path / "out" / "bases.jsonl").read_text())
    assert len(line["log_likelihoods"]) == int(row["letters"]) > 2000
    assert sum(line["log_likelihoods"]) == pytest.approx(float(row["log_likelihood"]), rel=1e-4)
    assert float(row["bits_per_letter"]) > 2


@pytest.mark.parametrize(("alphabet", "text"), [("rna", "ACGUUGCAUUGA"), ("protein", "MKWVTFISLLXU*")])
def test_other_alphabets(extended_folder: Path, tmp_path: Path, alphabet: str, text: str) -> None:
    words = [fasta(tmp_path / "in.fa", {"a": text}), "--model", extended_folder, "--out", tmp_path / "out", f"alphabet={alphabet}"]
    assert run("score", *words, "bases=true") == 0
    line = json.loads((tmp_path / "out" / "bases.jsonl").read_text())
    assert len(line["log_likelihoods"]) == len(text)
    assert sum(line["log_likelihoods"]) == pytest.approx(float(rows(tmp_path / "out")[0]["log_likelihood"]), abs=1e-4)
    assert [metric for _, metric in figures(tmp_path / "out")] == [f"bits per {'base' if alphabet == 'rna' else 'residue'}"]
