import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from training.metrics.attention import rank_correlation, top_overlap


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.booleans())
def test_rank_correlation_is_scipys(seed: int, num: int, tied: bool):
    draw = np.random.default_rng(seed)
    first, second = draw.normal(size=(2, 3, num))
    if tied:
        first, second = np.round(first), np.round(second)
        first[:, :2], second[:, :2] = [9.0, -9.0], [9.0, -9.0]  # not all equal
    found = rank_correlation(first, second)
    for row in range(3):
        assert found[row] == pytest.approx(spearmanr(first[row], second[row]).statistic, abs=1e-12)


def test_a_monotone_transformation_of_a_side_changes_nothing():
    first, second = np.random.default_rng(0).random((2, 50))
    again = rank_correlation(np.exp(5 * first), second**3)
    assert again == pytest.approx(float(rank_correlation(first, second)))


def test_overlap_by_hand():
    first = np.array([0.5, 0.3, 0.1, 0.06, 0.04])
    second = np.array([0.1, 0.4, 0.3, 0.15, 0.05])
    assert top_overlap(first, second) == 0  # one tile each: 0 and 1
    assert top_overlap(first, second, share=0.4) == 0.5  # 0, 1 and 1, 2
    assert top_overlap(first, second, share=1.0) == top_overlap(first, first) == 1
    both = top_overlap(np.stack([first, first]), np.stack([second, first]), share=0.4)
    assert both.tolist() == [0.5, 1]


def test_of_equal_weights_the_first_count():
    assert top_overlap(np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1]), share=0.5) == 1


def test_overlap_of_unrelated_weights_is_about_the_share():
    first, second = np.random.default_rng(1).random((2, 2000, 100))
    assert top_overlap(first, second).mean() == pytest.approx(0.05, abs=0.005)


def test_what_is_not_defined_is_nan():
    none = np.empty((2, 0))
    assert np.isnan(rank_correlation(none, none)).all() and np.isnan(top_overlap(none, none)).all()
    one = np.ones((2, 1))
    assert np.isnan(rank_correlation(one, one)).all() and (top_overlap(one, one) == 1).all()
    assert np.isnan(rank_correlation(np.full((1, 3), 1 / 3), np.array([[0.2, 0.3, 0.5]]))).all()
