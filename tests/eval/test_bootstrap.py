"""The vectorised bootstrap against a plain loop, and its behaviour where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from eval.judge.answers import Answers, once, statistic, value
from eval.judge.bootstrap import Interval, Resamples, Sampled, bootstrap, combined
from eval.judge.metrics import Statistic


def classification(n: int, share_right: float, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["a", "b"], n)
    other = np.where(gold == "a", "b", "a")
    return Answers("binary", ["a", "b"], list(gold), list(np.where(rng.random(n) < share_right, gold, other)), rng.normal(size=(n, 2)))


def subset(answers: Answers, rows: np.ndarray) -> Answers:
    logprobs = None if answers.logprobs is None else answers.logprobs[rows]
    return Answers(answers.kind, answers.choices, [answers.gold[i] for i in rows], [answers.predicted[i] for i in rows], logprobs)


def counted(rows: np.ndarray, n: int) -> np.ndarray:
    """How often each record stands in each row of indices."""
    return np.stack([np.bincount(row, minlength=n) for row in rows])


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "mcc", "macro_f1", "auroc", "auprc", "ece", "brier"])
def test_each_resample_equals_the_metric_of_the_resampled_records(metric: str) -> None:
    answers = classification(37, 0.7, 1)
    rows = np.random.default_rng(2).integers(0, 37, (20, 37))
    loop = [value(metric, subset(answers, row)) for row in rows]
    assert statistic(metric, answers)(counted(rows, 37)) == pytest.approx(loop)


@pytest.mark.parametrize("metric", ["spearman", "pearson", "mae"])
def test_each_resample_of_a_regression_likewise(metric: str) -> None:
    rng = np.random.default_rng(3)
    gold = rng.normal(size=30).round(1)
    answers = Answers("regression", [], list(gold), list((gold + rng.normal(size=30)).round(1)))
    rows = rng.integers(0, 30, (20, 30))
    assert statistic(metric, answers)(counted(rows, 30)) == pytest.approx([value(metric, subset(answers, row)) for row in rows])


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
    monkeypatch.setattr("eval.judge.bootstrap.INDICES_AT_ONCE", 130)
    assert bootstrap(metric, 50, seed=0) == whole


def test_paired_difference_of_a_system_with_itself_is_exactly_zero() -> None:
    found = Resamples(60, seed=0).of(statistic("mcc", classification(60, 0.7, 7)))
    assert found.minus(found).interval() == Interval(0.0, 0.0, 0.0)


def test_pairing_is_narrower_than_two_separate_intervals() -> None:
    n, rng = 300, np.random.default_rng(8)
    hard = rng.random(n) < 0.4
    gold = ["a"] * n
    both = Answers("binary", ["a", "b"], gold, ["b" if h else "a" for h in hard])
    # the second system fails on the same records and on five more
    second = ["b" if h or i < 5 else "a" for i, h in enumerate(hard)]
    one, two = statistic("accuracy", both), statistic("accuracy", Answers("binary", ["a", "b"], gold, second))
    resamples = Resamples(n, seed=0)
    difference = resamples.of(one).minus(resamples.of(two)).interval()
    alone = bootstrap(one, n, seed=0)
    assert difference.value == pytest.approx(one(once(n))[0] - two(once(n))[0])
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_whole_clusters_are_drawn_and_make_intervals_wider() -> None:
    """Thirty families of ten records that are right or wrong together are thirty observations, not three hundred."""
    rng = np.random.default_rng(9)
    family = np.repeat(np.arange(30), 10)
    right = (rng.random(30) < 0.6)[family]
    answers = Answers("binary", ["a", "b"], ["a"] * 300, ["a" if r else "b" for r in right])
    clusters = Resamples(300, seed=0, groups=[f"g{f}" for f in family])
    for block in clusters.blocks:
        assert (block.reshape(len(block), 30, 10) == block.reshape(len(block), 30, 10)[:, :, :1]).all()
        assert (block.sum(axis=1) == 300).all()
    wide, narrow = clusters.of(statistic("accuracy", answers)).interval(), bootstrap(statistic("accuracy", answers), 300, seed=0)
    assert wide.value == narrow.value
    assert wide.high - wide.low == pytest.approx(np.sqrt(10) * (narrow.high - narrow.low), rel=0.15)
    # records that are clusters of one are drawn as records are
    alone = Resamples(300, seed=0, groups=[f"{i:03d}" for i in range(300)]).of(statistic("accuracy", answers)).interval()
    assert alone == narrow


def test_several_runs_are_averaged_and_their_spread_widens_the_interval() -> None:
    metric = statistic("accuracy", classification(400, 0.8, 10))
    run = Resamples(400, seed=0).of(metric)
    assert combined([run], seed=0) == run
    same = combined([run, run, run], seed=0)
    assert same.value == pytest.approx(run.value)
    assert same.samples == pytest.approx(run.samples)
    shifted = [Sampled(run.value + shift, run.samples + shift) for shift in (-0.1, 0.0, 0.1)]
    spread = combined(shifted, seed=0)
    assert spread.value == pytest.approx(run.value)
    wide, narrow = spread.interval(), run.interval()
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert spread.samples.std() == pytest.approx(np.hypot(run.samples.std(), np.std([-0.1, 0, 0.1]) / np.sqrt(3)), rel=0.1)


def test_undefined_resamples_are_left_out_and_an_undefined_metric_becomes_null() -> None:
    one_class = Answers("binary", ["a", "b"], ["a"] * 4, ["a"] * 4, np.zeros((4, 2)))
    assert bootstrap(statistic("auroc", one_class), 4, seed=0).as_dict() == {"value": None, "low": None, "high": None}
    rare = Answers("binary", ["a", "b"], ["a", "a", "b"], ["a"] * 3, np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]))
    assert bootstrap(statistic("auroc", rare), 3, seed=0) == Interval(1.0, 1.0, 1.0)


def test_resamples_do_not_depend_on_the_metric() -> None:
    seen: list[np.ndarray] = []

    def watch() -> Statistic:
        return lambda weights: (seen.append(weights), weights.mean(axis=1))[1]

    bootstrap(watch(), 10, seed=3)
    first, seen[:] = [*seen], []
    bootstrap(watch(), 10, seed=3)
    assert all((one == two).all() for one, two in zip(first, seen, strict=True))
