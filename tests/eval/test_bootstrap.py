"""The vectorised bootstrap against a plain loop, and its behaviour where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from eval.answers import Answers, Statistic, statistic, value
from eval.bootstrap import Interval, bootstrap, paired_bootstrap


def classification(n: int, share_right: float, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["a", "b"], n)
    other = np.where(gold == "a", "b", "a")
    return Answers("binary", ["a", "b"], list(gold), list(np.where(rng.random(n) < share_right, gold, other)), rng.normal(size=(n, 2)))


def subset(answers: Answers, rows: np.ndarray) -> Answers:
    logprobs = None if answers.logprobs is None else answers.logprobs[rows]
    return Answers(answers.kind, answers.choices, [answers.gold[i] for i in rows], [answers.predicted[i] for i in rows], logprobs)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "mcc", "macro_f1", "auroc"])
def test_each_resample_equals_the_metric_of_the_resampled_records(metric: str) -> None:
    answers = classification(37, 0.7, 1)
    rows = np.random.default_rng(2).integers(0, 37, (20, 37))
    loop = [value(metric, subset(answers, row)) for row in rows]
    assert statistic(metric, answers)(rows) == pytest.approx(loop)


@pytest.mark.parametrize("metric", ["spearman", "pearson", "mae"])
def test_each_resample_of_a_regression_likewise(metric: str) -> None:
    rng = np.random.default_rng(3)
    gold = rng.normal(size=30).round(1)
    answers = Answers("regression", [], list(gold), list((gold + rng.normal(size=30)).round(1)))
    rows = rng.integers(0, 30, (20, 30))
    assert statistic(metric, answers)(rows) == pytest.approx([value(metric, subset(answers, row)) for row in rows])


def test_interval_of_a_proportion_is_close_to_the_binomial_one() -> None:
    answers = classification(1000, 0.8, 4)
    found = bootstrap(statistic("accuracy", answers), 1000, seed=0, n_resamples=2000)
    spread = 1.96 * np.sqrt(found.value * (1 - found.value) / 1000)
    assert found.low == pytest.approx(found.value - spread, abs=0.006)
    assert found.high == pytest.approx(found.value + spread, abs=0.006)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        found = bootstrap(statistic("accuracy", classification(200, 0.75, seed)), 200, seed=seed, n_resamples=300)
        covered += found.low <= 0.75 <= found.high
    assert 88 <= covered <= 99


def test_same_seed_same_interval_and_another_seed_another_one() -> None:
    metric = statistic("mcc", classification(80, 0.7, 5))
    assert bootstrap(metric, 80, seed=1) == bootstrap(metric, 80, seed=1)
    assert bootstrap(metric, 80, seed=1) != bootstrap(metric, 80, seed=2)


def test_the_number_of_records_held_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = statistic("accuracy", classification(50, 0.6, 6))
    whole = bootstrap(metric, 50, seed=0)
    monkeypatch.setattr("eval.bootstrap.INDICES_AT_ONCE", 130)
    assert bootstrap(metric, 50, seed=0) == whole


def test_paired_difference_of_a_system_with_itself_is_exactly_zero() -> None:
    metric = statistic("mcc", classification(60, 0.7, 7))
    assert paired_bootstrap(metric, metric, 60, seed=0) == Interval(0.0, 0.0, 0.0)


def test_pairing_is_narrower_than_two_separate_intervals() -> None:
    n, rng = 300, np.random.default_rng(8)
    hard = rng.random(n) < 0.4
    gold = ["a"] * n
    both = Answers("binary", ["a", "b"], gold, ["b" if h else "a" for h in hard])
    # the second system fails on the same records and on five more
    second = ["b" if h or i < 5 else "a" for i, h in enumerate(hard)]
    one, two = statistic("accuracy", both), statistic("accuracy", Answers("binary", ["a", "b"], gold, second))
    difference = paired_bootstrap(one, two, n, seed=0)
    alone = bootstrap(one, n, seed=0)
    assert difference.value == pytest.approx(one(np.arange(n)[None])[0] - two(np.arange(n)[None])[0])
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_undefined_resamples_are_left_out_and_an_undefined_metric_becomes_null() -> None:
    one_class = Answers("binary", ["a", "b"], ["a"] * 4, ["a"] * 4, np.zeros((4, 2)))
    assert bootstrap(statistic("auroc", one_class), 4, seed=0).as_dict() == {"value": None, "low": None, "high": None}
    rare = Answers("binary", ["a", "b"], ["a", "a", "b"], ["a"] * 3, np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]))
    assert bootstrap(statistic("auroc", rare), 3, seed=0) == Interval(1.0, 1.0, 1.0)


def test_resamples_do_not_depend_on_the_metric() -> None:
    seen: list[np.ndarray] = []

    def watch() -> Statistic:
        return lambda rows: (seen.append(rows), rows.mean(axis=1))[1]

    bootstrap(watch(), 10, seed=3)
    first, seen[:] = [*seen], []
    bootstrap(watch(), 10, seed=3)
    assert all((one == two).all() for one, two in zip(first, seen, strict=True))
