"""Metrics against scikit-learn, scipy and a plain dynamic programme; conventions for missing answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from data_convert.card_fields import METRICS as CARD_METRICS
from eval import metrics
from eval.answers import METRICS, Answers, value

CHOICES = ["a", "b", "c", "d"]
labels = st.sampled_from(CHOICES)
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=60)
numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40)


def classified(metric: str, gold: list[str], predicted: list) -> float:
    return value(metric, Answers("multiclass", CHOICES, gold, predicted))


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(pairs)
def test_confusion_metrics_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = map(list, zip(*pairs, strict=True))
    assert classified("accuracy", gold, predicted) == pytest.approx(sk.accuracy_score(gold, predicted))
    assert classified("mcc", gold, predicted) == pytest.approx(sk.matthews_corrcoef(gold, predicted))
    assert classified("macro_f1", gold, predicted) == pytest.approx(sk.f1_score(gold, predicted, average="macro", zero_division=0))
    recalls = [np.mean([p == g for g, p in pairs if g == label]) for label in set(gold)]
    assert classified("balanced_accuracy", gold, predicted) == pytest.approx(np.mean(recalls))


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.lists(st.tuples(labels, st.one_of(labels, st.none())), min_size=1, max_size=60))
def test_no_answer_is_wrong_and_a_class_of_its_own_in_mcc(pairs: list[tuple[str, str | None]]) -> None:
    gold, predicted = map(list, zip(*pairs, strict=True))
    named = [p or "invalid" for p in predicted]
    assert classified("accuracy", gold, predicted) == pytest.approx(sk.accuracy_score(gold, named))
    assert classified("mcc", gold, predicted) == pytest.approx(sk.matthews_corrcoef(gold, named))
    present = sorted(set(gold) | {p for p in predicted if p})
    assert classified("macro_f1", gold, predicted) == pytest.approx(
        sk.f1_score(gold, named, labels=present, average="macro", zero_division=0)
    )


def test_a_system_that_never_answers() -> None:
    gold = ["a", "b", "a"]
    assert classified("accuracy", gold, [None] * 3) == classified("mcc", gold, [None] * 3) == classified("macro_f1", gold, [None] * 3) == 0
    silent = Answers("regression", [], [0.0, 0.2, 1.0], [None] * 3)
    assert value("spearman", silent) == value("pearson", silent) == 0
    assert value("mae", silent) == pytest.approx((1.0 + 0.8 + 1.0) / 3)
    assert value("rouge_l", Answers("text", [], ["a kinase"], [None])) == 0


def test_abstaining_never_improves_mae() -> None:
    gold, given_ = [0.0, 0.4, 1.0], [0.9, 0.4, 0.2]
    whole = value("mae", Answers("regression", [], gold, given_))
    for place in range(3):
        silent = [None if i == place else p for i, p in enumerate(given_)]
        assert value("mae", Answers("regression", [], gold, silent)) >= whole


def test_binary_auroc_equals_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 200)
    logprobs = np.round(rng.normal(size=(200, 2)) + gold[:, None] * [0, 0.7], 1)
    probabilities = metrics.probabilities(logprobs)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    answers = Answers("binary", ["a", "b"], [["a", "b"][g] for g in gold], ["a"] * 200, logprobs)
    assert value("auroc", answers) == pytest.approx(sk.roc_auc_score(gold, probabilities[:, 1]))


def test_multiclass_auroc_is_one_against_the_rest() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 4, 300)
    logprobs = rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[gold]
    expected = sk.roc_auc_score(gold, metrics.probabilities(logprobs), multi_class="ovr", average="macro")
    assert value("auroc", Answers("multiclass", CHOICES, [CHOICES[g] for g in gold], ["a"] * 300, logprobs)) == pytest.approx(expected)


def test_auroc_of_a_single_class_is_undefined() -> None:
    assert np.isnan(metrics.auroc(np.zeros(5, dtype=int), np.ones((5, 2))))


@given(numbers)
def test_correlations_equal_scipy(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    assume(np.ptp(gold) and np.ptp(predicted))
    assert metrics.spearman(gold, predicted) == pytest.approx(stats.spearmanr(gold, predicted).statistic)
    assert metrics.pearson(gold, predicted) == pytest.approx(stats.pearsonr(gold, predicted).statistic)
    assert metrics.average_ranks(gold) == pytest.approx(stats.rankdata(gold))


def test_a_constant_prediction_orders_nothing() -> None:
    assert metrics.spearman(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1)) == 0
    assert metrics.pearson(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1)) == 0


def test_mae_equals_scikit_learn() -> None:
    gold, predicted = [0.0, 0.5, 2.0], [0.5, 0.5, -1.0]
    assert value("mae", Answers("regression", [], gold, predicted)) == pytest.approx(sk.mean_absolute_error(gold, predicted))


def lcs_table(one: list[str], two: list[str]) -> int:
    row = [0] * (len(two) + 1)
    for a in one:
        diagonal = 0
        for j, b in enumerate(two, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30))
def test_longest_common_subsequence_equals_the_table(one: list[str], two: list[str]) -> None:
    assert metrics.longest_common_subsequence(one, two) == lcs_table(one, two)


def test_rouge_l_and_token_f1_by_hand() -> None:
    # common subsequence: "the cat" of 3 and 4 words
    assert metrics.rouge_l("The cat sat.", "the big cat slept") == pytest.approx(2 * 2 / 7)
    # order counts in ROUGE-L only
    assert metrics.rouge_l("binds ATP", "ATP binds") == pytest.approx(0.5)
    assert metrics.token_f1("binds ATP", "ATP binds") == 1
    assert metrics.token_f1("a a b", "a c") == pytest.approx(2 * 1 / 5)
    assert metrics.rouge_l("", "a") == metrics.token_f1("...", "a") == 0


def test_exact_match_forgives_blanks_case_and_one_full_stop_only() -> None:
    assert metrics.exact_match("Binds DNA.", " binds dna") == 1
    assert metrics.exact_match("Binds DNA", "Binds DNA..") == 0
    assert metrics.exact_match("Binds DNA", "It binds DNA") == 0


def test_every_metric_a_card_may_name_exists_here() -> None:
    assert {kind: set(names) for kind, names in CARD_METRICS.items()} == {kind: set(names) for kind, names in METRICS.items()}
