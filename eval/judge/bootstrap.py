"""Percentile bootstrap: intervals of a system's metric, of several training seeds together, and of differences.

Resamples are drawn once per task and shared by all its systems and metrics, so every difference is a paired one. Where
records belong to clusters of related sequences, whole clusters are drawn: records of one cluster are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.judge.metrics import Floats, Ints, Statistic, Weights

RESAMPLES = 1000
LEVEL = 0.95
INDICES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A value on all records with the percentile interval of its resamples."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN: an undefined figure (AUROC of a single class) becomes null."""
        return {name: None if np.isnan(figure) else round(figure, 6) for name, figure in vars(self).items()}


@dataclass(frozen=True)
class Sampled:
    """A metric on all records and on every resample."""

    value: float
    samples: Floats
    """`[resamples]`"""

    def interval(self) -> Interval:
        """Undefined resamples (one misses a class altogether) are left out."""
        defined = self.samples[~np.isnan(self.samples)]
        if not len(defined):
            return Interval(float(self.value), float("nan"), float("nan"))
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(self.value), float(low), float(high))

    def p_value(self) -> float | None:
        """Of a difference: two-sided, that it is 0 (twice the rarer sign among the resamples; 2 / 1001 at least). None: undefined."""
        defined = self.samples[~np.isnan(self.samples)]
        rarer = min((defined <= 0).sum(), (defined >= 0).sum())
        return round(min(1.0, 2 * (float(rarer) + 1) / (len(defined) + 1)), 6) if len(defined) else None

    def minus(self, other: Sampled) -> Sampled:
        """The difference on the same resamples: zero outside its interval means more than the choice of records."""
        return Sampled(self.value - other.value, self.samples - other.samples)


class Resamples:
    """How often each record counts in each resample; equal seed and n mean equal resamples, whatever is measured."""

    def __init__(self, n: int, *, seed: int, groups: Sequence[str] | None = None, n_resamples: int = RESAMPLES) -> None:
        """Args: groups: the cluster of each record; None: every record is drawn on its own."""
        self.n, self.n_resamples = n, n_resamples
        member_n: Ints = np.arange(n) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
        drawn = int(member_n.max()) + 1
        rng = np.random.default_rng(seed)
        at_once = max(1, INDICES_AT_ONCE // max(n, drawn))
        self.blocks: list[Weights] = []
        """Each `[at most at_once, n]`; a byte is enough for how often one of them is drawn."""
        for start in range(0, n_resamples, at_once):
            rows = rng.integers(0, drawn, size=(min(at_once, n_resamples - start), drawn))
            rows += np.arange(len(rows))[:, None] * drawn
            counts = np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape)
            self.blocks.append(np.minimum(counts[:, member_n], 255).astype(np.uint8))

    def of(self, metric: Statistic) -> Sampled:
        """The metric on all records once, and on each resample."""
        return self.of_all({"metric": metric})["metric"]

    def of_all(self, metrics: Mapping[str, Statistic]) -> dict[str, Sampled]:
        """The same of several metrics: all of a block of resamples before the next one, so that they may share what they sum."""
        found: dict[str, list[Floats]] = {name: [] for name in metrics}
        for weights_rn in (np.ones((1, self.n), dtype=np.uint8), *self.blocks):
            for name, metric in metrics.items():
                found[name].append(metric(weights_rn))
        return {name: Sampled(float(value[0]), np.concatenate(samples)) for name, (value, *samples) in found.items()}


def bootstrap(metric: Statistic, n: int, *, seed: int, n_resamples: int = RESAMPLES) -> Interval:
    """The interval of one metric over `n` independent records."""
    return Resamples(n, seed=seed, n_resamples=n_resamples).of(metric).interval()


def combined(runs: Sequence[Sampled], seed: int) -> Sampled:
    """Several training runs of one system: the mean, with resamples of the runs as well as of the records.

    Each resample draws as many runs as there are, with replacement, and averages them on its records: its spread holds both
    the choice of records and, as far as few runs can show it, that of the training seed.
    """
    if len(runs) == 1:
        return runs[0]
    samples = np.stack([run.samples for run in runs])  # [runs, resamples]
    chosen = np.random.default_rng([seed, len(runs)]).integers(0, len(runs), size=samples.shape)
    return Sampled(float(np.mean([run.value for run in runs])), np.take_along_axis(samples, chosen, axis=0).mean(axis=0))
