import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from orchestrator import resampling

METHODS = ("percentile", "bca", "expanded")


def drawn(size, *, method="percentile", num_draws=2000, stratum=None, seed=0):
    stratum = np.zeros(size, dtype=int) if stratum is None else stratum
    names = [f"p{n:03d}" for n in range(size)]
    return resampling.draw(stratum, names, num_draws=num_draws, method=method, seed=seed)


def means(values, draws):
    return (values @ draws.weight / draws.weight.sum(0))[None]


def strata(patients, trials, labels):
    patient, trial, label = (np.array(each) for each in (patients, trials, labels))
    size = int(patient.max()) + 1
    return resampling.strata(patient, trial, label, num_patients=size)


def test_folds_are_strata_and_folds_of_the_same_patients_are_one():
    apart = strata([0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1] * 2)
    assert len(set(apart)) == 4
    again = strata([0, 1, 2, 3] * 2, [0] * 4 + [1] * 4, [0, 0, 1, 1] * 2)
    assert len(set(again)) == 2
    overlap = strata([0, 1, 2, 3, 2, 3, 4, 5], [0] * 4 + [1] * 4, [0, 1, 0, 1, 0, 1, 0, 1])
    assert len(set(overlap)) == 2


def test_a_patient_alone_joins_its_class_in_other_folds():
    found = strata([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1])
    assert found[2] == found[5] and np.bincount(found).min() == 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=30),
    st.sampled_from(METHODS),
    st.integers(0, 9),
)
def test_a_draw_keeps_the_size_of_every_stratum(labels, method, seed):
    stratum = np.unique(labels, return_inverse=True)[1]
    found = drawn(len(labels), method=method, num_draws=7, stratum=stratum, seed=seed)
    assert (found.weight >= 0).all() and (found.weight[:, 0] == 1).all()
    for number in set(stratum):
        own = found.weight[stratum == number, 1:8].sum(0)
        np.testing.assert_allclose(own, (stratum == number).sum(), rtol=1e-5)
    again = drawn(len(labels), method=method, num_draws=7, stratum=stratum, seed=seed)
    np.testing.assert_array_equal(found.weight, again.weight)


def test_a_patient_more_in_one_stratum_leaves_the_draws_of_another_alone():
    few = drawn(4, stratum=np.array([0, 0, 1, 1]))
    names = ["p000", "p001", "p002", "p003", "p004"]
    stratum = np.array([0, 0, 1, 1, 1])
    more = resampling.draw(stratum, names, num_draws=2000, method="percentile", seed=0)
    np.testing.assert_array_equal(few.weight[:2], more.weight[:2])
    assert not np.array_equal(few.weight[:2], drawn(4, seed=1).weight[:2])


def test_the_variance_of_a_mean_is_right_where_one_fewer_is_drawn():
    values = np.random.default_rng(0).normal(size=6)
    exact = values.var(ddof=1) / 6
    plain, expanded = (drawn(6, method=m, num_draws=40_000) for m in ("percentile", "expanded"))
    found = [resampling.spread(means(values, each), each)[0] ** 2 for each in (plain, expanded)]
    assert found[1] == pytest.approx(exact, rel=0.04)
    assert found[0] == pytest.approx(exact * 5 / 6, rel=0.04)


def test_percentiles_are_numpys():
    draws = drawn(20, num_draws=500)
    values = means(np.arange(20.0) ** 2, draws)
    low, high = resampling.intervals(values, draws, level=0.9)
    expected = np.quantile(values[0, 1:501], [0.05, 0.95])
    assert [low[0], high[0]] == pytest.approx(list(expected), abs=1e-9)


def test_bca_is_the_formula_of_efron():
    sample = np.random.default_rng(4).exponential(size=15)
    draws = drawn(15, method="bca", num_draws=3000)
    values = means(sample, draws)
    boot = np.sort(values[0, 1:3001])
    bias = stats.norm.ppf((boot < values[0, 0]).mean())
    left_out = np.array([np.delete(sample, place).mean() for place in range(15)])
    pull = ((left_out.mean() - left_out) ** 3).sum() / (
        6 * ((left_out.mean() - left_out) ** 2).sum() ** 1.5
    )
    ends = [
        stats.norm.cdf(bias + (bias + z) / (1 - pull * (bias + z)))
        for z in stats.norm.ppf([0.025, 0.975])
    ]
    low, high = resampling.intervals(values, draws, level=0.95)
    assert [low[0], high[0]] == pytest.approx(list(np.quantile(boot, ends)), abs=2e-3)


def test_an_expanded_interval_of_a_mean_is_about_students():
    sample = np.random.default_rng(7).normal(size=12)
    draws = drawn(12, method="expanded", num_draws=20_000)
    low, high = resampling.intervals(means(sample, draws), draws, level=0.95)
    expected = stats.t.interval(0.95, 11, sample.mean(), stats.sem(sample))
    assert [low[0], high[0]] == pytest.approx(list(expected), abs=0.08)


@pytest.mark.parametrize("method", METHODS)
def test_p_is_small_exactly_where_the_interval_excludes_zero(method):
    random = np.random.default_rng(8)
    draws = drawn(25, method=method)
    for shift in np.linspace(-1, 1, 21):
        values = means(random.normal(size=25) + shift, draws)
        low, high = resampling.intervals(values, draws, level=0.95)
        p = resampling.p_values(values, draws)[0]
        if abs(p - 0.05) > 0.004:
            assert (p < 0.05) == (low[0] > 0 or high[0] < 0)


def test_no_difference_at_all_is_never_significant():
    draws = drawn(10)
    values = np.zeros((1, draws.weight.shape[1]))
    assert resampling.p_values(values, draws)[0] == pytest.approx(1)
    low, high = resampling.intervals(values, draws, level=0.95)
    assert low[0] == high[0] == 0


def test_what_is_rarely_defined_has_no_interval():
    draws = drawn(10, num_draws=100)
    values = means(np.arange(10.0), draws)
    values[0, 1:6] = np.nan
    assert not np.isnan(resampling.intervals(values, draws, level=0.95)[0][0])
    values[0, 1:20] = np.nan
    assert np.isnan(resampling.intervals(values, draws, level=0.95)[0][0])
    assert np.isnan(resampling.p_values(values, draws)[0])


def test_without_draws_there_is_the_estimate_alone():
    draws = drawn(5, num_draws=0)
    values = means(np.arange(5.0), draws)
    assert values[0, 0] == 2
    assert np.isnan(resampling.intervals(values, draws, level=0.95)[0]).all()
    assert np.isnan(resampling.spread(values, draws)).all()
    assert np.isnan(resampling.p_values(values, draws)).all()


def test_expanded_quantiles_are_those_of_students_t():
    draws = drawn(8, method="expanded", num_draws=10)
    share = resampling._share_at(0.025, np.zeros(1), np.zeros(1), draws)[0]
    assert special.ndtri(share) == pytest.approx(stats.t.ppf(0.025, 7))
