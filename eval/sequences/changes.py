"""Changes that should make real sequence less likely."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from sequences.codons import CODONS

SYNONYMS = {codon: [other for other, residue in CODONS.items() if residue == own and other != codon] for codon, own in CODONS.items()}
"""Codon -> the others of its residue."""


def why_not_coding(letters: str) -> str:
    """Why letters are no whole coding sequence; empty where they are one."""
    codons = [letters[place : place + 3] for place in range(0, len(letters), 3)]
    if len(letters) % 3 or len(letters) < 6:
        return "no coding sequence: its letters are no whole codons"
    if not CODONS.keys() >= set(codons):
        return "no coding sequence: letters beside A, C, G and T"
    if codons[0] != "ATG" or CODONS[codons[-1]] != "*":
        return "no coding sequence: does not run from ATG to a stop codon"
    return "no coding sequence: a stop codon inside" if any(CODONS[codon] == "*" for codon in codons[:-1]) else ""


def synonymous(coding: str, rng: np.random.Generator) -> str:
    """Every codon exchanged for another of its residue, evenly drawn, where there is another; the stop codon stays."""
    found = []
    for place in range(0, len(coding), 3):
        codon = coding[place : place + 3]
        others = SYNONYMS[codon] if CODONS[codon] != "*" else []
        found.append(others[int(rng.integers(len(others)))] if others else codon)
    return "".join(found)


def reordered(coding: str, rng: np.random.Generator) -> str:
    """Codons of one residue change places among themselves: the same protein, of the same codons."""
    codons = [coding[place : place + 3] for place in range(0, len(coding), 3)]
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, codon in enumerate(codons):
        places[CODONS[codon]].append(place)
    found = list(codons)
    for own in places.values():
        for place, other in zip(own, rng.permutation(own).tolist(), strict=True):
            found[place] = codons[other]
    return "".join(found)


def with_repeats(letters: str, repeats: int, rng: np.random.Generator) -> str:
    """CAG so many times, at a place evenly drawn."""
    place = int(rng.integers(1, len(letters)))
    return letters[:place] + "CAG" * repeats + letters[place:]


def shuffled(letters: str, rng: np.random.Generator) -> str:
    """Another order of the letters with every count of neighbours kept, evenly drawn (Altschul and Erickson 1985).

    A walk over the letters uses each pair of neighbours once. It can be finished where the pair that leaves each letter last leads,
    over such pairs, to the last letter; such last pairs are drawn until they do, all others in any order.
    """
    following: defaultdict[str, list[str]] = defaultdict(list)
    for one, two in pairwise(letters):
        following[one].append(two)
    last = letters[-1]
    while True:
        final = {one: int(rng.integers(len(after))) for one, after in following.items() if one != last}
        if all(_leads(one, {letter: following[letter][place] for letter, place in final.items()}, last) for one in final):
            break
    orders = {}
    for one, after in following.items():
        rest = [letter for place, letter in enumerate(after) if place != final.get(one)]
        order = [rest[place] for place in rng.permutation(len(rest))]
        orders[one] = iter([*order, after[final[one]]] if one in final else order)
    found = [letters[0]]
    for _ in letters[1:]:
        found.append(next(orders[found[-1]]))
    return "".join(found)


def _leads(start: str, to: dict[str, str], end: str) -> bool:
    """Whether the way from a letter comes to the end, and does not go in circles."""
    seen: set[str] = set()
    while start != end and start not in seen:
        seen.add(start)
        start = to[start]
    return start == end
