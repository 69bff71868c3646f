import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from training.metrics import calibration as cal


def cases(seed: int, num: int = 200, *, slope: float = 1.0, shift: float = 0.0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(0.3, 1.5, num)
    labels = (generator.random(num) < 1 / (1 + np.exp(-(shift + slope * scores)))).astype(np.int64)
    return labels, scores


def test_brier_is_scikit_learns():
    labels, scores = cases(0)
    expected = brier_score_loss(labels, 1 / (1 + np.exp(-scores)))
    assert cal.brier(labels, scores) == pytest.approx(expected, rel=1e-12)


def test_probabilities_of_extreme_logits_are_exact():
    scores = np.array([-1000.0, 0.0, 1000.0, np.nan])
    np.testing.assert_array_equal(cal.probability(scores), [0.0, 0.5, 1.0, np.nan])


@pytest.mark.parametrize(("seed", "slope", "shift"), [(1, 1.0, 0.0), (2, 0.3, -1.0), (3, -2.0, 2)])
def test_intercept_and_slope_are_those_of_other_optimisers(seed, slope, shift):
    labels, scores = cases(seed, slope=slope, shift=shift)
    intercept, found = cal.calibration(labels, scores)
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(scores[:, None], labels)
    assert found == pytest.approx(model.coef_[0, 0], abs=1e-6)
    loss = minimize(
        lambda a: np.logaddexp(0, a + scores).sum() - labels @ (a + scores), 0.0, tol=1e-12
    )
    assert intercept == pytest.approx(loss.x[0], abs=1e-5)


def test_doubled_scores_halve_the_slope_and_shifted_ones_move_the_intercept():
    labels, scores = cases(4)
    intercept, slope = cal.calibration(labels, scores)
    assert cal.calibration(labels, 2 * scores)[1] == pytest.approx(slope / 2)
    moved = cal.calibration(labels, scores - 3)
    assert moved == (pytest.approx(intercept + 3), pytest.approx(slope))


def test_what_is_not_defined_is_nan():
    labels, scores = np.array([0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, 3.0])
    intercept, slope = cal.calibration(labels, scores)
    assert np.isnan(slope) and np.isfinite(intercept)
    assert np.isnan(cal.calibration(1 - labels, scores)[1])
    assert np.isnan(cal.calibration(labels, np.array([0.0, 1.0, 1.0, 2.0]))[1])
    assert np.isnan(cal.calibration(labels, np.ones(4))[1])
    assert np.isnan(cal.calibration(np.ones(4, np.int64), scores)).all()
    assert np.isnan(cal.calibration(labels, np.array([-2.0, np.nan, 1.0, 3.0]))).all()
    none = np.array([], np.int64), np.array([])
    assert np.isnan(cal.calibration(*none)).all() and np.isnan(cal.brier(*none))
    assert np.isnan(cal.expected_calibration_error(*none))


def test_calibration_error_by_hand():
    chance = np.array([0.05, 0.15, 0.18, 0.95, 1.0])
    with np.errstate(divide="ignore"):
        scores = np.log(chance / (1 - chance))
    labels = np.array([0, 1, 0, 1, 0])
    expected = (0.05 + abs(0.33 - 1) + abs(1.95 - 1)) / 5
    assert cal.expected_calibration_error(labels, scores) == pytest.approx(expected)
    one = cal.expected_calibration_error(labels, scores, num_bins=1)
    assert one == pytest.approx(abs(chance.sum() - labels.sum()) / 5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_groups_are_measured_as_if_alone(seed: int, num_groups: int):
    labels, scores = cases(seed, 60)
    group = np.random.default_rng(seed).integers(0, num_groups, 60)
    arguments = labels, scores, group, num_groups + 1
    together = [
        cal.grouped_brier(*arguments),
        cal.grouped_calibration_error(*arguments),
        *cal.grouped_calibration(*arguments),
    ]
    for number in range(num_groups + 1):
        own = group == number
        alone = [
            cal.brier(labels[own], scores[own]),
            cal.expected_calibration_error(labels[own], scores[own]),
            *cal.calibration(labels[own], scores[own]),
        ]
        np.testing.assert_allclose([each[number] for each in together], alone, rtol=1e-6, atol=1e-9)


def test_multiclass_brier_is_half_the_squared_distance_and_with_two_classes_the_binary_one():
    generator = np.random.default_rng(9)
    scores, labels = generator.normal(size=(50, 3)), generator.integers(0, 3, 50)
    chance = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = np.square(chance - np.eye(3)[labels]).sum() / 50 / 2
    group = np.zeros(50, np.int64)
    found = cal.grouped_multiclass_brier(labels, scores, group, 2)
    assert found[0] == pytest.approx(expected) and np.isnan(found[1])
    binary = labels % 2
    two = np.stack([np.full(50, 1.5), 1.5 + scores[:, 0]], 1)
    same = cal.grouped_multiclass_brier(binary, two, group, 1)[0]
    assert same == pytest.approx(cal.brier(binary, scores[:, 0]))
