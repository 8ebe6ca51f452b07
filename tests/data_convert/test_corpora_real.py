"""Regions of real annotations: ledgers against an independent count, coding sequences against the code, GFF3 against GenBank."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest

from artefacts.errors import Ledger
from data_convert.corpus.pack_recipe import Source
from data_convert.corpus.regions import region_sequences
from sequences.codons import translate
from sequences.genes import ORPHAN

pytestmark = pytest.mark.shared
SPECIES = ("A.thaliana", "C.elegans", "D.melanogaster")


def cut(shared_data: Path, name: str, regions: str, **more: object) -> tuple[dict[str, str], Ledger]:
    folder, ledger = shared_data / "annotated", Ledger()
    fields = {"modality": "dna", "files": [folder / f"{name}.fa.gz"], "annotations": [folder / f"{name}.gff.gz"], "regions": regions}
    source = Source.model_validate({**fields, **more})
    found = {one.id: one.letters.upper() for one in region_sequences(source, source.files[0], source.annotations[0], Ledger(), ledger)}
    assert ledger.as_dict()["written"] == len(found)
    return found, ledger


@pytest.mark.parametrize("name", SPECIES)
def test_genes_are_those_that_are_listed(shared_data: Path, name: str) -> None:
    listed: Counter[str] = Counter()
    with gzip.open(shared_data / "annotated" / f"{name}.gff.gz", "rt") as handle:
        for line in handle:
            cells = line.rstrip("\n").split("\t")
            if len(cells) == 9 and cells[2].endswith("gene"):
                pseudo = cells[2] == "pseudogene" or re.search(r"(?:Note|biotype)=\w*pseudogene(?:;|$)", cells[8])
                listed["pseudogene" if pseudo else "gene"] += 1
    _, ledger = cut(shared_data, name, "genes")
    assert ledger.reasons["pseudogene"] == listed["pseudogene"]
    implied = ledger.read - ledger.reasons[ORPHAN] - sum(listed.values())
    assert ledger.written == listed["gene"] + implied
    assert 0 <= implied < 0.02 * ledger.read  # transcripts without their gene


@pytest.mark.parametrize(("name", "coding"), [("A.thaliana", 459), ("C.elegans", 300), ("D.melanogaster", 236)])
def test_every_spliced_coding_sequence_is_read_from_start_to_stop(shared_data: Path, name: str, coding: int) -> None:
    found, _ = cut(shared_data, name, "cds", isoforms="all")
    assert len(found) == coding
    for identity, letters in found.items():
        protein = translate(letters)
        assert (protein[0], protein.find("*"), len(letters) % 3) == ("M", len(protein) - 1, 0), identity


def test_transcripts_are_those_that_are_published(shared_data: Path) -> None:
    found, _ = cut(shared_data, "C.elegans", "transcripts", isoforms="all")
    with gzip.open(shared_data / "annotated" / "C.elegans_transcripts.fa.gz", "rt") as handle:
        records = (record.partition("\n") for record in handle.read().split(">")[1:])
        published = {header.split()[0]: "".join(body.split()).upper() for header, _, body in records}
    both = {name: letters for name, letters in found.items() if name.removeprefix("Transcript:") in published}
    assert len(both) >= 10
    assert all(published[name.removeprefix("Transcript:")] == letters for name, letters in both.items())


def test_gff3_and_genbank_of_one_genome_agree(shared_data: Path) -> None:
    genomes, annotated = shared_data / "genomes", shared_data / "annotated"
    for regions in ("genes", "cds", "intergenic"):
        genbank = Source(modality="dna", files=[genomes / "ecoli_K12_MG1655_GCF_000005845.2.gbff.gz"], regions=regions)
        files = {"files": [genomes / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz"]}
        notes = {"annotations": [annotated / "GCF_000005845.2_ASM584v2_genomic.gff.gz"]}
        gff = Source.model_validate({"modality": "dna", "regions": regions, **files, **notes})
        found = []
        for source in (genbank, gff):
            ledger, note = Ledger(), source.annotations[0] if source.annotations else None
            letters = sorted(one.letters for one in region_sequences(source, source.files[0], note, Ledger(), ledger))
            found.append((letters, ledger.read, dict(ledger.reasons)))
        assert found[0] == found[1], regions
