"""Metrics against scikit-learn, scipy and a plain dynamic programme; conventions for missing answers."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from data_convert.tasks.kinds import EC_METRICS, KINDS
from eval.judge import itemsets, metrics, probability, texts
from eval.judge.answers import Answers, metrics_of, once, statistic, value

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


scored = st.lists(st.tuples(st.integers(0, 2), st.tuples(*[st.integers(-3, 3)] * 3)), min_size=2, max_size=50)


@given(scored)
def test_metrics_of_probabilities_equal_scikit_learn(rows: list[tuple[int, tuple[int, ...]]]) -> None:
    """Few different scores, so there are many ties."""
    gold, logprobs = np.array([g for g, _ in rows]), np.array([row for _, row in rows], dtype=float)
    assume(len(np.unique(gold)) > 1)
    answers = Answers("multiclass", CHOICES[:3], [CHOICES[g] for g in gold], ["a"] * len(gold), logprobs)
    found = probability.probabilities(logprobs)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(gold)))
    present = np.unique(gold)
    one_hot = gold[:, None] == present
    assert value("auroc", answers) == pytest.approx(sk.roc_auc_score(one_hot, found[:, present], average="macro"))
    assert value("auprc", answers) == pytest.approx(sk.average_precision_score(one_hot, found[:, present], average="macro"))
    assert value("brier", answers) == pytest.approx(sk.brier_score_loss(gold, found, labels=[0, 1, 2], scale_by_half=False))
    binary = Answers("binary", ["a", "b"], [["a", "b"][int(g == present[-1])] for g in gold], ["a"] * len(gold), logprobs[:, :2])
    positive, of_second = gold == present[-1], probability.probabilities(logprobs[:, :2])[:, 1]
    assert value("auroc", binary) == pytest.approx(sk.roc_auc_score(positive, of_second))
    assert value("auprc", binary) == pytest.approx(sk.average_precision_score(positive, of_second))
    assert value("brier", binary) == pytest.approx(sk.brier_score_loss(positive, of_second))


@given(scored)
def test_calibration_error_equals_the_loop_over_bins(rows: list[tuple[int, tuple[int, ...]]]) -> None:
    gold, logprobs = np.array([g for g, _ in rows]), np.array([row for _, row in rows], dtype=float)
    found = probability.probabilities(logprobs)
    confidence, right = found.max(axis=1), found.argmax(axis=1) == gold
    expected = 0.0
    for low in range(probability.BINS):
        mine = (confidence > low / probability.BINS) & (confidence <= (low + 1) / probability.BINS)
        if mine.any():
            expected += mine.mean() * abs(confidence[mine].mean() - right[mine].mean())
    answers = Answers("multiclass", CHOICES[:3], [CHOICES[g] for g in gold], ["a"] * len(gold), logprobs)
    assert value("ece", answers) == pytest.approx(expected)


def test_bins_of_confidence_are_closed_above() -> None:
    found = np.array([[0.6, 0.4], [0.62, 0.38], [1.0, 0.0], [0.5, 0.5]])
    assert probability.confidences(np.zeros(4, dtype=int), found)[2].tolist() == [8, 9, 14, 7]


def test_a_certain_system_that_is_right_is_calibrated_and_one_that_is_wrong_is_not() -> None:
    certain = np.log([[1 - 1e-9, 1e-9]] * 4)
    right, wrong = (Answers("binary", ["a", "b"], [label] * 4, ["a"] * 4, certain) for label in "ab")
    assert value("ece", right) == pytest.approx(0, abs=1e-6)
    assert value("brier", right) == pytest.approx(0, abs=1e-6)
    assert value("ece", wrong) == pytest.approx(1)
    assert value("brier", wrong) == pytest.approx(1)
    assert np.isnan(value("auroc", right))
    assert np.isnan(value("auprc", right))


def test_the_drawn_curve_has_the_area_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 500)
    score = rng.normal(size=500) + gold
    points = np.array(probability.roc_points(gold, score, most=1000))
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(sk.roc_auc_score(gold, score))
    few = np.array(probability.roc_points(gold, score, most=20))
    assert len(few) <= 22
    assert few[0].tolist() == [0, 0]
    assert few[-1].tolist() == [1, 1]


def correlated(metric: str, gold: list[float], predicted: list) -> float:
    return value(metric, Answers("regression", [], gold, predicted))


@given(numbers)
def test_correlations_equal_scipy(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    assume(np.ptp(gold) and np.ptp(predicted))
    assert correlated("spearman", list(gold), list(predicted)) == pytest.approx(stats.spearmanr(gold, predicted).statistic)
    assert correlated("pearson", list(gold), list(predicted)) == pytest.approx(stats.pearsonr(gold, predicted).statistic)
    assert metrics.ranks(once(len(gold)), metrics.ranked(gold))[0] == pytest.approx(stats.rankdata(gold))


@given(numbers, st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_a_record_that_counts_twice_is_a_record_that_stands_there_twice(pairs: list[tuple[int, int]], times: list[int]) -> None:
    gold, predicted = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    weights = np.array(times[: len(gold)])
    assume(weights.sum() > 0)
    written_out = np.repeat(gold, weights), np.repeat(predicted, weights)
    for metric in ("spearman", "pearson", "mae"):
        answers = Answers("regression", [], list(gold), list(predicted))
        expected = correlated(metric, *map(list, written_out))
        assert statistic(metric, answers)(weights[None])[0] == pytest.approx(expected, abs=1e-9)


def test_a_constant_prediction_orders_nothing() -> None:
    assert correlated("spearman", [1.0, 2.0, 3.0], [0.1] * 3) == 0
    assert correlated("pearson", [1.0, 2.0, 3.0], [0.1] * 3) == 0


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
    assert texts.longest_common_subsequence(one, two) == lcs_table(one, two)


def test_rouge_l_and_token_f1_by_hand() -> None:
    # common subsequence: "the cat" of 3 and 4 words
    assert texts.rouge_l("The cat sat.", "the big cat slept") == pytest.approx(2 * 2 / 7)
    # order counts in ROUGE-L only
    assert texts.rouge_l("binds ATP", "ATP binds") == pytest.approx(0.5)
    assert texts.token_f1("binds ATP", "ATP binds") == 1
    assert texts.token_f1("a a b", "a c") == pytest.approx(2 * 1 / 5)
    assert texts.rouge_l("", "a") == texts.token_f1("...", "a") == 0


def test_exact_match_forgives_blanks_case_and_one_full_stop_only() -> None:
    assert texts.exact_match("Binds DNA.", " binds dna") == 1
    assert texts.exact_match("Binds DNA", "Binds DNA..") == 0
    assert texts.exact_match("Binds DNA", "It binds DNA") == 0


sentences = st.lists(st.sampled_from(["binds", "ATP", "kinase", "the", "DNA", "."]), max_size=9).map(" ".join)


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8))
def test_bleu_is_that_of_sacrebleu(rows: list[tuple[str, str]]) -> None:
    gold, predicted = map(list, zip(*rows, strict=True))
    expected = sacrebleu.corpus_bleu(predicted, [gold]).score / 100
    assert value("bleu", Answers("text", [], gold, predicted)) == pytest.approx(expected, abs=1e-9)


def test_bleu_counts_a_missing_answer_as_an_empty_one_and_may_be_resampled() -> None:
    gold = ["the kinase binds ATP and DNA .", "it binds the DNA of the cell ."]
    answers = Answers("text", [], gold, [gold[0], None])
    assert value("bleu", answers) == pytest.approx(sacrebleu.corpus_bleu([gold[0], ""], [gold]).score / 100)
    assert 0 < value("bleu", answers) < 1
    assert statistic("bleu", answers)(np.array([[2, 0], [0, 1]])) == pytest.approx([1, 0])


def test_entities_are_names_by_form_and_template_words_are_none() -> None:
    said = "Catalyses the transfer of 2-oxoglutarate by p53 kinase, (ATP), NAD(+) and tRNA. Kinases bind Glucose."
    assert texts.entities(said) == {"2-oxoglutarate", "p53", "kinase", "atp", "nad", "trna", "kinases"}
    gold = ["Binds ATP and p53.", "Part of the ribosome."]
    assert value("entity_f1", Answers("text", [], gold, ["Binds DNA and p53.", None])) == pytest.approx(2 * 1 / 4)
    # the template alone earns ROUGE-L and no entity
    template = Answers("text", [], gold[:1], ["Binds RNA and p21."])
    assert value("rouge_l", template) == pytest.approx(0.5)
    assert value("entity_f1", template) == 0
    assert np.isnan(value("entity_f1", Answers("text", [], gold[1:], ["Unknown."])))


items = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4)
scores = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 4).map(lambda n: n / 4))


@given(st.lists(st.tuples(items, scores), min_size=1, max_size=12))
def test_fmax_equals_the_loop_over_thresholds(rows: list[tuple[list[str], dict[str, float]]]) -> None:
    best = 0.0
    for cut in (0.25, 0.5, 0.75, 1.0):
        left = [(set(gold), {item for item, score in own.items() if score >= cut}) for gold, own in rows]
        answered = [len(gold & said) / len(said) for gold, said in left if said]
        precision, recall = np.mean(answered) if answered else 0, np.mean([len(gold & said) / len(gold) for gold, said in left])
        best = max(best, 2 * precision * recall / (precision + recall) if precision + recall else 0)
    answers = Answers("set", [], [gold for gold, _ in rows], [list(own) for _, own in rows], None, [own for _, own in rows])
    assert value("fmax", answers) == pytest.approx(best)


def test_fmax_without_scores_has_one_threshold_and_silence_costs_recall() -> None:
    assert value("fmax", Answers("set", [], [["a", "b"], ["c"]], [["a"], None])) == pytest.approx(2 * 1 * 0.25 / 1.25)


def test_ec_numbers_are_compared_by_digits() -> None:
    answers = Answers("set", [], [["2.7.11.1"], ["1.1.1.1", "3.4.-.-"]], [["2.7.11.22"], ["EC 1.2.1.1"]])
    assert metrics_of("set", answers.gold)[-4:] == list(EC_METRICS)
    # digits 1: gold 2, 1, 3; said 2, 1. digits 2: gold 2.7, 1.1, 3.4; said 2.7, 1.2. digits 3 and 4: gold without 3.4
    assert [value(metric, answers) for metric in EC_METRICS] == pytest.approx([4 / 5, 2 / 5, 2 / 4, 0])
    assert not set(EC_METRICS) & set(metrics_of("set", [["ATP binding"], ["2.7.11.1"]]))
    assert itemsets.are_ec_numbers([["3.5.1.n3"], []])
    assert not itemsets.are_ec_numbers([[]])


def test_every_metric_a_card_may_name_can_be_computed() -> None:
    given = {
        "binary": (["a", "b"], ["a", "b"]),
        "multiclass": (CHOICES, ["a", "b"]),
        "regression": ([], [0.5, 1.0]),
        "text": ([], ["Binds ATP.", "Binds DNA."]),
        "multilabel": (["a", "b"], [["a"], ["a", "b"]]),
        "set": ([], [["2.7.11.1"], ["1.1.1.1"]]),
    }
    assert set(metrics_of("set", given["set"][1])) == set(KINDS["set"].metrics)
    for kind in KINDS:
        choices, gold = given[kind]
        logprobs = np.eye(len(choices))[: len(gold)] * 50 if kind in ("binary", "multiclass") else None
        answers = Answers(kind, choices, gold, gold, logprobs)
        for metric in metrics_of(kind, gold):
            best = 0.0 if metric in ("mae", "ece", "brier") else 1.0
            wanted = 0.0 if metric == "bleu" else best  # too short for 4-grams
            assert value(metric, answers) == pytest.approx(wanted), (kind, metric)
