import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.metrics.robustness import (
    flip_rate,
    grouped_flip_rate,
    grouped_inconsistency,
    inconsistency,
)

NAN = float("nan")
seeds = st.integers(0, 2**32 - 1)


def example(seed, num_slides, num_scanners):
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(num_slides, 1)) + 0.3 * draw.normal(size=(num_slides, num_scanners))
    scores[draw.random(scores.shape) < 0.3] = NAN
    return scores


def slow_inconsistency(scores):
    rows = [[s for s in row if not math.isnan(s)] for row in scores]
    rows = [row for row in rows if len(row) > 1]
    if len(rows) < 2:
        return NAN
    within = statistics.fmean(statistics.variance(row) for row in rows)
    return math.sqrt(within) / statistics.stdev(statistics.fmean(row) for row in rows)


def slow_flip_rate(predicted):
    rows = [{c for c in row if not math.isnan(c)} for row in predicted]
    counted = [sum(not math.isnan(c) for c in row) > 1 for row in predicted]
    if not any(counted):
        return NAN
    return sum(len(row) > 1 for row in rows) / sum(counted)


def long(table):
    member, _ = np.nonzero(~np.isnan(table))
    return table[~np.isnan(table)], member


def test_inconsistency_equals_the_value_by_hand():
    # Variances 2, 0 and 2 with mean 4/3; means 1, 4 and 7 with SD 3; the last slide has one scan.
    scores = np.array([[0.0, 2.0], [4.0, 4.0], [6.0, 8.0], [100.0, NAN]])
    assert inconsistency(scores) == pytest.approx(math.sqrt(4 / 3) / 3, abs=1e-15)


def test_flip_rate_equals_the_value_by_hand():
    predicted = np.array([[0.0, 1.0, NAN], [1, 1, 1], [0, 0, 1], [1, NAN, NAN]])
    assert flip_rate(predicted) == 2 / 3


@settings(deadline=None)
@given(seeds, st.integers(1, 12), st.integers(1, 4))
def test_values_equal_a_loop(seed, num_slides, num_scanners):
    scores = example(seed, num_slides, num_scanners)
    expected = slow_inconsistency(scores)
    assert inconsistency(scores) == pytest.approx(expected, rel=1e-9, nan_ok=True)
    predicted = np.where(np.isnan(scores), NAN, np.round(scores))
    assert flip_rate(predicted) == pytest.approx(slow_flip_rate(predicted), nan_ok=True)


@settings(deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(-1000, 1000))
def test_inconsistency_does_not_depend_on_scale_shift_or_order(seed, scale, shift):
    scores = example(seed, 8, 3)
    value = inconsistency(scores)
    changed = scores[::-1, ::-1] * scale + shift
    assert inconsistency(changed) == pytest.approx(value, rel=1e-6, nan_ok=True)


@settings(deadline=None)
@given(seeds, st.integers(1, 5))
def test_groups_at_once_equal_groups_one_by_one(seed, num_groups):
    tables = [example(seed + g, 1 + g, 3) for g in range(num_groups)]
    parts = [(*long(table), g) for g, table in enumerate(tables)]
    scores = np.concatenate([s for s, _, _ in parts])
    member = np.concatenate([m for _, m, _ in parts])
    group = np.concatenate([np.full(len(s), g) for s, _, g in parts])
    order = np.random.default_rng(seed).permutation(len(scores))
    scores, member, group = scores[order], member[order], group[order]
    classes = np.round(scores).astype(np.int64)
    spread = grouped_inconsistency(scores, member, group, num_groups + 1)
    flips = grouped_flip_rate(classes, member, group, num_groups + 1)
    assert np.isnan([spread[-1], flips[-1]]).all()
    for g, table in enumerate(tables):
        assert spread[g] == pytest.approx(inconsistency(table), rel=1e-9, nan_ok=True)
        rounded = np.where(np.isnan(table), NAN, np.round(table))
        assert flips[g] == pytest.approx(flip_rate(rounded), nan_ok=True)


def test_agreeing_scanners_have_no_inconsistency():
    scores = np.repeat(np.random.default_rng(0).normal(size=(5, 1)), 3, axis=1)
    assert inconsistency(scores) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("table", [np.full((4, 3), 0.1), np.zeros((0, 2)), np.full((3, 2), NAN)])
def test_scores_that_say_nothing_have_an_undefined_inconsistency(table):
    assert math.isnan(inconsistency(table))


def test_one_scanner_leaves_both_undefined():
    assert math.isnan(inconsistency(np.array([[1.0], [2.0]])))
    assert math.isnan(flip_rate(np.array([[1.0], [0.0]])))
    assert math.isnan(flip_rate(np.zeros((0, 2))))
