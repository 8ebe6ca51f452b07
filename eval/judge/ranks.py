"""Average ranks of systems over tasks, and whether they say anything: Friedman's test, Nemenyi's critical difference.

Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, section 3.2.2; the statistic of Friedman in the form
of Iman and Davenport, corrected for ties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
LEAST_TASKS = 5
"""Of three tasks even a system that is always better than another is not told apart from it: their ranks differ by 1, and the critical
difference is 1.13; of four it is 0.98."""


@dataclass(frozen=True)
class Ranks:
    """Of the systems that were compared."""

    average: dict[str, float]
    """System -> mean rank, the best first; 1 is the best rank, equals share theirs."""
    tasks: int
    """Tasks that all of them have; the ranks are over these."""
    friedman: float | None = None
    """p of no difference at all; None, as the next, of one system or fewer than LEAST_TASKS."""
    difference: float | None = None
    """Average ranks closer than this are not told apart at LEVEL."""

    def __str__(self) -> str:
        if self.friedman is None or self.difference is None:
            return f"Fewer than {LEAST_TASKS} tasks that all have: too few to tell average ranks apart."
        found = f"Average ranks closer than {self.difference:.2f} are not told apart at {100 * LEVEL:.0f} % (Nemenyi)"
        return f"{found}; that no system differs from another has p = {self.friedman:.2g} (Friedman, {self.tasks} tasks)."


def ranks_of(costs: Sequence[Mapping[str, float]]) -> Ranks:
    """Args: costs: of each task, system -> its figure, so that less is better."""
    from scipy.stats import f, rankdata

    systems = sorted({system for own in costs for system in own})
    shared = [own for own in costs if own.keys() == set(systems)]
    if not shared:
        return Ranks({}, 0)
    ranks_NK = np.array([rankdata([own[system] for system in systems]) for own in shared])
    N, K = ranks_NK.shape
    average = {systems[place]: float(mean) for place, mean in sorted(enumerate(ranks_NK.mean(0)), key=lambda item: (item[1], item[0]))}
    if K < 2 or N < LEAST_TASKS:
        return Ranks(average, N)
    between, within = N * ((ranks_NK.mean(0) - (K + 1) / 2) ** 2).sum(), ((ranks_NK - (K + 1) / 2) ** 2).sum()
    left = within - between  # nothing where all tasks rank alike
    p = 1.0 if within == 0 else 0.0 if left < 1e-9 else float(f.sf((N - 1) * between / left, K - 1, (N - 1) * (K - 1)))
    return Ranks(average, N, p, critical_difference(K, N))


def critical_difference(systems: int, tasks: int) -> float:
    """Nemenyi's, at LEVEL."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - LEVEL, systems, 1e9) / 2**0.5 * (systems * (systems + 1) / (6 * tasks)) ** 0.5)
