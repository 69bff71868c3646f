import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.risks import Annealing, GroupWeights, irm_penalty, risks, vrex_penalty
from training.losses.task import bag_losses, bag_slopes, task_loss

NUM_GROUPS = 4


def example(seed, bags=9, num_outputs=1):
    draw = np.random.default_rng(seed)
    scores = torch.as_tensor(draw.normal(size=(bags, num_outputs)) * 2)
    labels = torch.as_tensor(draw.integers(0, max(num_outputs, 2), size=bags))
    group = torch.as_tensor(draw.integers(-1, NUM_GROUPS, size=bags))
    return scores, labels, group, torch.as_tensor(draw.choice([0.5, 1.0], size=bags))


def of(group, weights):
    return risks(group, weights, num_groups=NUM_GROUPS)


def present(group):
    return [e for e in range(NUM_GROUPS) if (group == e).any()]


def group_risk(e, scores, labels, group, weights):
    """The risk of a group: the task loss over its bags."""
    inside = group == e
    return task_loss(scores[inside], labels[inside], weights[inside])


def slow_irm(scores, labels, group, weights):
    found = []
    for e in present(group):
        factor = torch.ones((), dtype=scores.dtype, requires_grad=True)
        risk = group_risk(e, factor * scores, labels, group, weights)
        found.append(torch.autograd.grad(risk, factor)[0].item() ** 2)
    return np.mean(found) if found else 0.0


def slow_risks(scores, labels, group, weights):
    return [group_risk(e, scores, labels, group, weights).item() for e in present(group)]


def test_the_penalty_of_irm_equals_the_value_by_hand():
    # p = 3/4 for a bag of label 1: slope (3/4 - 1) ln 3; the other group has score 0: slope 0.
    scores = torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64)
    shares = of(torch.tensor([0, 2]), torch.ones(2).double())
    loss = irm_penalty(bag_slopes(scores, torch.tensor([1, 0])), of=shares)
    assert loss.item() == pytest.approx((math.log(3) / 4) ** 2 / 2, abs=1e-15)


def test_the_variance_of_risks_equals_the_value_by_hand():
    # Risks ln 4 (p = 1/4 for the label) and ln 2: half their distance, squared.
    scores = torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64)
    shares = of(torch.tensor([0, 2]), torch.ones(2).double())
    loss = vrex_penalty(bag_losses(scores, torch.tensor([0, 0])), of=shares)
    assert loss.item() == pytest.approx((math.log(2) / 2) ** 2, abs=1e-15)


def test_group_weights_equal_the_values_by_hand():
    # Risks ln 4 and ln 2, eta 1: q becomes (4 q, 2 q), that is 2/3 and 1/3; then 4/5 and 1/5.
    model = GroupWeights(2, 1.0).double()
    scores, labels = torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64), torch.tensor([0, 0])
    shares = risks(torch.tensor([0, 1]), torch.ones(2).double(), num_groups=2)
    for first in (2 / 3, 4 / 5):
        loss = model(bag_losses(scores, labels), of=shares)
        expected = first * math.log(4) + (1 - first) * math.log(2)
        assert loss.item() == pytest.approx(expected, abs=1e-14)
        assert model.log_q.exp().tolist() == pytest.approx([first, 1 - first])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_penalties_equal_loops(seed, num_outputs):
    scores, labels, group, weights = example(seed, num_outputs=num_outputs)
    shares = of(group, weights)
    given_ = scores, labels, group, weights
    found = irm_penalty(bag_slopes(scores, labels), of=shares).item()
    assert found == pytest.approx(slow_irm(*given_), rel=1e-10, abs=1e-14)
    each = slow_risks(*given_)
    found = vrex_penalty(bag_losses(scores, labels), of=shares).item()
    assert found == pytest.approx(np.var(each) if each else 0.0, rel=1e-9, abs=1e-14)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_group_weights_equal_a_loop_over_steps(seed, num_outputs):
    model, q = GroupWeights(NUM_GROUPS, 0.7).double(), np.ones(NUM_GROUPS) / NUM_GROUPS
    for step in range(4):
        scores, labels, group, weights = example((seed, step), num_outputs=num_outputs)
        loss = model(bag_losses(scores, labels), of=of(group, weights))
        risk = np.zeros(NUM_GROUPS)
        risk[present(group)] = slow_risks(scores, labels, group, weights)
        q *= np.exp(0.7 * risk)
        q /= q.sum()
        here = present(group)
        expected = (q[here] * risk[here]).sum() / q[here].sum() if here else 0.0
        assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_equal_risks_have_no_variance_and_leave_weights_alone():
    scores, labels = torch.zeros(6, 1).double(), torch.tensor([0, 1] * 3)
    shares = of(torch.tensor([0, 1, 2, 3, 0, 1]), torch.ones(6).double())
    assert vrex_penalty(bag_losses(scores, labels), of=shares).item() == pytest.approx(0, abs=1e-30)
    model = GroupWeights(NUM_GROUPS, 5.0).double()
    assert model(bag_losses(scores, labels), of=shares).item() == pytest.approx(math.log(2))
    assert model.log_q.exp().tolist() == pytest.approx([0.25] * 4)


def test_weights_stay_in_evaluation_and_finite_under_huge_risks():
    model = GroupWeights(2, 1.0)
    shares = risks(torch.tensor([0, 1]), torch.ones(2), num_groups=2)
    scores = torch.tensor([[1e4], [-1e4]])
    for _ in range(3):
        loss = model(bag_losses(scores, torch.tensor([0, 0])), of=shares)
    assert loss.item() == pytest.approx(1e4) and model.log_q.isfinite().all()
    before = model.log_q.clone()
    model.eval()(bag_losses(scores, torch.tensor([1, 1])), of=shares)
    assert torch.equal(model.log_q, before)


def test_annealing_is_zero_for_its_steps_and_counts_in_training_only():
    model = Annealing(2)
    assert [model().item() for _ in range(4)] == [0.0, 0.0, 1.0, 1.0]
    assert model.eval()().item() == 1.0 and model.done.item() == 4
    assert Annealing(0)().item() == 1.0


def test_bag_losses_make_the_task_loss():
    for num_outputs in (1, 3):
        scores, labels, _, weights = example(2, num_outputs=num_outputs)
        found = (weights * bag_losses(scores, labels)).sum() / weights.sum()
        assert torch.equal(found, task_loss(scores, labels, weights))


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_risks_of_smoothed_labels_follow_the_smoothed_task_loss(num_outputs):
    scores, labels, group, weights = example(3, num_outputs=num_outputs)
    shares, smoothing = of(group, weights), 0.3

    def risk(e, factor=1.0):
        inside = group == e
        rest = labels[inside], weights[inside]
        return task_loss(factor * scores[inside], *rest, smoothing=smoothing)

    slopes = []
    for e in present(group):
        factor = torch.ones((), dtype=scores.dtype, requires_grad=True)
        slopes.append(torch.autograd.grad(risk(e, factor), factor)[0].item() ** 2)
    found = irm_penalty(bag_slopes(scores, labels, smoothing=smoothing), of=shares)
    assert found.item() == pytest.approx(np.mean(slopes), rel=1e-10)
    each = [risk(e).item() for e in present(group)]
    losses = bag_losses(scores, labels, smoothing=smoothing)
    found = vrex_penalty(losses, of=shares)
    assert found.item() == pytest.approx(np.var(each), rel=1e-10)
    weigh = GroupWeights(NUM_GROUPS, 0.0).double()
    found = weigh(losses, of=shares)
    assert found.item() == pytest.approx(np.mean(each), rel=1e-10)
