"""LucaOne's alphabet: 39 ids, nucleotides and residues apart (no transformers needed here)."""

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUCLEOTIDES = "12345"
TOKENS = (*SPECIAL, *NUCLEOTIDES, *"LAGVSERTIDPKQNFYMHWC", *"XBUZOJ", ".", "-", "*")
IDS = {token: number for number, token in enumerate(TOKENS)}
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_RESIDUE = IDS["L"]
GENE = "gene"
PROT = "prot"
SEQ_TYPES = {"gene": GENE, "dna": GENE, "rna": GENE, "prot": PROT, "protein": PROT}
"""Names of a molecule that are understood; upstream's Hugging Face tokenizer takes dna and rna for proteins."""

_GENE_TABLE = np.full(256, IDS["5"], dtype=np.int64)
_PROT_TABLE = np.full(256, UNK, dtype=np.int64)
for _letter, _token in zip("ATUCG", "12234", strict=True):
    _GENE_TABLE[[ord(_letter), ord(_letter.lower())]] = IDS[_token]
for _letter in TOKENS[FIRST_RESIDUE:]:
    _PROT_TABLE[[ord(_letter), ord(_letter.lower())]] = IDS[_letter]


def letter_ids(letters: str, seq_type: str) -> np.ndarray:
    """One id per letter, either case, without [CLS] and [SEP]; int64.

    Raises:
        ValueError: a seq_type other than gene, dna, rna, prot, protein.
    """
    if seq_type not in SEQ_TYPES:
        raise ValueError(f"seq_type '{seq_type}': one of {', '.join(SEQ_TYPES)}")
    table = _GENE_TABLE if SEQ_TYPES[seq_type] == GENE else _PROT_TABLE
    return table[np.frombuffer(letters.encode("latin-1", "replace"), dtype=np.uint8)]
