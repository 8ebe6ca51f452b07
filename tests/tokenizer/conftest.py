"""The kinds of gene vocabularies, for tests of what holds for all of them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from sequences.alphabets import DNA, PROTEIN
from tokenizer.kmers import vocabulary_of

KINDS = ["bpe", "letters", "kmers"]


@pytest.fixture(scope="session", params=KINDS)
def genes(request: pytest.FixtureRequest, dna_bpe: Tokenizer, protein_bpe: Tokenizer) -> tuple[Tokenizer, Tokenizer]:
    """Vocabularies for DNA and protein: trained pieces, letters alone, 4-mers and 2-mers."""
    if request.param == "bpe":
        return dna_bpe, protein_bpe
    return (
        (vocabulary_of(DNA, 1), vocabulary_of(PROTEIN, 1))
        if request.param == "letters"
        else (vocabulary_of(DNA, 4), vocabulary_of(PROTEIN, 2))
    )
