"""Percentile bootstrap over test records: intervals of one system's metric, and of the difference between two systems.

The intervals answer one question only: how would the figure move with another draw of test records? They do not hold
the spread between training runs, and they treat records as independent, which homologous sequences are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eval.answers import Statistic
from eval.metrics import Floats, Ints

RESAMPLES = 1000
LEVEL = 0.95
RESAMPLES_AT_ONCE = 100  # bounds the confusion matrices in memory
INDICES_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value on all records with the percentile interval of its resamples."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN: an undefined figure (AUROC of a single class) becomes null."""
        return {name: None if np.isnan(figure) else round(figure, 6) for name, figure in vars(self).items()}


def bootstrap(metric: Statistic, n: int, *, seed: int, n_resamples: int = RESAMPLES) -> Interval:
    """Resample `n` records with replacement. Equal seed and n mean equal resamples, whatever the metric or system."""
    return _interval(metric, metric(np.arange(n)[None])[0], n, seed, n_resamples)


def paired_bootstrap(one: Statistic, two: Statistic, n: int, *, seed: int, n_resamples: int = RESAMPLES) -> Interval:
    """Difference one - two on the same resamples: zero outside the interval means more than the choice of records."""

    def difference(rows: Ints) -> Floats:
        return one(rows) - two(rows)

    return bootstrap(difference, n, seed=seed, n_resamples=n_resamples)


def _interval(metric: Statistic, value: float, n: int, seed: int, n_resamples: int) -> Interval:
    samples = np.concatenate([metric(rows) for rows in _resamples(n, seed, n_resamples)])
    defined = samples[~np.isnan(samples)]  # a resample may miss a class altogether
    if not len(defined):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def _resamples(n: int, seed: int, n_resamples: int) -> Iterator[Ints]:
    rng = np.random.default_rng(seed)
    at_once = min(RESAMPLES_AT_ONCE, max(1, INDICES_AT_ONCE // n))
    for start in range(0, n_resamples, at_once):
        yield rng.integers(0, n, size=(min(at_once, n_resamples - start), n))
