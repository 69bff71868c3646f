import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from training.metrics.accuracy import (
    accuracy,
    auroc,
    balanced_accuracy,
    best_threshold,
    grouped_accuracy,
    grouped_auroc,
    grouped_multiclass_auroc,
    multiclass_auroc,
    one_vs_rest,
)

seeds = st.integers(0, 2**32 - 1)


def example(seed, num_cases, *, num_classes=2, tied):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, num_classes, num_cases)
    columns = 1 if num_classes == 2 else num_classes
    scores = draw.normal(size=(num_cases, columns)) + labels[:, None] / 2
    return labels, np.round(scores) if tied else scores


def softmax(scores):
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def test_auroc_equals_the_value_by_hand():
    # Pairs: 2 > 1, 2 = 2 (half), 3 > 1, 3 > 2.
    assert auroc(np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 2.0, 3.0])) == 3.5 / 4


@settings(deadline=None)
@given(seeds, st.integers(2, 40), st.booleans())
def test_auroc_equals_counting_pairs_and_scikit_learn(seed, num_cases, tied):
    labels, scores = example(seed, num_cases, tied=tied)
    score = scores[:, 0]
    positive, negative = score[labels == 1], score[labels == 0]
    if not len(positive) or not len(negative):
        assert math.isnan(auroc(labels, score))
        return
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert auroc(labels, score) == pytest.approx(wins / len(positive) / len(negative), abs=1e-12)
    assert auroc(labels, score) == pytest.approx(roc_auc_score(labels, score), abs=1e-12)
    assert auroc(labels, -score) == pytest.approx(1 - auroc(labels, score), abs=1e-12)
    assert auroc(labels, np.exp(score)) == auroc(labels, score)


@pytest.mark.parametrize("num_cases", [0, 1, 5])
def test_auroc_of_one_class_is_undefined(num_cases):
    assert math.isnan(auroc(np.ones(num_cases, dtype=np.int64), np.arange(num_cases, dtype=float)))


def test_auroc_with_a_nan_score_is_undefined():
    assert math.isnan(auroc(np.array([0, 1, 1]), np.array([0.0, 1.0, np.nan])))


@settings(deadline=None)
@given(seeds, st.integers(0, 80), st.integers(1, 6), st.booleans())
def test_groups_at_once_equal_groups_one_by_one(seed, num_cases, num_groups, tied):
    labels, scores = example(seed, num_cases, num_classes=3, tied=tied)
    group = np.random.default_rng(seed).integers(0, num_groups, num_cases)
    predicted = scores.argmax(1)
    binary = (labels > 0).astype(np.int64)
    areas = grouped_auroc(binary, scores[:, 0], group, num_groups)
    macro = grouped_multiclass_auroc(labels, scores, group, num_groups)
    plain, balanced = grouped_accuracy(labels, predicted, group, num_groups, num_classes=3)
    for g in range(num_groups):
        own = group == g
        np.testing.assert_equal(areas[g], auroc(binary[own], scores[own, 0]))
        np.testing.assert_equal(macro[g], multiclass_auroc(labels[own], scores[own]))
        np.testing.assert_equal(plain[g], accuracy(labels[own], predicted[own]))
        alone = balanced_accuracy(labels[own], predicted[own], num_classes=3)
        np.testing.assert_equal(balanced[g], alone)


@settings(deadline=None)
@given(seeds, st.integers(12, 40), st.sampled_from([3, 4]))
def test_multiclass_auroc_equals_scikit_learn(seed, num_cases, num_classes):
    labels, scores = example(seed, num_cases, num_classes=num_classes, tied=False)
    labels[:num_classes] = np.arange(num_classes)
    expected = roc_auc_score(labels, softmax(scores), multi_class="ovr", average="macro")
    assert multiclass_auroc(labels, scores) == pytest.approx(expected, abs=1e-12)
    draw = np.random.default_rng(seed)
    shifted = scores + draw.normal(size=(num_cases, 1)) * 3
    assert multiclass_auroc(labels, shifted) == pytest.approx(expected, abs=1e-12)


def test_multiclass_auroc_without_one_of_the_classes_is_undefined():
    scores = np.random.default_rng(0).normal(size=(4, 3))
    assert math.isnan(multiclass_auroc(np.array([0, 1, 0, 1]), scores))


def test_one_against_the_rest_keeps_the_order_of_certain_cases():
    logits = np.array([[900.0, 0.0, 0.0], [901.0, 0.0, 0.0]])
    assert softmax(logits)[0, 0] == softmax(logits)[1, 0]
    odds = one_vs_rest(logits)
    assert odds[0, 0] < odds[1, 0]
    assert odds[0, 0] == pytest.approx(900 - math.log(2))
    assert np.isfinite(odds).all()


@settings(deadline=None)
@given(seeds, st.integers(6, 40), st.sampled_from([2, 4]))
def test_balanced_accuracy_equals_scikit_learn(seed, num_cases, num_classes):
    draw = np.random.default_rng(seed)
    labels, predicted = draw.integers(0, num_classes, (2, num_cases))
    labels[:num_classes] = np.arange(num_classes)
    value = balanced_accuracy(labels, predicted, num_classes=num_classes)
    assert value == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)


def test_accuracies_equal_the_values_by_hand():
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert accuracy(labels, predicted) == 3 / 4
    assert balanced_accuracy(labels, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert math.isnan(balanced_accuracy(labels[:3], predicted[:3]))
    assert math.isnan(accuracy(labels[:0], predicted[:0]))


def test_best_threshold_equals_the_value_by_hand():
    labels, scores = np.array([0, 0, 1, 1]), np.array([-3.0, -1.0, 2.0, 4.0])
    assert best_threshold(labels, scores) == 0.5
    # 1 | 2 and 5 | 6 are equally good; the first is nearer to zero.
    labels, scores = np.array([0, 1, 0, 1]), np.array([1.0, 2.0, 5.0, 6.0])
    assert best_threshold(labels, scores) == 1.5
    assert best_threshold(labels, scores - 7) == -1.5


@pytest.mark.parametrize("labels", [[], [1], [0, 0, 0], [0, 1]])
def test_best_threshold_without_a_candidate_is_zero(labels):
    assert best_threshold(np.array(labels, dtype=np.int64), np.ones(len(labels))) == 0


def test_best_threshold_between_neighbouring_floats_separates_them():
    scores = np.array([1.0, np.nextafter(1.0, 2.0)])
    threshold = best_threshold(np.array([0, 1]), scores)
    assert ((scores >= threshold) == [False, True]).all()


@settings(deadline=None)
@given(seeds, st.integers(2, 30), st.booleans())
def test_best_threshold_is_the_best_of_all_middles(seed, num_cases, tied):
    labels, scores = example(seed, num_cases, tied=tied)
    score = scores[:, 0]
    labels[:2] = [0, 1]
    values = np.unique(score)
    if len(values) < 2:
        return
    threshold = best_threshold(labels, score)
    middles = (values[1:] + values[:-1]) / 2
    worth = [balanced_accuracy(labels, (score >= t).astype(np.int64)) for t in middles]
    reached = balanced_accuracy(labels, (score >= threshold).astype(np.int64))
    assert reached == pytest.approx(max(worth), abs=1e-12)
    as_good = [t for t, w in zip(middles, worth, strict=True) if w > max(worth) - 1e-12]
    assert abs(threshold) == min(abs(t) for t in as_good)
