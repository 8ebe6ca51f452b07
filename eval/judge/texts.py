"""Metrics of free text. ROUGE-L and token F1 reward the template of an answer; entity F1 looks at the names in it only.

Legend of shapes: r resamples, n records.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_convert.tasks.parse import same_text
from eval.judge.metrics import Floats, Statistic, f1_of_sets

ORDERS = 4
"""n-grams of BLEU."""


def words(text: str) -> list[str]:
    """Runs of a-z and 0-9 after lower-casing, without stemming: the tokens of the `rouge_score` package."""
    return re.findall(r"[a-z0-9]+", text.lower())


def exact_match(gold: str, predicted: str | None) -> float:
    """1 if both are equal up to outer blanks, one final full stop and case."""
    return float(predicted is not None and same_text(gold) == same_text(predicted))


def rouge_l(gold: str, predicted: str | None) -> float:
    """F-measure (equal weights) of the longest common subsequence over `words`; 0 when either side has no word."""
    one, two = words(gold), words(predicted or "")
    common = longest_common_subsequence(one, two)
    return 2 * common / (len(one) + len(two)) if common else 0.0


def token_f1(gold: str, predicted: str | None) -> float:
    """F1 of the two bags of `words`, as in SQuAD."""
    one, two = Counter(words(gold)), Counter(words(predicted or ""))
    common = (one & two).total()
    return 2 * common / (one.total() + two.total()) if common else 0.0


def longest_common_subsequence(one: list[str], two: list[str]) -> int:
    """Its length, by Hyyrö's bit-parallel recurrence: one big-integer addition per word instead of a table row."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    state = full
    for word in two:
        matched = state & places.get(word, 0)
        state = ((state + matched) | (state - matched)) & full
    return len(one) - state.bit_count()


def entities(text: str) -> set[str]:
    """Names by their form: words with a digit, with a capital after the first letter, or ending in -ase; case folded.

    `ATP`, `p53`, `tRNA`, `2-oxoglutarate` and `kinase` are names, `binds` and a sentence's `Catalyses` are not. There is no
    dictionary behind it, so names that look like plain words (glucose) are not seen.
    """
    found = set()
    for word in re.findall(r"[^\s,;()\[\]{}\"]+", text):
        word = word.strip(".:!?'")
        if any(letter.isdigit() or letter.isupper() for letter in word[1:]) or word[:1].isdigit() or re.search(r"ases?$", word):
            found.add(word.casefold())
    return found


def bleu(gold: Sequence[str], predicted: Sequence[str | None]) -> Statistic:
    """Corpus BLEU-4 of sacrebleu's default (13a tokens, mixed case, exponential smoothing) as a share of 1.

    sacrebleu counts the n-grams of each record once; a resample sums them.
    """
    from sacrebleu.metrics import BLEU

    metric = BLEU(effective_order=True)  # of the sentences' own scores, which nobody reads
    counts = []
    for one, two in zip(gold, predicted, strict=True):
        found = metric.sentence_score(two or "", [one])
        counts.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    counts_nk = np.array(counts, dtype=float)
    return lambda weights_rn: _bleu(weights_rn @ counts_nk)


def bleu_signature() -> str:
    """What sacrebleu asks to be reported beside a BLEU."""
    import sacrebleu

    return f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"


def _bleu(sums_rk: Floats) -> Floats:
    right, total, said, wanted = sums_rk[:, :ORDERS], sums_rk[:, ORDERS : 2 * ORDERS], sums_rk[:, -2], sums_rk[:, -1]
    smooth = np.cumprod(np.where(right == 0, 2.0, 1.0), axis=1)
    precision = np.where(right > 0, right, 1 / smooth) / np.maximum(total, 1)
    brevity = np.exp(np.minimum(0, 1 - wanted / np.maximum(said, 1e-9)))
    scored = (total > 0).all(axis=1) & (right > 0).any(axis=1)  # as sacrebleu: no match at all, or no n-gram of that length
    return np.where(scored, brevity * np.exp(np.log(precision).mean(axis=1)), 0.0)


def entity_f1(gold: Sequence[str], predicted: Sequence[str | None]) -> Statistic:
    """F1 over the `entities` of all records together; NaN where neither side names any."""
    return f1_of_sets(((entities(one), entities(two or "")) for one, two in zip(gold, predicted, strict=True)), empty=math.nan)
