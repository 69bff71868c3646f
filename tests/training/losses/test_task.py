import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.task import bag_losses, task_loss


def slow(scores, labels, weights):
    total = 0.0
    for s, y, w in zip(scores, labels, weights, strict=True):
        logits = [0.0, s[0]] if len(s) == 1 else list(s)
        top = max(logits)
        total += w * (top + math.log(sum(math.exp(v - top) for v in logits)) - logits[y])
    return total / sum(weights)


def example(seed, num_bags, num_classes):
    draw = np.random.default_rng(seed)
    columns = 1 if num_classes == 2 else num_classes
    scores = draw.normal(size=(num_bags, columns)) * 3
    return scores, draw.integers(0, num_classes, num_bags), draw.uniform(0.1, 1, num_bags)


def test_binary_loss_equals_the_value_by_hand():
    # Weights 1/2, 1/2 and 1: a slide with two scans and a slide with one.
    scores = torch.tensor([[0.0], [math.log(3)], [math.log(3)]], dtype=torch.float64)
    loss = task_loss(scores, torch.tensor([1, 1, 0]), torch.tensor([0.5, 0.5, 1.0]).double())
    expected = (0.5 * math.log(2) + 0.5 * math.log(4 / 3) + math.log(4)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-15)


def test_multiclass_loss_equals_the_value_by_hand():
    scores = torch.tensor([[math.log(2), math.log(3), math.log(5)]], dtype=torch.float64)
    loss = task_loss(scores, torch.tensor([2]), torch.ones(1).double())
    assert loss.item() == pytest.approx(math.log(2), abs=1e-15)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([2, 3, 5]))
def test_loss_equals_a_loop(seed, num_bags, num_classes):
    scores, labels, weights = example(seed, num_bags, num_classes)
    loss = task_loss(*map(torch.from_numpy, (scores, labels, weights)))
    assert loss.item() == pytest.approx(slow(scores, labels, weights), rel=1e-12)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_gradient_equals_finite_differences(num_classes):
    scores, labels, weights = map(torch.from_numpy, example(0, 6, num_classes))
    assert torch.autograd.gradcheck(
        lambda s: task_loss(s, labels, weights), scores.requires_grad_()
    )


@pytest.mark.parametrize("num_classes", [2, 4])
def test_lanes_equal_a_loop_over_lanes(num_classes):
    scores, labels, weights = map(torch.from_numpy, example(1, 6, num_classes))
    lanes = torch.stack([scores, -scores, 2 * scores])
    grad = torch.func.grad_and_value(task_loss)
    gradients, losses = torch.func.vmap(grad, in_dims=(0, None, None))(lanes, labels, weights)
    for lane, gradient, loss in zip(lanes, gradients, losses, strict=True):
        alone, value = grad(lane, labels, weights)
        torch.testing.assert_close(loss, value, rtol=1e-14, atol=0)
        torch.testing.assert_close(gradient, alone, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("num_bags", [3, 7, 16])
def test_a_lane_is_bit_identical_in_every_position_and_company(num_classes, num_bags):
    scores, labels, weights = map(torch.from_numpy, example(2, num_bags, num_classes))
    draw = torch.Generator().manual_seed(6)
    lanes = torch.randn(9, *scores.shape, generator=draw) * 3
    grad = torch.func.vmap(torch.func.grad_and_value(task_loss), in_dims=(0, None, None))
    gradients, losses = grad(lanes, labels, weights.float())
    for order in ([8, 0], [3, 8, 1], list(range(8, -1, -1))):
        others, values = grad(lanes[order], labels, weights.float())
        assert torch.equal(values, losses[order])
        assert torch.equal(others, gradients[order])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_huge_logits_stay_finite(num_classes):
    columns = 1 if num_classes == 2 else num_classes
    scores = torch.tensor([[1e4], [-1e4]]).repeat(1, columns)
    scores[:, -1] *= -1
    scores.requires_grad_()
    loss = task_loss(scores, torch.tensor([0, num_classes - 1]), torch.ones(2))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()


def test_a_bag_without_weight_does_not_count():
    scores = torch.tensor([[1.0], [9.0]])
    loss = task_loss(scores, torch.tensor([1, 0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, task_loss(scores[:1], torch.tensor([1]), torch.ones(1)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothed_losses_equal_those_of_torch(smoothing):
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(20, 4, generator=draw).double() * 3, torch.arange(20) % 4
    expected = F.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(bag_losses(scores, labels, smoothing=smoothing), expected)
    one = scores[:, :1]  # a logit s is two classes with the scores 0 and s
    both = torch.cat([torch.zeros_like(one), one], dim=1)
    expected = F.cross_entropy(both, labels % 2, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(bag_losses(one, labels % 2, smoothing=smoothing), expected)


def test_a_smoothed_loss_equals_the_value_by_hand():
    # Score ln 3 is probability 3/4; label 1 smoothed by 0.2 is 0.9.
    scores = torch.tensor([[math.log(3)]], dtype=torch.float64)
    loss = task_loss(scores, torch.tensor([1]), torch.ones(1).double(), smoothing=0.2)
    assert loss.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4), abs=1e-15)


@pytest.mark.parametrize("num_columns", [1, 3])
def test_no_smoothing_is_the_plain_loss_to_the_bit(num_columns):
    scores = torch.randn(30, num_columns, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(30) % max(num_columns, 2)
    plain = bag_losses(scores, labels)
    assert torch.equal(plain, bag_losses(scores, labels, smoothing=0.0))
    assert (bag_losses(scores, labels, smoothing=0.3) != plain).all()
