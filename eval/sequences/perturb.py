"""`eval sequences perturb`: the share of pairs in which real sequence is likelier than the same sequence changed.

Likelier per letter, since inserted repeats add letters; the other changes keep their number. Equally likely counts as half.
"""

from __future__ import annotations

import zlib
from math import fsum
from typing import Any

import numpy as np

from artefacts.errors import UserError
from eval.judge.metrics import mean_of
from eval.sequences.changes import reordered, shuffled, synonymous, why_not_coding, with_repeats
from eval.sequences.frame import Ask
from eval.sequences.inputs import draw_windows, read_all, shorter_than, usable
from eval.sequences.recipe import PerturbRecipe
from eval.sequences.run import NATS_TO_BITS, Evaluation, Rows, rounded

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
