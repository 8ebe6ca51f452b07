"""The standard genetic code, on DNA as it is stored (RNA too: T for U)."""

_CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"  # bases in the order TCAG
CODONS = {a + b + c: _CODE[16 * i + 4 * j + k] for i, a in enumerate("TCAG") for j, b in enumerate("TCAG") for k, c in enumerate("TCAG")}
"""Codon -> residue, or * for a stop."""


def translate(coding: str) -> str:
    """Residues and stops of in-frame upper-case DNA, with the standard code; a trailing part of a codon is left out.

    A codon with an ambiguous base is X.
    """
    return "".join(CODONS.get(coding[i : i + 3], "X") for i in range(0, len(coding) - 2, 3))
