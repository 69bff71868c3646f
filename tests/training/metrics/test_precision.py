import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from training.metrics.precision import auprc, grouped_auprc


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), max_size=60))
def test_it_is_scikit_learns_average_precision_in_every_group(rows):
    labels = np.array([row[0] for row in rows], np.int64)
    scores = np.array([row[1] for row in rows], np.float64)
    group = np.array([row[2] for row in rows], np.int64)
    found = grouped_auprc(labels, scores, group, 5)
    for number in range(5):
        own = group == number
        if 0 < labels[own].sum() < own.sum():
            expected = average_precision_score(labels[own], scores[own])
            assert found[number] == pytest.approx(expected, rel=1e-12)
        else:
            assert np.isnan(found[number])


def test_by_hand():
    labels, scores = np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])
    assert auprc(labels, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert auprc(labels, np.zeros(4)) == 0.5
    assert np.isnan(auprc(labels, np.array([4.0, np.nan, 2.0, 1.0])))
