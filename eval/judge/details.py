"""What lies behind a system's figures on one task: confusions, calibration, ROC, effect of length, unread answers.

All of the first run, where a system has several.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_convert.tasks.kinds import KINDS
from eval.judge.answers import Answers, statistic
from eval.judge.bootstrap import bootstrap
from eval.judge.metrics import Floats, Ints
from eval.judge.probability import BINS, confidences, roc_points
from eval.predictions import Line

MOST_CLASSES = 20
"""Larger confusion matrices are not drawn: of them the classes most often confused are named."""
MOST_CONFUSED = 15
MOST_CURVES = 6
"""Classes up to which each has its ROC curve."""
POINTS = 40
"""Of a curve."""
LENGTH_BINS = 4
LEAST_IN_BIN = 10
MOST_INVALID = 20
LENGTH_RESAMPLES = 400


def details(lines: list[Line], lengths: Sequence[int] | None, seed: int) -> dict[str, Any]:
    """Args: lengths: letters of each record's inputs; None where they are not known."""
    given = Answers.of(lines, "predicted")
    found: dict[str, Any] = {}
    if KINDS[given.kind].one_label:
        found["confusion"] = _confusion(given)
        if given.logprobs is not None:
            gold_n, found_nC = given.gold_codes, given.probabilities
            found["reliability"] = _reliability(gold_n, found_nC)
            found["roc"] = _roc(given, gold_n, found_nC)
    if lengths is not None:
        found["length"] = _by_length(given, np.array(lengths), seed)
    unread = [line for line in lines if line["status"] in ("invalid", "refused")]
    if unread:
        texts = Counter((line["text"], line["status"]) for line in unread)
        shown = [{"text": text[:200], "status": status, "times": times} for (text, status), times in texts.most_common(MOST_INVALID)]
        found["unread"] = {"answers": len(unread), "different": len(texts), "first": unread[0]["id"], "shown": shown}
    return found


def _confusion(given: Answers) -> dict[str, Any]:
    """Counts gold by predicted, the last column without a valid answer; of many classes the pairs most often confused."""
    pairs = Counter(zip(given.gold, given.predicted, strict=True))
    if len(given.choices) > MOST_CLASSES:
        wrong = [(gold, said, times) for (gold, said), times in pairs.most_common() if gold != said]
        return {"classes": len(given.choices), "most_confused": [list(pair) for pair in wrong[:MOST_CONFUSED]]}
    columns = [*given.choices, None]
    return {"labels": list(given.choices), "counts": [[pairs[gold, said] for said in columns] for gold in given.choices]}


def _reliability(gold_n: Ints, found_nC: Floats) -> list[dict[str, float]]:
    """Bins of confidence that hold any record."""
    confidence_n, right_n, bin_n = confidences(gold_n, found_nC)
    rows = []
    for place in range(BINS):
        mine = bin_n == place
        if mine.any():
            figures = {"confidence": confidence_n[mine].mean(), "accuracy": right_n[mine].mean()}
            rows.append({"n": int(mine.sum()), **{name: round(float(figure), 4) for name, figure in figures.items()}})
    return rows


def _roc(given: Answers, gold_n: Ints, found_nC: Floats) -> list[dict[str, Any]]:
    """Curves as false and true positive rates: of the second of two classes, of each of a few against the rest."""
    if len(given.choices) > MOST_CURVES:
        return []
    classes = [1] if len(given.choices) == 2 else range(len(given.choices))
    curves = []
    for code in classes:
        points = roc_points((gold_n == code).astype(np.int64), found_nC[:, code], POINTS)
        if points:
            curves.append({"label": given.choices[code], "points": [[round(x, 4), round(y, 4)] for x, y in points]})
    return curves


def _by_length(given: Answers, length_n: Ints, seed: int) -> dict[str, Any] | None:
    """The kind's metric on quarters of the records by length; None where lengths hardly differ or records are few."""
    metric = KINDS[given.kind].by_length
    edges = np.unique(np.quantile(length_n, np.linspace(0, 1, LENGTH_BINS + 1)).round().astype(np.int64))
    if len(edges) < 3 or len(length_n) < LENGTH_BINS * LEAST_IN_BIN:
        return None
    bin_n = np.clip(np.searchsorted(edges, length_n, side="right") - 1, 0, len(edges) - 2)
    rows = []
    for place in range(len(edges) - 1):
        mine: list[int] = np.flatnonzero(bin_n == place).tolist()
        if len(mine) < LEAST_IN_BIN:
            continue
        part = Answers(given.kind, given.choices, [given.gold[i] for i in mine], [given.predicted[i] for i in mine])
        interval = bootstrap(statistic(metric, part), len(mine), seed=seed, n_resamples=LENGTH_RESAMPLES).as_dict()
        rows.append({"shortest": int(length_n[mine].min()), "longest": int(length_n[mine].max()), "n": len(mine), **interval})
    return {"metric": metric, "rows": rows} if len(rows) > 1 else None
