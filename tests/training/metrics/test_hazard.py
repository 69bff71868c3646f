import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.linear_model import CoxPHSurvivalAnalysis

from training.metrics import hazard
from training.metrics.hazard import grouped_log_hazard_ratio, hazard_ratio


def example(seed: int, num: int = 30, times: int = 6):
    draw = np.random.default_rng(seed)
    score = draw.normal(size=num)
    time = draw.integers(1, times + 1, num).astype(float)
    return time, draw.random(num) < 0.7, score


def theirs(time, event, score) -> float:
    """Fit the standardised score with scikit-survival."""
    x = (score - score.mean()) / score.std(ddof=1)
    outcome = np.array(list(zip(event, time, strict=True)), [("event", bool), ("time", float)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoxPHSurvivalAnalysis(ties="efron", n_iter=200, tol=1e-12)
        return float(model.fit(x[:, None], outcome).coef_[0])


def test_it_equals_the_value_by_hand():
    time, event, score = np.array([1.0, 2, 3]), np.ones(3, bool), np.array([0, 1, 0.0])
    grid = np.linspace(-3, 3, 600001)
    x = (score - score.mean()) / score.std(ddof=1)
    w = [np.exp(grid * each) for each in x]
    value = grid * x.sum() - np.log(w[0] + w[1] + w[2]) - np.log(w[1] + w[2]) - np.log(w[2])
    assert np.log(hazard_ratio(time, event, score)) == pytest.approx(grid[value.argmax()], abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([2, 6, 1000]))
def test_it_agrees_with_scikit_survival(seed: int, times: int):
    time, event, score = example(seed, times=times)
    found = np.log(hazard_ratio(time, event, score))
    assert found == pytest.approx(theirs(time, event, score), abs=1e-7)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_scaling_and_shifting_scores_and_the_clock_change_nothing(seed: int):
    time, event, score = example(seed)
    expected = hazard_ratio(time, event, score)
    assert hazard_ratio(np.exp(time), event, 3 * score - 7) == pytest.approx(expected, rel=1e-8)
    assert hazard_ratio(time, event, -score) == pytest.approx(1 / expected, rel=1e-8)
    order = np.random.default_rng(seed).permutation(len(time))
    assert hazard_ratio(time[order], event[order], score[order]) == pytest.approx(expected)


def test_groups_are_fitted_by_themselves(monkeypatch: pytest.MonkeyPatch):
    sizes, parts = [30, 1, 12, 0, 50, 7], []
    for number, size in enumerate(sizes):
        parts.append((*example(number, size), np.full(size, number)))
    time, event, score, group = (np.concatenate(each) for each in zip(*parts, strict=True))
    shuffle = np.random.default_rng(0).permutation(len(time))
    given_rows = (time[shuffle], event[shuffle], score[shuffle], group[shuffle])
    found = grouped_log_hazard_ratio(*given_rows, 6)
    for number, part in enumerate(parts):
        if sizes[number] > 1:
            assert np.exp(found[number]) == pytest.approx(hazard_ratio(*part[:3]))
    assert np.isnan(found[[1, 3]]).all()
    monkeypatch.setattr(hazard, "_CELLS", 60)
    assert np.array_equal(grouped_log_hazard_ratio(*given_rows, 6), found, equal_nan=True)


def test_the_order_of_rows_changes_no_bit():
    time, event, score = example(3, 60)
    order = np.random.default_rng(1).permutation(60)
    assert hazard_ratio(time[order], event[order], score[order]) == hazard_ratio(time, event, score)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_that_order_events_without_fault_have_no_ratio(sign: float):
    time = np.arange(1.0, 21)
    assert np.isnan(hazard_ratio(time, np.ones(20, bool), sign * time))
    almost = sign * time.copy()
    almost[[3, 4]] = almost[[4, 3]]
    assert np.isfinite(hazard_ratio(time, np.ones(20, bool), almost))


def test_without_events_or_spread_there_is_none():
    time, event, score = example(0)
    assert np.isnan(hazard_ratio(time, np.zeros(30, bool), score))
    assert np.isnan(hazard_ratio(time, event, np.ones(30)))
    assert np.isnan(
        grouped_log_hazard_ratio(time[:0], event[:0], score[:0], np.zeros(0, int), 2)
    ).all()


def test_a_known_ratio_is_found():
    draw = np.random.default_rng(0)
    score = draw.normal(size=20000)
    time = draw.exponential(size=20000) * np.exp(-0.7 * score)
    censoring = draw.exponential(size=20000) * 2
    found = hazard_ratio(np.minimum(time, censoring), time <= censoring, score)
    assert found == pytest.approx(np.exp(0.7 * score.std(ddof=1)), rel=0.03)
