"""Identity of two sequences, by local alignment in a band around one diagonal.

Identity is CD-HIT's: letters that are equal in the best local alignment, divided by the length of the shorter sequence. A
sequence contained in another has identity 1; two windows of equal length that share half of their letters have 0.5.

Scores: DNA +1, -1 and -4 for a letter against none; proteins BLOSUM62 and -6. Gaps are linear, and none leaves the band.
"""

import numpy as np
from numba import njit

from sequences.alphabets import DNA, PROTEIN, RESIDUES, Alphabet

_ORDER = "ARNDCQEGHILKMFPSTWYVBZX*"
_BLOSUM62 = """
 4 -1 -2 -2  0 -1 -1  0 -2 -1 -1 -1 -1 -2 -1  1  0 -3 -2  0 -2 -1  0 -4
-1  5  0 -2 -3  1  0 -2  0 -3 -2  2 -1 -3 -2 -1 -1 -3 -2 -3 -1  0 -1 -4
-2  0  6  1 -3  0  0  0  1 -3 -3  0 -2 -3 -2  1  0 -4 -2 -3  3  0 -1 -4
-2 -2  1  6 -3  0  2 -1 -1 -3 -4 -1 -3 -3 -1  0 -1 -4 -3 -3  4  1 -1 -4
 0 -3 -3 -3  9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2 -1 -3 -3 -2 -4
-1  1  0  0 -3  5  2 -2  0 -3 -2  1  0 -3 -1  0 -1 -2 -1 -2  0  3 -1 -4
-1  0  0  2 -4  2  5 -2  0 -3 -3  1 -2 -3 -1  0 -1 -3 -2 -2  1  4 -1 -4
 0 -2  0 -1 -3 -2 -2  6 -2 -4 -4 -2 -3 -3 -2  0 -2 -2 -3 -3 -1 -2 -1 -4
-2  0  1 -1 -3  0  0 -2  8 -3 -3 -1 -2 -1 -2 -1 -2 -2  2 -3  0  0 -1 -4
-1 -3 -3 -3 -1 -3 -3 -4 -3  4  2 -3  1  0 -3 -2 -1 -3 -1  3 -3 -3 -1 -4
-1 -2 -3 -4 -1 -2 -3 -4 -3  2  4 -2  2  0 -3 -2 -1 -2 -1  1 -4 -3 -1 -4
-1  2  0 -1 -3  1  1 -2 -1 -3 -2  5 -1 -3 -1  0 -1 -3 -2 -2  0  1 -1 -4
-1 -1 -2 -3 -1  0 -2 -3 -2  1  2 -1  5  0 -2 -1 -1 -1 -1  1 -3 -1 -1 -4
-2 -3 -3 -3 -2 -3 -3 -3 -1  0  0 -3  0  6 -4 -2 -2  1  3 -1 -3 -3 -1 -4
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4  7 -1 -1 -4 -3 -2 -2 -1 -2 -4
 1 -1  1  0 -1  0  0  0 -1 -2 -2  0 -1 -2 -1  4  1 -3 -2 -2  0  0  0 -4
 0 -1  0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1  1  5 -2 -2  0 -1 -1  0 -4
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1  1 -4 -3 -2 11  2 -3 -4 -3 -2 -4
-2 -2 -2 -3 -2 -1 -2 -3  2 -1 -1 -2 -1  3 -3 -2 -2  2  7 -1 -3 -2 -1 -4
 0 -3 -3 -3 -1 -2 -2 -3 -3  3  1 -2  1 -1 -2 -2  0 -3 -1  4 -3 -2 -1 -4
-2 -1  3  4 -3  0  1 -1  0 -3 -4  0 -3 -3 -2  0 -1 -4 -3 -3  4  1 -1 -4
-1  0  0  1 -3  3  4 -2  0 -3 -3  1 -1 -3 -1  0 -1 -3 -2 -2  1  4 -1 -4
 0 -1 -1 -1 -2 -1 -1 -1 -1 -1 -1 -1 -1 -1 -2  0  0 -2 -1 -1 -1 -1 -1 -4
-4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4  1
"""


def _protein_scores() -> np.ndarray:
    """[letters, letters] BLOSUM62 in the order of RESIDUES; J, U and O, which it lacks, score as X."""
    table = np.array(_BLOSUM62.split(), dtype=np.int64).reshape(len(_ORDER), -1)
    rows = [_ORDER.index(letter if letter in _ORDER else "X") for letter in RESIDUES]
    return table[np.ix_(rows, rows)]


def _dna_scores() -> np.ndarray:
    """[letters, letters] An ambiguity code neither fits nor misses."""
    size = len(DNA.letters)
    table = np.zeros((size, size), dtype=np.int64)
    table[:4, :4] = 2 * np.eye(4, dtype=np.int64) - 1
    return table


SCORES = {"dna": _dna_scores(), "protein": _protein_scores()}
GAP = {"dna": 4, "protein": 6}


@njit(cache=True, nogil=True)
def equal_letters(a, b, diagonal, band, scores, gap):
    """(score, equal letters) of the best local alignment of a and b with |j - i - diagonal| <= band.

    Of alignments with the same score the one with more equal letters counts.

    Args:
        a, b: [letters] places in the alphabet.
        scores: [alphabet, alphabet].
        gap: taken off for a letter against none.
    """
    width = 2 * band + 1
    score, equal = np.zeros(width + 2, np.int64), np.zeros(width + 2, np.int64)  # one cell of padding on either side
    best, most = 0, 0
    for i in range(len(a)):
        low = max(0, -(i + diagonal - band))
        high = min(width, len(b) - (i + diagonal - band))
        if high <= 0:
            break
        score[: low + 1] = 0  # left of the table
        equal[: low + 1] = 0
        for k in range(low, high):
            j = i + diagonal - band + k
            s, e = score[k + 1] + scores[a[i], b[j]], equal[k + 1] + (a[i] == b[j])
            above, above_equal = score[k + 2] - gap, equal[k + 2]
            if above > s or (above == s and above_equal > e):
                s, e = above, above_equal
            left, left_equal = score[k] - gap, equal[k]
            if left > s or (left == s and left_equal > e):
                s, e = left, left_equal
            if s < 0:
                s, e = 0, 0
            score[k + 1], equal[k + 1] = s, e
            if s > best or (s == best and e > most):
                best, most = s, e
    return best, most


def identity(alphabet: Alphabet, a: str, b: str) -> float:
    """Identity of two sequences over the whole table (no band), on the strands as given."""
    x, y = (np.array([alphabet.letters.index(letter) for letter in text], dtype=np.uint8) for text in (a, b))
    name = "protein" if alphabet is PROTEIN else "dna"
    return float(equal_letters(x, y, 0, len(a) + len(b), SCORES[name], GAP[name])[1]) / min(len(a), len(b))
