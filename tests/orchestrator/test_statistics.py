import warnings

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from orchestrator import resampling, statistics, weighted
from training.metrics import agreement


def test_holm_and_benjamini_hochberg_agree_with_their_definitions():
    random = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        p = random.random(size) ** 3
        order = np.argsort(p)
        holm, bh = np.empty(size), np.empty(size)
        holm[order] = np.minimum(1, np.maximum.accumulate(p[order] * (size - np.arange(size))))
        steps = p[order] * size / np.arange(1, size + 1)
        bh[order] = np.minimum(1, np.minimum.accumulate(steps[::-1])[::-1])
        np.testing.assert_allclose(statistics.adjust(p, "holm"), holm, atol=1e-9)
        np.testing.assert_allclose(statistics.adjust(p, "bh"), bh, atol=1e-9)
        np.testing.assert_allclose(statistics.adjust(p, "bh"), stats.false_discovery_control(p))


def test_p_values_that_are_not_there_are_not_counted():
    found = statistics.adjust(np.array([0.01, np.nan, 0.04]), "holm")
    assert found[0] == pytest.approx(0.02) and found[2] == pytest.approx(0.04)
    assert np.isnan(found[1])
    assert np.isnan(statistics.adjust(np.array([np.nan]), "bh")).all()
    assert len(statistics.adjust(np.array([]), "bh")) == 0


def slow_delong(label, first, second):
    """DeLong, DeLong and Clarke-Pearson with every pair written out."""
    parts = []
    for score in (first, second):
        positive, negative = score[label == 1], score[label == 0]
        pairs = (positive[:, None] > negative) + (positive[:, None] == negative) / 2
        parts.append((pairs.mean(1), pairs.mean(0), pairs.mean()))
    variance = sum(
        np.cov(np.stack([parts[0][side], parts[1][side]])) / len(parts[0][side]) for side in (0, 1)
    )
    return (
        parts[0][2] - parts[1][2],
        np.sqrt(variance[0, 0] + variance[1, 1] - 2 * variance[0, 1]),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_delong_agrees_with_all_pairs_written_out(ties):
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 60)
    scores = random.normal(size=(2, 60)) + label
    scores = np.round(scores) if ties else scores
    difference, error, p = statistics.delong(label, *scores)
    expected = slow_delong(label, *scores)
    assert difference == pytest.approx(expected[0], abs=1e-9)
    assert error == pytest.approx(expected[1], abs=1e-9)
    area = [roc_auc_score(label, score) for score in scores]
    assert difference == pytest.approx(area[0] - area[1], abs=1e-9)
    assert p == pytest.approx(2 * stats.norm.sf(abs(expected[0] / expected[1])), abs=1e-9)


def test_delong_of_a_model_with_itself_is_no_difference_and_of_one_class_nothing():
    label, score = np.array([0, 1, 0, 1]), np.arange(4.0)
    assert statistics.delong(label, score, score) == (0, 0, 1)
    assert np.isnan(statistics.delong(np.ones(4, int), score, score)).all()


def test_exchanging_models_does_not_depend_on_their_scales():
    random = np.random.default_rng(2)
    label = random.integers(0, 2, 40)
    first = random.normal(size=(40, 2)) + label[:, None]
    second = random.normal(size=(40, 2))
    p = statistics.permutation(label, first, second, num_draws=200, seed=0)
    wide = statistics.permutation(label, first, np.exp(second) * 1000, num_draws=200, seed=0)
    assert p == wide < 0.05
    assert statistics.permutation(label, first, first * 2, num_draws=50, seed=0) == 1
    assert np.isnan(statistics.permutation(label * 0, first, second, num_draws=9, seed=0))


def test_permutation_and_delong_agree_on_independent_patients():
    random = np.random.default_rng(6)
    label = random.integers(0, 2, 80)
    scores = random.normal(size=(2, 80)) + label * np.array([[1.2], [0.8]])
    _, _, p = statistics.delong(label, *scores)
    found = statistics.permutation(
        label, scores[0][:, None], scores[1][:, None], num_draws=1500, seed=1
    )
    assert found == pytest.approx(p, abs=0.06)


def test_a_share_has_the_exact_interval():
    for part, whole in ((0, 10), (3, 10), (10, 10), (1900, 2000)):
        expected = stats.binomtest(part, whole).proportion_ci(method="exact")
        assert statistics.exact_interval(part, whole) == pytest.approx(
            (expected.low, expected.high), abs=1e-9
        )


def test_not_inferior_is_what_excludes_the_margin():
    low, high = np.array([-0.005, -0.02, np.nan, -0.02]), np.array([0.02, 0.0, np.nan, 0.005])
    margin = np.array([0.01, 0.01, 0.01, 0.01])
    lower = np.array([False, False, False, True])
    found = statistics.noninferior(low, high, margin, lower_is_better=lower)
    assert found == [True, False, None, True]
    unknown = statistics.noninferior(low, high, margin * np.nan, lower_is_better=lower)
    assert unknown == [None] * 4


def test_the_effect_of_a_mean_is_cohens_d_of_paired_data():
    values = np.random.default_rng(3).normal(0.4, 1, size=50)
    error = np.array([values.std(ddof=1) / np.sqrt(50)])
    found = statistics.effect_size(np.array([values.mean()]), error, np.array([50]))
    assert found[0] == pytest.approx(values.mean() / values.std(ddof=1))
    assert np.isnan(statistics.effect_size(np.array([0.1]), np.array([0.0]), np.array([9]))[0])


def test_icc_agrees_with_pingouin():
    random = np.random.default_rng(9)
    scores = random.normal(size=(20, 1)) + random.normal(size=(20, 3)) * 0.5 + np.arange(3) * 0.2
    long = pd.DataFrame(
        {"slide": np.repeat(np.arange(20), 3), "scanner": np.tile(np.arange(3), 20),
         "score": scores.ravel()}
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about how pingouin calls it
        told = pingouin.intraclass_corr(long, targets="slide", raters="scanner", ratings="score")
    kind = told.set_index("Type")["ICC"]
    found = agreement.icc(scores)
    assert float(found.agreement) == pytest.approx(kind.filter(like="A,1").iloc[0], abs=1e-9)
    assert float(found.consistency) == pytest.approx(kind.filter(like="C,1").iloc[0], abs=1e-9)


def test_draws_of_patients_agree_with_delong_on_independent_patients():
    random = np.random.default_rng(14)
    label = np.arange(300) % 2
    scores = random.normal(size=(2, 300)) * 0.6 + random.normal(size=300)
    scores += label * np.array([[1.4], [1.1]])
    names = [f"{n:03d}" for n in range(300)]
    draws = resampling.draw(label, names, num_draws=4000, method="expanded", seed=3)
    first, second = (weighted.auroc(label, score, draws.weight) for score in scores)
    difference, error, p = statistics.delong(label, *scores)
    values = (first - second)[None].astype(float)
    assert values[0, 0] == pytest.approx(difference, abs=1e-6)
    assert resampling.spread(values, draws)[0] == pytest.approx(error, rel=0.04)
    assert resampling.p_values(values, draws)[0] == pytest.approx(p, abs=0.02)
