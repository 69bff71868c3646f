import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from training.metrics.association import chance, cramers_v

counts = st.integers(2, 5).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(1, 60), min_size=columns, max_size=columns), min_size=2, max_size=5
    )
)


def test_values_by_hand() -> None:
    # Rows 10, 10 and columns 12, 8: expected 6, 4; chi2 = 2 (2²/6 + 2²/4) = 10/3 of n = 20.
    table = np.array([[8, 2], [4, 6]])
    assert cramers_v(table) == pytest.approx(math.sqrt((10 / 3) / 20))
    square = (10 / 3) / 20 - 1 / 19
    assert cramers_v(table, corrected=True) == pytest.approx(math.sqrt(square / (1 - 1 / 19)))
    assert cramers_v(np.diag([3, 4, 5])) == pytest.approx(1)
    assert cramers_v(np.outer([1, 2, 3], [2, 4])) == pytest.approx(0, abs=1e-9)
    assert math.isnan(cramers_v(np.array([[3, 4]])))


@given(table=counts)
def test_it_equals_scipy_s(table: list[list[int]]) -> None:
    array = np.array(table)
    assert cramers_v(array) == pytest.approx(association(array, method="cramer"), abs=1e-9)
    empty = np.insert(np.insert(array, 1, 0, axis=0), 1, 0, axis=1)
    assert cramers_v(empty) == pytest.approx(cramers_v(array))


def test_the_correction_takes_out_what_chance_gives() -> None:
    draw = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(50):
        table = np.zeros((2, 30), np.int64)
        np.add.at(table, (draw.integers(0, 2, 120), draw.integers(0, 30, 120)), 1)
        plain.append(cramers_v(table))
        corrected.append(cramers_v(table, corrected=True))
    assert np.mean(plain) > 0.4
    assert np.mean(corrected) < 0.15


@given(table=counts)
def test_the_probability_of_chance_equals_scipy_s(table: list[list[int]]) -> None:
    array = np.array(table)
    expected = chi2_contingency(array, correction=False).pvalue
    assert chance(array) == pytest.approx(expected, abs=1e-9)
    assert chance(np.insert(array, 1, 0, axis=0)) == pytest.approx(expected, abs=1e-9)
    assert math.isnan(chance(array[:, :1]))
