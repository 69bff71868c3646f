import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.groups import BANDWIDTHS, coral, lmmd, mmd

NUM_GROUPS, NUM_CLASSES = 4, 2


def slow_coral(bags, group, means):
    found = []
    pairs, spread_pairs = [], []
    for a, b in itertools.combinations(range(NUM_GROUPS), 2):
        one, other = bags[group == a], bags[group == b]
        if min(len(one), len(other)) > 1:
            gap = np.cov(one.T, ddof=1) - np.cov(other.T, ddof=1)
            spread_pairs.append(np.square(gap).mean())
        if min(len(one), len(other)) > 0:
            pairs.append(np.square(one.mean(0) - other.mean(0)).mean())
    found = np.mean(spread_pairs) if spread_pairs else 0.0
    return found + (np.mean(pairs) if means and pairs else 0.0)


def kernel(x, y):
    return np.mean(
        [sum(math.exp(-g * sum((a - b) ** 2)) for g in BANDWIDTHS) for a in x for b in y]
    )


def slow_mmd(bags, group, num_groups=NUM_GROUPS):
    found = []
    for a, b in itertools.combinations(range(num_groups), 2):
        one, other = bags[group == a], bags[group == b]
        if len(one) and len(other):
            found.append(kernel(one, one) + kernel(other, other) - 2 * kernel(one, other))
    return found


def slow_lmmd(bags, group, label):
    found = []
    for c in range(NUM_CLASSES):
        found += slow_mmd(bags[label == c], group[label == c])
    return np.mean(found) if found else 0.0


def example(seed, rows=9, dim=3):
    draw = np.random.default_rng(seed)
    group = draw.integers(-1, NUM_GROUPS, size=rows)
    return draw.normal(size=(rows, dim)), group, draw.integers(0, NUM_CLASSES, size=rows)


def every(bags, group, label):
    z, g, y = map(torch.as_tensor, (bags, group, label))
    return [
        coral(z, g, num_groups=NUM_GROUPS, means=True),
        coral(z, g, num_groups=NUM_GROUPS, means=False),
        mmd(z, g, num_groups=NUM_GROUPS),
        lmmd(z, g, y, num_groups=NUM_GROUPS, num_classes=NUM_CLASSES),
    ]


def test_coral_equals_the_value_by_hand():
    # Means (0, 0) and (1, 0); covariances diag(2, 0) and diag(0, 8).
    bags = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [1.0, -2.0]]).double()
    group = torch.tensor([0, 0, 1, 1])
    spread = (2**2 + 8**2) / 4
    loss = coral(bags, group, num_groups=2, means=False)
    assert loss.item() == pytest.approx(spread, abs=1e-12)
    loss = coral(bags, group, num_groups=2, means=True)
    assert loss.item() == pytest.approx(spread + 1 / 2, abs=1e-12)


def test_mmd_equals_the_value_by_hand():
    # One bag each, squared distance 4: twice k(x, x) minus twice k(x, y).
    bags = torch.tensor([[0.0, 0.0], [2.0, 0.0], [7.0, 7.0]]).double()
    loss = mmd(bags, torch.tensor([0, 1, -1]), num_groups=3)
    expected = 2 * (7 - sum(math.exp(-4 * gamma) for gamma in BANDWIDTHS))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_lmmd_compares_within_a_class_by_hand():
    # Class 1 differs between the groups, class 0 does not; together they would look alike.
    bags = torch.tensor([[0.0], [2.0], [0.0], [5.0]]).double()
    group, label = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    loss = lmmd(bags, group, label, num_groups=2, num_classes=2)
    expected = (0 + 2 * (7 - sum(math.exp(-9 * gamma) for gamma in BANDWIDTHS))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_losses_equal_loops(seed, rows):
    bags, group, label = example(seed, rows)
    pairs = slow_mmd(bags, group)
    expected = [
        slow_coral(bags, group, True),
        slow_coral(bags, group, False),
        np.mean(pairs) if pairs else 0.0,
        slow_lmmd(bags, group, label),
    ]
    for one, other in zip(every(bags, group, label), expected, strict=True):
        assert one.item() == pytest.approx(other, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_shift_and_a_turn_of_all_bags_and_new_names_of_groups_do_not_matter(seed):
    bags, group, label = example(seed)
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    names = np.append(draw.permutation(NUM_GROUPS), -1)  # the last is also number -1
    expected = every(bags, group, label)
    for given_ in ((bags @ turn + draw.normal(size=3) * 9, group), (bags, names[group])):
        for one, other in zip(every(*given_, label), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_groups_of_equal_bags_do_not_differ(seed):
    bags = np.random.default_rng(seed).normal(size=(4, 3))
    label = np.tile([0, 1, 1, 0], 2)
    for loss in every(np.concatenate([bags, bags]), np.repeat([0, 2], 4), label):
        assert loss.item() == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_discrepancy_is_not_negative(seed):
    assert all(loss.item() > -1e-12 for loss in every(*example(seed)))


def test_bags_of_no_group_do_not_matter():
    bags, group, label = example(3, 12)
    group[-3:] = -1
    changed = bags.copy()
    changed[-3:] += 100
    for one, other in zip(every(changed, group, label), every(bags, group, label), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_large_offsets_leave_single_precision_in_order():
    bags, group, label = example(0)
    shifted = torch.as_tensor(bags + 100).float()
    for one, other in zip(every(shifted, group, label), every(bags, group, label), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-2, atol=1e-4)
