"""`eval sequences score`: log-likelihood and bits per letter of each record, and on request of each letter."""

import json
from math import fsum

import numpy as np

from artefacts.errors import Ledger, UserError
from eval.judge.metrics import Statistic
from eval.sequences.context_model import ContextModel
from eval.sequences.frame import Ask
from eval.sequences.inputs import read_all
from eval.sequences.recipe import ScoreSequencesRecipe
from eval.sequences.run import NATS_TO_BITS, Evaluation, Rows, rounded
from sequences.alphabets import ALPHABETS, reverse_complement

BASES = "bases.jsonl"


def score(recipe: ScoreSequencesRecipe, *, overwrite: bool = False) -> None:
    """Write the folder.

    Raises:
        UserError: missing model or files, no usable record, existing output, the rest of another run.
    """
    job = Evaluation(recipe, "score", overwrite)
    records = [record for _, record in read_all(recipe.files, recipe.alphabet, job.ledger)]
    strands = 1 + recipe.both_strands
    asks = [
        Ask(letters, each=recipe.bases) for record in records for letters in (record.letters, reverse_complement(record.letters))[:strands]
    ]

    cheap = _context_model(recipe, job, {record.letters for record in records}) if recipe.counted else None

    def rows(found: list[list[float]]) -> Rows:
        made: Rows = []
        if recipe.bases:
            job.extra[BASES] = []
        for place, record in enumerate(records):
            own = found[place * strands : (place + 1) * strands]
            sums = [fsum(values) for values in own]
            mean, size = fsum(sums) / strands, len(record.letters)
            line = {"id": record.id, "letters": size, "log_likelihood": rounded(mean)}
            made.append({**line, "bits_per_letter": rounded(-mean * NATS_TO_BITS / size)})
            if strands == 2:
                made[-1] |= {"forward": rounded(sums[0]), "reverse": rounded(sums[1])}
            if cheap is not None:
                made[-1]["context_model"] = rounded(-float(cheap.bits(record.letters).sum()) / NATS_TO_BITS)
            if recipe.bases:
                one, *other = [own[0], *(values[::-1] for values in own[1:])]
                means = [rounded((a + b) / 2) for a, b in zip(one, other[0], strict=True)] if other else list(map(rounded, one))
                job.extra[BASES].append(json.dumps({"id": record.id, "log_likelihoods": means}))
        metric = f"bits per {ALPHABETS[recipe.alphabet].unit}"
        job.add("all records", {metric: bits_per_letter(made)}, len(made))
        if cheap is not None:
            job.add(f"context model, order {recipe.order}", {metric: bits_per_letter(made, "context_model")}, len(made))
        return made

    if strands == 2:
        job.note = "log-likelihoods are the mean of both strands"
    job.log_likelihoods(asks, rows, recipe.overlap)


def _context_model(recipe: ScoreSequencesRecipe, job: Evaluation, scored: set[str]) -> ContextModel:
    """Counted on its files, whose records have a ledger of their own."""
    ledger = job.others["counted"] = Ledger(recipe.max_broken)
    texts = [record.letters for _, record in read_all(recipe.counted, recipe.alphabet, ledger)]
    if known := scored & set(texts):
        raise UserError(
            f"{', '.join(map(str, recipe.counted))}: {len(known):,} of the scored sequences are also here, and counts "
            "would know them by heart; leave them out of `counted`"
        )
    return ContextModel(texts, ALPHABETS[recipe.alphabet], recipe.order)


def bits_per_letter(rows: Rows, column: str = "log_likelihood") -> Statistic:
    """Of all letters together, so that a long record counts for more."""
    nats_n = np.array([row[column] for row in rows])
    letters_n = np.array([row["letters"] for row in rows], dtype=float)
    return lambda weights_rn: -(weights_rn @ nats_n) / (weights_rn @ letters_n) * NATS_TO_BITS
