import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score

from training.metrics import agreement as agr

# Shrout and Fleiss, Psychological Bulletin 1979, table 2: six targets, four judges; table 4 gives
# .29 for ICC(2,1) and .71 for ICC(3,1).
SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Fleiss' kappa worked out by hand in many texts: 10 subjects, 14 raters, 5 categories, .210.
VOTES = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip

scores = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 4)),
    elements=st.one_of(st.just(np.nan), st.integers(-3, 3).map(float)),
)


def slow_icc(values: np.ndarray) -> tuple[float, float]:
    """Two-way analysis of variance as in the textbook, on complete slides."""
    values = values[~np.isnan(values).any(1)]
    n, k = values.shape
    if n < 2 or k < 2:
        return np.nan, np.nan
    mean = values.mean()
    rows = k * ((values.mean(1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((values.mean(0) - mean) ** 2).sum() / (k - 1)
    fitted = values.mean(1)[:, None] + values.mean(0) - mean
    error = ((values - fitted) ** 2).sum() / ((n - 1) * (k - 1))
    return (
        (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n),
        (rows - error) / (rows + (k - 1) * error),
    )


def test_the_intraclass_correlations_are_the_published_ones():
    found = agr.icc(SHROUT)
    assert float(found.agreement) == pytest.approx(0.2898, abs=5e-5)
    assert float(found.consistency) == pytest.approx(0.7148, abs=5e-5)


@pytest.mark.parametrize("seed", range(4))
def test_intraclass_correlations_agree_with_a_slow_analysis_of_variance(seed: int):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(3, 12, 3)) + generator.normal(size=(3, 12, 1))
    values[generator.random(values.shape) < 0.1] = np.nan
    found = agr.icc(values)
    for number, each in enumerate(values):
        expected = slow_icc(each)
        np.testing.assert_allclose([part[number] for part in found], expected, rtol=1e-9)


def test_perfect_agreement_and_pure_offsets():
    slide = np.array([[0.0], [1.0], [5.0]])
    assert agr.icc(np.repeat(slide, 3, 1)) == (1.0, 1.0)
    shifted = agr.icc(slide + np.array([0.0, 2.0]))
    assert float(shifted.consistency) == pytest.approx(1.0) and float(shifted.agreement) < 0.8
    assert np.isnan(agr.icc(np.ones((4, 2)))).all() and np.isnan(agr.icc(slide)).all()
    assert np.isnan(agr.icc(np.full((3, 2), np.nan))).all()


@settings(deadline=None, max_examples=50)
@given(scores)
def test_differences_of_pairs_agree_with_loops(values: np.ndarray):
    found = agr.rmsd(values), agr.rank_rmsd(values), *agr.bland_altman(values)
    for place in itertools.product(range(len(values)), *[range(values.shape[2])] * 2):
        group, a, b = place
        first, second = values[group, :, a], values[group, :, b]
        both = ~np.isnan(first) & ~np.isnan(second)
        first, second = first[both], second[both]
        expected = [np.nan] * 5
        if len(first):
            ranks = [rankdata(each) / len(first) for each in (first, second)]
            expected[:2] = [np.sqrt(np.mean((x - y) ** 2)) for x, y in ((first, second), ranks)]
        if len(first) > 1:
            bias, spread = (first - second).mean(), 1.96 * (first - second).std(ddof=1)
            expected[2:] = [bias, bias - spread, bias + spread]
        np.testing.assert_allclose([each[place] for each in found], expected, atol=1e-12)


def test_ranks_ignore_a_monotone_change_of_one_scanner():
    values = np.random.default_rng(0).normal(size=(20, 2))
    changed = np.stack([values[:, 0], np.exp(values[:, 0])], axis=1)
    assert not agr.rank_rmsd(changed).any() and agr.rmsd(changed)[0, 1] > 0.1


@settings(deadline=None, max_examples=50)
@given(scores)
def test_cohens_kappa_is_scikit_learns(values: np.ndarray):
    found = agr.cohen_kappa(values)
    for group, a, b in itertools.product(range(len(values)), *[range(values.shape[2])] * 2):
        first, second = values[group, :, a], values[group, :, b]
        both = ~np.isnan(first) & ~np.isnan(second)
        first, second = first[both].astype(int), second[both].astype(int)
        if len(first) == 0 or len({*first, *second}) == 1:
            assert np.isnan(found[group, a, b])
        else:
            expected = cohen_kappa_score(first, second)
            assert found[group, a, b] == pytest.approx(expected, abs=1e-12)


def test_fleiss_kappa_is_the_published_one():
    classes = np.stack([np.repeat(np.arange(5.0), row) for row in VOTES])
    assert float(agr.fleiss_kappa(classes)) == pytest.approx(0.20993, abs=5e-6)
    with_gap = np.concatenate([classes, np.full((1, 14), np.nan)])
    both = agr.fleiss_kappa(np.stack([with_gap, with_gap[:, ::-1]]))
    np.testing.assert_allclose(both, 0.20993, atol=5e-6)


def test_fleiss_kappa_is_one_at_full_agreement_and_undefined_for_one_class():
    assert agr.fleiss_kappa(np.repeat([[0.0], [1.0]], 3, axis=1)) == 1.0
    assert np.isnan(agr.fleiss_kappa(np.ones((5, 3))))
    assert np.isnan(agr.fleiss_kappa(np.array([[0.0], [1.0]])))


def test_the_coefficient_of_variation_is_over_scanners_with_a_value():
    values = np.array([[0.8, 0.9, np.nan], [0.5, np.nan, np.nan], [-1.0, 0.0, 0.5], [1, 1, 1]])
    expected = [np.std([0.8, 0.9], ddof=1) / 0.85, np.nan, np.nan, 0.0]
    np.testing.assert_allclose(agr.coefficient_of_variation(values), expected)
