"""`eval sequences pairs`: every figure against the model asked by hand, and what no gene can change."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

import pytest
import torch
from table_model import TableModel
from test_sequence_scores import figures, rows, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from artefacts.folder import read_manifest
from data_convert.corpus.documents import is_held_out
from sequences.alphabets import DNA
from sequences.codons import CODONS
from tokenizer.base import Base
from tokenizer.kmers import vocabulary_of

CODON = {residue: codon for codon, residue in CODONS.items()}
GENES = 12


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """GenBank of genes of all lengths, the last with the protein of the first; and (gene, protein) of the others by id."""
    draw, letters, features, pairs = random.Random(1), "", list[str](), {}
    for number in range(GENES + 1):
        protein = "M" + "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=10 + 3 * number))
        if number == GENES:
            protein = pairs["p0"][1]
        gene = "".join(CODON[residue] for residue in protein + "*")
        features += [f"     CDS             {len(letters) + 1}..{len(letters) + len(gene)}", f'                     /locus_tag="g{number}"']
        features += [f'                     /protein_id="p{number}"', f'                     /translation="{protein}"']
        letters += gene
        if number < GENES:
            pairs[f"p{number}"] = (gene, protein)
    head = [f"LOCUS       c {len(letters)} bp DNA linear BCT", "VERSION     c.1", "FEATURES             Location/Qualifiers"]
    path = tmp_path / "x.gbff"
    path.write_text("\n".join([*head, *features, "ORIGIN", f"        1 {letters.lower()}", "//", ""]))
    return path, pairs


def test_every_figure_by_hand(genome: tuple[Path, dict[str, tuple[str, str]]], model_folder: Path, tmp_path: Path) -> None:
    path, pairs = genome
    assert run("pairs", path, "--model", model_folder, "--out", tmp_path / "out") == 0
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    assert found.keys() == pairs.keys()
    assert [found[name]["other"] for name in found] == [*list(found)[1:], next(iter(found))]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)

    def bits(gene: str, protein: str) -> float:
        ids = tokenizer(f"<dna>{gene}</dna> codes for <protein>{protein}</protein>")["input_ids"]
        first = ids.index(tokenizer.convert_tokens_to_ids("<protein>")) + 1
        last = ids.index(tokenizer.convert_tokens_to_ids("</protein>"))
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return -sum(float(logprobs[at - 1, ids[at]]) for at in range(first, last)) / math.log(2) / len(protein)

    lost_gene, lost_protein = [], []
    for name, row in found.items():
        gene, protein = pairs[name]
        before = next(other for other, its in found.items() if its["other"] == name)
        hand = [bits(gene, protein), bits(pairs[row["other"]][0], protein), bits(gene, pairs[before][1])]
        found_bits = [float(row[column]) for column in ("bits_own", "bits_after_other_gene", "bits_of_other_protein")]
        assert found_bits == pytest.approx(hand, abs=2e-4)
        lost_gene.append(hand[1] - hand[0])
        lost_protein.append(hand[2] - hand[0])
    told = figures(tmp_path / "out")
    for of, lost in (("own gene against another", lost_gene), ("own protein against another", lost_protein)):
        share = told[of, "share right"]
        assert (share["n"], share["value"]) == (GENES, pytest.approx(sum(value > 0 for value in lost) / GENES))
    gained = told["own gene against another", "bits per residue gained"]
    assert gained["value"] == pytest.approx(sum(lost_gene) / GENES, abs=2e-4)
    assert max(map(abs, lost_gene)) > 0.01
    counts = read_manifest(tmp_path / "out", "sequences")["counts"]["records"]
    assert (counts["read"], counts["written"], counts["rejected"]) == (GENES + 1, GENES, 1)


def test_a_model_that_sees_one_token_cannot_tell_genes_apart(
    genome: tuple[Path, dict[str, tuple[str, str]]], byte_level_base: Base, tmp_path: Path
) -> None:
    model = TableModel(tmp_path / "model", byte_level_base, vocabulary_of(DNA, 3))
    model.table = torch.randn(model.size, model.size, generator=torch.Generator().manual_seed(0))
    model.save()
    assert run("pairs", genome[0], "--model", model.folder, "--out", tmp_path / "out", "precision=fp32", "batch_tokens=1") == 0
    found = figures(tmp_path / "out")["own gene against another", "bits per residue gained"]
    assert found["value"] == pytest.approx(0, abs=1e-5)


def test_held_out_genes_alone_and_what_is_refused(
    genome: tuple[Path, dict[str, tuple[str, str]]], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, pairs = genome
    drawn = [is_held_out(hashlib.sha256(f"gene:g{number}".encode()).digest(), 0.5) for number in range(GENES + 1)]
    assert drawn[0] < drawn[GENES], "the twin of a gene that is trained is held out, and must not be asked"
    held_out = {f"p{number}" for number in range(GENES) if drawn[number]}
    assert 1 < len(held_out) < len(pairs)
    assert run("pairs", path, "--model", model_folder, "--out", tmp_path / "some", "heldout_share=0.5") == 0
    assert {row["id"] for row in rows(tmp_path / "some")} == held_out
    assert run("pairs", path, "--model", model_folder, "--out", tmp_path / "few", "most=3") == 0
    counts = read_manifest(tmp_path / "few", "sequences")["counts"]["records"]
    assert counts["reasons"]["not among the 3 that were drawn"] == GENES - 3
    capsys.readouterr()
    assert run("pairs", path, "--model", model_folder, "--out", tmp_path / "no", "context=16") == 2
    assert "0 genes with a protein fit into" in capsys.readouterr().err
    assert run("pairs", path, "--model", model_folder, "--out", tmp_path / "no", "between=<dna>") == 2
    assert "<dna> marks a sequence" in capsys.readouterr().err
