import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from training.metrics.controlled_shift import distance, scanner_ratio


def test_the_distance_by_hand() -> None:
    scores = np.array([[1.0, 3.0], [6.0, 2.0]])
    reference = np.array([1.0, 4.0])
    # squares: 0 and 4, mean 2; 4 and 4, mean 4; mean 3; the reference has a variance of 4.5
    assert distance(scores, reference) == pytest.approx(np.sqrt(3 / 4.5))


def test_a_slide_counts_once_whatever_its_number_of_scanners_and_only_with_a_reference() -> None:
    scores = np.array([[1.0, 3.0], [6.0, np.nan], [9.0, 9.0], [np.nan, np.nan]])
    reference = np.array([1.0, 4.0, np.nan, 7.0])
    # squares: 0 and 4, mean 2; 4; mean 3; the last two slides take no part
    assert distance(scores, reference) == pytest.approx(np.sqrt(3 / 4.5))


def test_what_has_no_distance_or_ratio_is_nan() -> None:
    one = np.array([[1.0, 2.0]])
    assert np.isnan(distance(one, np.array([1.0])))
    assert np.isnan(distance(np.ones((3, 2)), np.ones(3)))
    assert np.isnan(scanner_ratio(one))
    assert np.isnan(scanner_ratio(np.ones((3, 2))))
    assert np.isnan(scanner_ratio(np.arange(3.0)[:, None]))


@settings(max_examples=50)
@given(
    arrays(np.float64, (4, 3), elements=st.integers(-50, 50)),
    st.floats(0.1, 9),
    st.floats(-5, 5),
)
def test_neither_changes_when_scores_are_scaled_and_shifted(
    scores: np.ndarray, factor: float, shift: float
) -> None:
    reference = np.array([0.0, 1.0, 3.0, -2.0])
    moved, other = factor * scores + shift, factor * reference + shift
    np.testing.assert_allclose(
        distance(moved, other), distance(scores, reference), rtol=1e-6, atol=1e-9
    )
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    if np.square(rest).sum() > 1e-6:
        np.testing.assert_allclose(
            scanner_ratio(moved), scanner_ratio(scores), rtol=1e-6, atol=1e-9
        )


def test_the_ratio_is_that_of_the_two_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((9, 4)) + np.arange(4) + 3 * rng.standard_normal((9, 1))
    table = np.vstack([scores, [1.0, np.nan, 2.0, 3.0]])
    # Two scanners: the F ratio is the square of the paired t.
    t = stats.ttest_rel(scores[:, 0], scores[:, 1]).statistic
    assert scanner_ratio(scores[:, :2]) == pytest.approx(t**2)
    slide, scanner = scores.mean(1, keepdims=True), scores.mean(0)
    between = 9 * np.square(scanner - scores.mean()).sum() / 3
    error = np.square(scores - slide - scanner + scores.mean()).sum() / 24
    assert scanner_ratio(table) == pytest.approx(between / error)


def test_groups_are_measured_apart() -> None:
    rng = np.random.default_rng(2)
    scores, reference = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5))
    found = distance(scores, reference), scanner_ratio(scores)
    for group in range(2):
        assert found[0][group] == distance(scores[group], reference[group])
        assert found[1][group] == pytest.approx(float(scanner_ratio(scores[group])), rel=1e-12)


def test_where_scanners_are_exchangeable_the_ratio_is_about_one_whatever_the_spread() -> None:
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((400, 30, 5))
    small = 0.01 * scores + rng.standard_normal((400, 30, 1))
    assert scanner_ratio(scores).mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(scanner_ratio(small), scanner_ratio(scores), rtol=1e-6)
