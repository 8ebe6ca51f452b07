"""What is said of one task: every metric of every system with its interval, and how the systems differ."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data_convert.tasks.kinds import LOWER_IS_BETTER
from eval.judge.answers import CONFUSION, PROBABILITY, Answers, statistic
from eval.judge.bootstrap import Resamples, Sampled, combined
from eval.predictions import Line

Runs = list[tuple[str, list[Line]]]
"""Of one system: the name of each run, and its lines in the records' order."""


def measure_systems(
    wanted: Sequence[str], runs_of: dict[str, Runs], resamples: Resamples, seed: int, temperatures: Mapping[tuple[str, str], Line]
) -> tuple[dict[str, Line], dict[str, dict[str, Sampled]]]:
    """The figures of each system for metrics.json, and the resamples behind those of `predicted`.

    Args:
        temperatures: system and run -> what calibration.py fitted on dev records of this task.
    """
    systems: dict[str, Line] = {}
    behind: dict[str, dict[str, Sampled]] = {}
    for name, runs in runs_of.items():
        given = [Answers.of(lines, "predicted") for _, lines in runs]
        own_seed = seed + zlib.crc32(name.encode())  # two systems of several runs each draw their runs apart
        sampled = [_sampled(wanted, one, resamples) for one in given]
        figures, behind[name] = _figures(sampled, own_seed)
        system: Line = {
            "metrics": figures,
            "not_computed": [metric for metric in wanted if metric not in figures],
            "unanswered_rate": _mean([sum(answer is None for answer in one.predicted) / len(one.predicted) for one in given]),
        }
        if all(line["status"] is not None for _, lines in runs for line in lines):
            written = [_sampled(wanted, Answers.of(lines, "parsed"), resamples) for _, lines in runs]
            statuses = [line["status"] for _, lines in runs for line in lines]
            system["greedy"] = {
                "metrics": _figures(written, own_seed)[0],
                "invalid_rate": _mean([status == "invalid" for status in statuses]),
                "refused_rate": _mean([status == "refused" for status in statuses]),
            }
        per_token = [one for _, lines in runs if (one := Answers.per_token(lines)) is not None]
        if len(per_token) == len(runs):
            labels = [metric for metric in wanted if metric in CONFUSION]
            system["normalised"] = {"metrics": _figures([_sampled(labels, one, resamples) for one in per_token], own_seed)[0]}
        fitted = [{"run": run, **own} for run, _ in runs if (own := temperatures.get((name, run)))]
        if len(fitted) == len(runs):
            scaled = [replace(one, logprobs=one.logprobs / own["temperature"]) for one, own in zip(given, fitted, strict=True)]
            shares = [_sampled([metric for metric in wanted if metric in PROBABILITY], one, resamples) for one in scaled]
            system["calibrated"] = {"metrics": _figures(shares, own_seed)[0], "runs": fitted}
        if len(runs) > 1:
            system["runs"] = [
                {"run": run, "metrics": {metric: round(one[metric].value, 6) for metric in figures}}
                for (run, _), one in zip(runs, sampled, strict=True)
            ]
        systems[name] = system
    return systems, behind


def differences(metric: str, behind: dict[str, dict[str, Sampled]], reference: str) -> dict[str, Line]:
    """The reference system's metric minus each other system's on the same resamples; positive means the reference is better."""
    if metric not in behind.get(reference, {}):
        return {}
    own = behind[reference][metric]
    found: dict[str, Line] = {}
    for name in sorted(behind.keys() - {reference}):
        other = behind[name].get(metric)
        if other is None:
            continue  # named under not_computed
        difference = other.minus(own) if metric in LOWER_IS_BETTER else own.minus(other)
        found[name] = {"metric": metric, **difference.interval().as_dict(), "p": difference.p_value()}
    return found


def _sampled(wanted: Sequence[str], given: Answers, resamples: Resamples) -> dict[str, Sampled]:
    return resamples.of_all({metric: statistic(metric, given) for metric in wanted if not given.without_logprobs(metric)})


def _figures(runs: Sequence[dict[str, Sampled]], seed: int) -> tuple[dict[str, Line], dict[str, Sampled]]:
    """Each metric that all runs have: its interval, and the standard deviation over runs where there are several."""
    figures: dict[str, Line] = {}
    behind: dict[str, Sampled] = {}
    for metric in runs[0]:
        if all(metric in run for run in runs):
            behind[metric] = combined([run[metric] for run in runs], seed)
            figures[metric] = dict(behind[metric].interval().as_dict())
            if len(runs) > 1:
                spread = float(np.std([run[metric].value for run in runs], ddof=1))
                figures[metric]["sd"] = None if np.isnan(spread) else round(spread, 6)
    return figures, behind


def _mean(shares: Sequence[float]) -> float:
    return round(float(np.mean(shares)), 6)
