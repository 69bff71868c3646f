import itertools

import numpy as np
import pytest
from scipy import stats

from tests.science.statistics import (
    deviation_by_chance,
    estimate,
    holm,
    log_ratio,
    wins_by_chance,
)


def test_an_estimate_by_hand() -> None:
    found = estimate(np.array([1.0, 2.0, 3.0, np.nan]))
    # mean 2, SD 1, standard error 1 / sqrt(3); t(.975, 2) = 4.302653
    assert (found.mean, found.num_cohorts) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / np.sqrt(3), abs=1e-6)
    assert found.p == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)


def test_too_few_or_equal_cohorts() -> None:
    assert np.isnan(estimate(np.array([1.0])).mean)
    same = estimate(np.array([2.0, 2.0]))
    assert (same.low, same.high, same.p) == (2.0, 2.0, 0.0)
    assert estimate(np.zeros(5)).p == 1


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(0)
    draws = [estimate(rng.standard_normal(20)) for _ in range(2000)]
    covered = np.mean([each.low < 0 < each.high for each in draws])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_log_ratios_by_hand() -> None:
    found = log_ratio(np.array([2.0, 1.0, 0.0, 1.0]), np.array([1.0, 4.0, 1.0, np.nan]))
    np.testing.assert_allclose(found, [np.log(2), -np.log(4), np.nan, np.nan])


def test_holm_by_hand() -> None:
    found = holm(np.array([0.04, 0.01, np.nan, 0.03]))
    np.testing.assert_allclose(found, [0.06, 0.03, np.nan, 0.06])


def test_chance_is_that_of_all_signs() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((7, 3)) + 0.9
    limit = stats.t.ppf(0.975, 6)
    wins, largest, farthest = [], [], []
    for signs in itertools.product((1, -1), repeat=7):
        t = stats.ttest_1samp(np.array(signs)[:, None] * values, 0).statistic
        wins.append((t > limit).sum())
        largest.append(max(t.max(), 0))
        farthest.append(np.abs(t).max())
    count, top = wins_by_chance(values, draws=40_000)
    far = deviation_by_chance(values, draws=40_000)
    for found, known in ((count, wins), (top, largest), (far, farthest)):
        assert found.found == pytest.approx(known[0])
        assert found.expected == pytest.approx(np.mean(known), rel=0.05, abs=0.02)
        exact = np.mean(np.array(known) >= known[0] - 1e-9)
        assert found.p == pytest.approx(exact, rel=0.15, abs=0.002)


def test_dependent_arms_are_honest_as_often_as_promised_and_real_wins_are_found() -> None:
    rng = np.random.default_rng(2)
    low = {"count": 0, "largest": 0}
    for _ in range(300):
        shared = rng.standard_normal((20, 1))
        values = shared + 0.3 * rng.standard_normal((20, 30))
        count, largest = wins_by_chance(values, draws=400)
        low["count"] += count.p < 0.05
        low["largest"] += largest.p < 0.05
    assert max(low.values()) <= 300 * 0.05 + 15
    many = rng.standard_normal((20, 30)) + 0.7
    assert wins_by_chance(many, draws=2000)[0].p < 0.001
    one = rng.standard_normal((20, 30))
    one[:, 4] += 3
    assert wins_by_chance(one, draws=2000)[1].p < 0.001
    assert deviation_by_chance(-one, draws=2000).p < 0.001


def test_arms_without_a_value_everywhere_take_no_part_and_zeros_win_nothing() -> None:
    values = np.zeros((6, 3))
    values[2, 1] = np.nan
    count, largest = wins_by_chance(values, draws=100)
    assert (count.num_arms, count.found, count.p) == (2, 0, 1)
    assert (largest.found, largest.p) == (0, 1)
