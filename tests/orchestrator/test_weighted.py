"""Weighted metrics against other implementations, and against the metric of a repeated sample."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sksurv.metrics import concordance_index_censored

from orchestrator import weighted
from training.metrics import robustness

DRAWS = 30


def counts(random, size):
    found = random.multinomial(size, np.full(size, 1 / size), size=DRAWS).T.astype(np.float32)
    found[:, 0] = 1
    return found


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_agrees_with_scikit_learn(ties):
    random = np.random.default_rng(3)
    label = random.integers(0, 2, 40)
    score = random.normal(size=40) + label
    score = np.round(score * 2) / 2 if ties else score
    weight = counts(random, 40)
    found = weighted.auroc(label, score, weight)
    for draw in range(DRAWS):
        expected = roc_auc_score(label, score, sample_weight=weight[:, draw])
        assert found[draw] == pytest.approx(expected, abs=1e-9)


def test_auroc_of_one_class_or_of_a_draw_without_one_is_not_defined():
    weight = np.array([[1, 0, 2], [1, 1, 0], [1, 2, 1]], dtype=np.float32)
    assert np.isnan(weighted.auroc(np.ones(3, int), np.arange(3.0), weight)).all()
    found = weighted.auroc(np.array([1, 0, 0]), np.array([2.0, 1.0, 3.0]), weight)
    assert found[0] == 0.5 and np.isnan(found[1]) and found[2] == 0
    assert np.isnan(weighted.auroc(np.array([1, 0]), np.array([np.nan, 1.0]), weight[:2])).all()


def test_many_patients_lose_no_precision():
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], 3500)
    score = random.normal(size=7000) + label
    weight = np.ones((7000, 1), dtype=np.float32)
    found = weighted.auroc(label, score, weight)[0]
    assert found == pytest.approx(roc_auc_score(label, score), abs=1e-9)


def test_concordance_agrees_with_scikit_survival_on_the_repeated_sample():
    random = np.random.default_rng(5)
    time = random.permutation(np.arange(1.0, 31))
    event = random.random(30) < 0.6
    risks = np.round(random.normal(size=(2, 30)) - time / 20, 1)
    weight = counts(random, 30)
    found = weighted.concordance(time, event, risks, weight)
    for row in range(2):
        for draw in range(DRAWS):
            rows = np.repeat(np.arange(30), weight[:, draw].astype(int))
            expected = concordance_index_censored(event[rows], time[rows], risks[row][rows])[0]
            assert found[row, draw] == pytest.approx(expected, abs=1e-9)


def test_shares_are_brier_scores_of_the_repeated_sample():
    random = np.random.default_rng(1)
    label, chance = random.integers(0, 2, 20), random.random(20)
    weight = counts(random, 20)
    squares = np.square(chance - label)[None]
    found = weighted.shares(squares, np.ones((1, 20)), weight)[0]
    for draw in range(DRAWS):
        expected = brier_score_loss(label, chance, sample_weight=weight[:, draw])
        assert found[draw] == pytest.approx(expected, abs=1e-9)


def test_inconsistency_is_that_of_the_repeated_sample():
    random = np.random.default_rng(2)
    scores = random.normal(size=(12, 3)) + random.normal(size=(12, 1))
    weight = counts(random, 12)
    mean = scores.mean(1)
    centred = mean - mean.mean()
    parts = (np.ones((1, 12)), scores.var(1, ddof=1)[None], centred[None], centred[None] ** 2)
    found = weighted.inconsistency(*parts, weight)[0]
    for draw in range(DRAWS):
        rows = np.repeat(np.arange(12), weight[:, draw].astype(int))
        assert found[draw] == pytest.approx(robustness.inconsistency(scores[rows]), abs=1e-9)


def test_scores_without_spread_have_no_inconsistency():
    ones = np.ones((1, 3))
    found = weighted.inconsistency(ones, ones, 0 * ones, 0 * ones, np.ones((3, 2), np.float32))
    assert np.isnan(found).all()
