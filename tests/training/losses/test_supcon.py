import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.supcon import supcon

RULES = ["class", "other_group"]
rules = pytest.mark.parametrize("positives", RULES)


def slow(bags, label, group, tau, rule):
    q = bags / np.linalg.norm(bags, axis=1, keepdims=True)
    found = []
    for i in range(len(q)):
        others = [j for j in range(len(q)) if j != i]
        mine = [j for j in others if label[j] == label[i]]
        if rule == "other_group":
            mine = [j for j in mine if group[j] >= 0 <= group[i] and group[j] != group[i]]
        if not mine:
            continue
        pool = [j for j in others if rule == "class" or j in mine or label[j] != label[i]]
        below = sum(math.exp(q[i] @ q[a] / tau) for a in pool)
        found.append(-sum(math.log(math.exp(q[i] @ q[p] / tau) / below) for p in mine) / len(mine))
    return np.mean(found) if found else 0.0


def example(seed, rows=7):
    draw = np.random.default_rng(seed)
    label, group = draw.integers(0, 3, size=rows), draw.integers(-1, 3, size=rows)
    return draw.normal(size=(rows, 4)), label, group


def loss(bags, label, group, *, temperature=0.4, positives="class"):
    given_ = map(torch.as_tensor, (bags, label, group))
    return supcon(*given_, temperature=temperature, positives=positives)


def test_the_loss_equals_the_value_by_hand():
    # Two bags of a class in one direction, one of another class at a right angle: the third has
    # no positive.
    bags = np.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    found = loss(bags, [0, 0, 1], [0, 0, 0], temperature=0.5)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-14)


def test_bags_of_the_own_group_are_left_alone_by_hand():
    # The first two share class and group: each has the third as its positive and no negative but
    # the fourth; the third has both as positives.
    bags = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = loss(bags, [0, 0, 0, 1], [0, 0, 1, 0], temperature=1.0, positives="other_group")
    alone, third = math.log(1 + math.exp(-1)), math.log(2 + math.exp(-1))
    assert found.item() == pytest.approx((2 * alone + third) / 3, abs=1e-14)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(RULES))
def test_loss_equals_a_loop(seed, rows, positives):
    bags, label, group = example(seed, rows)
    expected = slow(bags, label, group, 0.4, positives)
    assert loss(bags, label, group, positives=positives).item() == pytest.approx(
        expected, rel=1e-10, abs=1e-13
    )


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(RULES))
def test_length_turn_and_names_do_not_matter(seed, positives):
    bags, label, group = example(seed)
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.normal(size=(4, 4)))[0]
    expected = loss(bags, label, group, positives=positives)
    for changed in (
        (bags * draw.uniform(0.1, 9, size=(7, 1)), label, group),
        (bags @ turn, label, group),
        (bags, 2 - label, np.where(group < 0, -1, 2 - group)),
    ):
        torch.testing.assert_close(loss(*changed, positives=positives), expected)


@rules
def test_no_positive_gives_zero_with_a_gradient(positives):
    bags = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = loss(bags, [0, 1, 2], [0, 1, 2], positives=positives)
    found.backward()
    assert found.item() == 0 and not bags.grad.any()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'all'"):
        loss(*example(0), positives="all")
