"""`eval sequences perturb`: the share of pairs in which real sequence is likelier than the same sequence changed.

Likelier per letter, since inserted repeats add letters; the other changes keep their number. Equally likely counts as half.
"""

import zlib
from collections import defaultdict
from itertools import pairwise
from math import fsum
from typing import Any

import numpy as np

from artefacts.errors import UserError
from eval.judge.metrics import mean_of
from eval.sequences.frame import Ask
from eval.sequences.inputs import draw_windows, read_all, shorter_than, usable
from eval.sequences.recipe import PerturbRecipe
from eval.sequences.run import NATS_TO_BITS, Evaluation, Rows, rounded
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


OF_CODONS = ("synonymous", "reordered")
"""Changes of whole coding sequences."""
ALIKE = {"synonymous": synonymous, "reordered": reordered, "dinucleotide": shuffled}
"""Changes that keep the number of letters."""


def perturb(recipe: PerturbRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model or files, no coding sequence where codons are to be exchanged, no record long enough.
    """
    job = Evaluation(recipe, "perturb", overwrite)
    pairs = _pairs(job, recipe)
    asks = [Ask(letters) for _, _, *sides in pairs for letters in sides]

    def rows(found: list[list[float]]) -> Rows:
        made: Rows = []
        for place, (change, name, *sides) in enumerate(pairs):
            # rounded, or sums of the same numbers in another order differ
            bits = [rounded(-fsum(found[2 * place + side]) * NATS_TO_BITS / len(letters)) for side, letters in enumerate(sides)]
            line: dict[str, Any] = {"change": change, "id": name, "letters": len(sides[0]), "letters_changed": len(sides[1])}
            line |= {"bits_per_letter": bits[0], "bits_per_letter_changed": bits[1]}
            made.append(line | {"real_likelier": (bits[0] < bits[1]) + (bits[0] == bits[1]) / 2})
        for change in dict.fromkeys(recipe.changes):
            shares = [row["real_likelier"] for row in made if row["change"] == change]
            gaps = [row["bits_per_letter_changed"] - row["bits_per_letter"] for row in made if row["change"] == change]
            job.add(change, {"real likelier": mean_of(shares), "bits per base more": mean_of(gaps)}, len(shares))
        return made

    job.note = f"pairs of up to {recipe.letters:,} letters; {recipe.repeats} CAG repeats; chance is 0.5"
    job.log_likelihoods(asks, rows)


def _pairs(job: Evaluation, recipe: PerturbRecipe) -> list[tuple[str, str, str, str]]:
    """(change, id, real, changed)"""
    records = read_all(recipe.files, recipe.alphabet, job.ledger)
    pairs = []
    uses = {why_not_coding if change in OF_CODONS else shorter_than(recipe.letters) for change in recipe.changes}
    for change in dict.fromkeys(recipe.changes):
        number = zlib.crc32(change.encode())  # what is drawn for one change does not depend on the others
        rng = np.random.default_rng([recipe.seed, 1, number])
        if change in OF_CODONS:
            coding = [record for _, record in records if not why_not_coding(record.letters)]
            if not coding:
                why = why_not_coding(records[0][1].letters)
                raise UserError(
                    f"{records[0][0]}: {why}, nor is any other record; give others, or leave {' and '.join(OF_CODONS)} out of changes"
                )
            job.ledger.notes["coding sequences, from ATG to a stop"] = len(coding)
            chosen = sorted(rng.permutation(len(coding))[: recipe.pairs].tolist())
            reals = [(coding[place].id, coding[place].letters[: recipe.letters - recipe.letters % 3]) for place in chosen]
        else:
            reals = draw_windows(records, recipe.letters, recipe.pairs, recipe.alphabet, [recipe.seed, 2, number])
        for name, letters in reals:
            changed = with_repeats(letters, recipe.repeats, rng) if change == "cag" else ALIKE[change](letters, rng)
            pairs.append((str(change), name, letters, changed))
    usable(records, job.ledger, *uses)
    return pairs
