"""Real files: every record and letter is accounted for, and every packed document comes back out of the shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from artefacts.errors import Ledger
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from sequences.texts import read_texts

pytestmark = pytest.mark.shared
FILES = {
    "dna": ["human_mitochondrion.fa", "lambda_phage_NC_001416.fa", "mammals_cgp/hg38.fa", "phix174_like_rokyta2006.fasta"],
    "protein": ["prokka_sprot_mitochondria.faa"],
    "text": ["openstax_concepts_biology.jsonl.gz"],
}
FOLDERS = {"dna": "genomes", "protein": "proteins", "text": "text"}


def test_the_ledger_balances_and_every_document_comes_back(shared_data: Path, extended_folder: Path, tmp_path: Path) -> None:
    sources = [
        Source(modality=name, files=[shared_data / FOLDERS[name] / file for file in files], window=900 if name == "dna" else None)
        for name, files in FILES.items()
    ]
    made = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", sources=sources, verify=True, part_bytes=100_000)
    counts = pack(made)
    for source, report in zip(sources, counts["sources"], strict=True):
        letters = 0
        for file in source.files:
            ledger = Ledger()
            if source.modality == "text":
                letters += sum(len(text.text.encode()) for text in read_texts(file, ledger))
            else:
                letters += sum(len(sequence.letters) for sequence in read_sequences(file, ALPHABETS[source.modality], ledger))
            said = report["records"][str(file)]
            assert (said["read"], said["written"]) == (ledger.read, ledger.written)
        assert sum(report["letters"].values()) == letters
    assert counts["verified"]["letters"] == sum(
        report["letters"].get(f"packed_{split}", 0) for report in counts["sources"] for split in ("train", "heldout")
    )
