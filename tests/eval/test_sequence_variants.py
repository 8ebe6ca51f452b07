"""`eval sequences variants`: deltas by hand, alleles that are not the genome's, labels whose areas are known."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
from samples import letters
from sklearn.metrics import average_precision_score, roc_auc_score
from table_model import TableModel
from test_sequence_scores import CHANCES, fasta, figures, rows, run
from tokenizers import Tokenizer

from artefacts.errors import Ledger
from artefacts.folder import read_manifest
from eval.sequences import variants as module
from eval.sequences.recipe import VariantsRecipe
from sequences.alphabets import DNA, reverse_complement
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of

CHROMOSOME = letters("ACGT", 400, 1)
GENOME = {"one": CHROMOSOME, "two": letters("ACGT", 90, 2)}


@pytest.fixture(params=["letters", "3-mers", "bpe"])
def even(request: pytest.FixtureRequest, tmp_path: Path, byte_level_base: Base, dna_bpe: Tokenizer) -> TableModel:
    """Each letter has its chance wherever it is; a block has the product of its letters'."""
    vocabulary = dna_bpe if request.param == "bpe" else vocabulary_of(DNA, 3 if request.param == "3-mers" else 1)
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary)
    for piece, number in model.ids.items():
        if set(piece) <= CHANCES.keys() and len(piece) == (3 if request.param == "3-mers" else len(piece)):
            model.table[:, number] = sum(math.log(CHANCES[letter]) for letter in piece)
    model.save()
    return model


def table(path: Path, lines: list[tuple[object, ...]]) -> Path:
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


def substitutions(step: int = 7) -> list[tuple[str, int, str, str, str]]:
    """chrom, pos, id, ref, alt; some near the ends."""
    places = [0, 1, 2, 3, *range(10, 400, step), 397, 398, 399]
    return [("one", place + 1, f"v{place}", CHROMOSOME[place], "ACGT"[("ACGT".index(CHROMOSOME[place]) + 1) % 4]) for place in places]


@pytest.mark.parametrize("even", ["letters", "3-mers"], indirect=True)  # pieces have no chance per letter, and are reckoned below
@pytest.mark.parametrize("window", ["centred", "left"])
@pytest.mark.parametrize("strands", [False, True])
def test_deltas_of_known_chances(even: TableModel, tmp_path: Path, window: str, strands: bool) -> None:
    found = substitutions()
    words = ["--variants", table(tmp_path / "calls.vcf", [("#CHROM", "POS", "ID", "REF", "ALT"), *found]), f"both_strands={strands}"]
    words += [
        "--genome",
        fasta(tmp_path / "g.fa", GENOME),
        "--model",
        even.folder,
        "--out",
        tmp_path / "out",
        f"window={window}",
        "letters=60",
    ]
    assert run("variants", *words) == 0
    for row, (_, place, name, ref, alt) in zip(rows(tmp_path / "out"), found, strict=True):
        assert (row["chrom"], row["pos"], row["id"], row["ref"], row["alt"]) == ("one", str(place), name, ref, alt)
        pairs = [(ref, alt)] + [(reverse_complement(ref), reverse_complement(alt))] * strands
        delta = sum(math.log(CHANCES[new] / CHANCES[old]) for old, new in pairs) / len(pairs)
        own = float(row["delta"])
        near_an_end = even.encoder.letters_of.max() == 3 and not 60 < place < 340
        assert own == pytest.approx(delta, abs=1e-3) or near_an_end  # a rest of less than a block has other chances
        assert own == pytest.approx(float(row["log_likelihood_alt"]) - float(row["log_likelihood_ref"]), abs=1e-5)
    assert figures(tmp_path / "out")["all variants", "mean delta"]["n"] == len(found)


def test_windows_by_hand(even: TableModel, tmp_path: Path) -> None:
    """The variant in the middle, both sides with as many letters, indels too."""
    place = 200
    lines = [("one", place + 1, "x", CHROMOSOME[place : place + size], alt) for size, alt in ((1, "A"), (3, "C"), (1, "ACGTAC"), (2, "GG"))]
    lines = [line for line in lines if line[3] != line[4]]
    words = ["--variants", table(tmp_path / "calls.txt", lines), "--genome", fasta(tmp_path / "g.fa", GENOME), "--model", even.folder]
    assert run("variants", *words, "--out", tmp_path / "out", "letters=60") == 0
    for row, (*_, ref, alt) in zip(rows(tmp_path / "out"), lines, strict=True):
        begin = place - (60 - len(ref)) // 2
        texts = [(CHROMOSOME[begin:place] + allele + CHROMOSOME[place + len(ref) :])[:60] for allele in (ref, alt)]
        delta = even.log_likelihood(texts[1]) - even.log_likelihood(texts[0])
        assert float(row["delta"]) == pytest.approx(delta, abs=1e-3)
    assert run("variants", *words, "--out", tmp_path / "left", "letters=60", "window=left") == 0
    own = [line for line in lines if len(line[3]) == len(line[4])]
    longest = int(even.encoder.letters_of.max())
    for row, (*_, ref, alt) in zip(rows(tmp_path / "left"), own, strict=True):
        begin = place + len(ref) - 60
        fill = CHROMOSOME[place + len(ref) :][: longest - 1]
        sums = [sum(even.by_letter(CHROMOSOME[begin:place] + allele + fill)[place - begin :][: len(ref)]) for allele in (ref, alt)]
        assert float(row["delta"]) == pytest.approx(sums[1] - sums[0], abs=1e-3)
    ledger = read_manifest(tmp_path / "left")["counts"]["records"]
    assert ledger["reasons"] == {"alleles of unequal length, which window=left cannot compare": len(lines) - len(own)}
    assert ledger["read"] == len(lines) == ledger["written"] + ledger["rejected"]


def test_every_form_gives_the_same_rows(even: TableModel, tmp_path: Path) -> None:
    found = substitutions(50)
    names = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "INFO")
    full = [(*line, ".", "CLNSIG=Benign;AF=0.1") for line in found]
    forms = {
        "bare.vcf": table(tmp_path / "bare.vcf", list(found)),
        "more.vcf": table(tmp_path / "more.vcf", full),
        "names.vcf": table(tmp_path / "names.vcf", [names, *full]),
        "whole.vcf": table(tmp_path / "whole.vcf", [("##fileformat=VCFv4.2",), ("##contig=<ID=one>",), names, *full]),
    }
    comma = tmp_path / "table.csv"
    comma.write_text("id,alt,ref,position,chromosome\n" + "".join(f"{i},{a},{r.lower()},{p},{c}\n" for c, p, i, r, a in found))
    forms["table.csv"] = comma
    zipped = tmp_path / "whole.vcf.gz"
    zipped.write_bytes(gzip.compress(forms["whole.vcf"].read_bytes()))
    forms["whole.vcf.gz"] = zipped
    genome, contents = fasta(tmp_path / "g.fa", GENOME), set()
    for name, path in forms.items():
        out = tmp_path / f"out-{name}"
        assert run("variants", "--variants", path, "--genome", genome, "--model", even.folder, "--out", out, "letters=40") == 0, name
        contents.add((out / "rows.csv").read_bytes())
    assert len(contents) == 1
    assert len(rows(tmp_path / "out-bare.vcf")) == len(found)


def test_areas_under_curves(even: TableModel, tmp_path: Path) -> None:
    lines = [(*line, f"X=1;CLNSIG={'Pathogenic' if number % 3 else 'Benign'}") for number, line in enumerate(substitutions(5))]
    lines[4] = (*lines[4][:5], "CLNSIG=Uncertain")
    source = table(tmp_path / "calls.vcf", [("#CHROM", "POS", "ID", "REF", "ALT", "INFO"), *lines])
    words = ["--variants", source, "--genome", fasta(tmp_path / "g.fa", GENOME), "--model", even.folder, "letters=60"]
    words += ["label=INFO/CLNSIG", "positive=[Pathogenic]", "negative=[Benign]"]
    assert run("variants", *words, "--out", tmp_path / "out") == 0
    judged = [row for row in rows(tmp_path / "out") if row["label"] != "Uncertain"]
    gold, score = [row["label"] == "Pathogenic" for row in judged], [-float(row["delta"]) for row in judged]
    found = figures(tmp_path / "out")
    about = f"{sum(gold)} positive of {len(gold)}"
    for metric, reference in (("AUROC", roc_auc_score), ("AUPRC", average_precision_score)):
        own = found[about, metric]
        assert own["value"] == pytest.approx(reference(gold, score), abs=1e-5)
        assert own["low"] < own["value"] < own["high"]
    notes = read_manifest(tmp_path / "out")["counts"]["records"]["notes"]
    assert notes["labels that are neither positive nor negative"] == 1


def test_a_label_that_says_it_all(tmp_path: Path, byte_level_base: Base) -> None:
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 1))
    for letter, chance in CHANCES.items():
        model.table[:, model.ids[letter]] = math.log(chance)
    lines = [(c, p, r, a, int(CHANCES[a] < CHANCES[r])) for c, p, _, r, a in substitutions()]
    source = table(tmp_path / "calls.tsv", [("chrom", "pos", "ref", "alt", "label"), *lines])
    words = ["--variants", source, "--genome", fasta(tmp_path / "g.fa", GENOME), "--model", model.save(), "letters=60", "label=label"]
    assert run("variants", *words, "--out", tmp_path / "out") == 0
    assert {found["value"] for (_, metric), found in figures(tmp_path / "out").items() if metric.startswith("AU")} == {1.0}


def test_what_is_not_of_this_genome_is_counted(even: TableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = substitutions(20)
    other = {letter: "ACGT"[("ACGT".index(letter) + 2) % 4] for letter in "ACGT"}
    bad = [
        ("one", 11, "mismatch", other[CHROMOSOME[10]], CHROMOSOME[10]),
        ("three", 5, "stranger", "A", "C"),
        ("one", 401, "behind", "A", "C"),
        ("one", 0, "before", "A", "C"),
        ("one", "x", "no place", "A", "C"),
        ("one", 5, "symbol", CHROMOSOME[4], "<DEL>"),
        ("one", 5, "star", CHROMOSOME[4], "*"),
        ("one", 5, "none", CHROMOSOME[4], "."),
        ("one", 5, "same", CHROMOSOME[4], CHROMOSOME[4]),
        ("one", 5, "long", CHROMOSOME[4], "A" * 31),
    ]
    several = ("one", 6, "several", CHROMOSOME[5], ",".join(letter for letter in "ACGT" if letter != CHROMOSOME[5]))
    source = table(tmp_path / "calls.vcf", [*good, *bad, several])
    words = ["--variants", source, "--genome", fasta(tmp_path / "g.fa", GENOME), "--model", even.folder, "letters=60"]
    assert run("variants", *words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"10 of {len(good) + 13} variants cannot be used, more than max_broken=0.1" in said
    assert "That has one, two" in said
    assert run("variants", *words, "--out", tmp_path / "out", "max_broken=0.9") == 0
    ledger = read_manifest(tmp_path / "out")["counts"]["records"]
    assert (ledger["read"], ledger["written"], ledger["rejected"]) == (len(good) + 13, len(good) + 3, 10)
    assert ledger["reasons"] == {
        "reference allele that is not the genome's": 1,
        "no such chromosome in the genome": 1,
        "position outside its chromosome": 3,
        "allele: letter outside dna": 3,
        "both alleles are the same": 1,
        "an allele of more than half a window (30 letters)": 1,
    }
    listed = (tmp_path / "out" / "set_aside.tsv").read_text()
    assert f"calls.vcf:{len(good) + 1} ({other[CHROMOSOME[10]]}, the genome has {CHROMOSOME[10]})\treference allele" in listed
    assert len(rows(tmp_path / "out")) == ledger["written"]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("", [], "holds no variant; give VCF"),
        ("a,b\n1,2\n", [], "calls.vcf:1: no column chrom; give VCF, or a table with the columns chrom, pos, ref, alt; found: a, b"),
        ("one\t5\tx\tA\tC\n", ["label=effect"], "calls.vcf:1: no column 'effect' for the labels"),
        ("chrom,pos,ref,alt,label\none,1,{ref},{alt},1\n", ["label=label"], "1 positive and 0 negative labels in label, and both are"),
        ("chrom,pos,ref,alt\none,1,{ref},{alt}\n", ["positive=[1]", "negative=[1]"], "'1' is both positive and negative"),
    ],
)
def test_mistakes_are_one_line_before_the_model_opens(
    even: TableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, fields: list[str], message: str
) -> None:
    ref = CHROMOSOME[0]
    source = tmp_path / "calls.vcf"
    source.write_text(content.format(ref=ref, alt="A" if ref != "A" else "C"))
    (even.folder / "model.safetensors").unlink()
    words = ["--variants", source, "--genome", fasta(tmp_path / "g.fa", GENOME), "--model", even.folder, "--out", tmp_path / "out"]
    capsys.readouterr()
    assert run("variants", *words, *fields) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_real_variants_of_c_elegans(tmp_path: Path, shared_data: Path, byte_level_base: Base) -> None:
    """All of a real file are checked against a real genome; the first thousand letters' worth of them scored."""
    source, genome = (shared_data / "annotated" / f"C.elegans.{form}.gz" for form in ("vcf", "fa"))
    if not (source.is_file() and genome.is_file()):
        pytest.skip(f"no {source}")
    recipe = VariantsRecipe(model=Path("unused"), out=Path("unused"), variants=source, genome=[genome])
    ledger = Ledger(0.1)
    assert len(list(module._checked(recipe, module._genome(recipe), DNA, ledger))) == 8703
    assert ledger.as_dict()["reasons"] == {"reference allele that is not the genome's": 10}
    few = tmp_path / "few.vcf"
    few.write_bytes(b"".join(gzip.decompress(source.read_bytes()).splitlines(keepends=True)[:60]))
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 3))
    for piece, number in model.ids.items():
        model.table[:, number] = sum(math.log(CHANCES.get(letter, 0.01)) for letter in piece)
    assert run("variants", "--variants", few, "--genome", genome, "--model", model.save(), "--out", tmp_path / "out", "letters=60") == 0
    assert len(rows(tmp_path / "out")) == 60
    for row in rows(tmp_path / "out"):
        assert float(row["delta"]) == pytest.approx(math.log(CHANCES[row["alt"]] / CHANCES[row["ref"]]), abs=1e-3)
