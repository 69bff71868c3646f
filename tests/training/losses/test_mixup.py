import math

import numpy as np
import pytest
import torch

from training.losses import mixup
from training.losses.mixup import Mixture
from training.losses.task import task_loss

CPU = torch.device("cpu")


def test_the_loss_equals_the_value_by_hand():
    # Bags 0 and 2 ln 3, labels 0 and 1, half of each: score ln 3 for both, against both labels.
    bags = torch.tensor([[0.0], [2 * math.log(3)]], dtype=torch.float64)
    mixture = Mixture(torch.tensor([1, 0]), 0.5)
    loss = mixup.mixup(
        bags, torch.tensor([0, 1]), torch.ones(2).double(), classify=lambda z: z, mixture=mixture
    )
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2, abs=1e-14)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_the_loss_equals_a_loop(num_outputs):
    draw = np.random.default_rng(0)
    bags, matrix = draw.normal(size=(5, 4)), draw.normal(size=(4, num_outputs))
    label, weight = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([1, 1, 0.5, 0.5, 1]).double()
    mixture = mixup.draw((0, 0, 1, 2), 5, 0.4, CPU)
    found = mixup.mixup(
        torch.as_tensor(bags),
        label,
        weight,
        classify=lambda z: z @ torch.as_tensor(matrix),
        mixture=mixture,
    )
    total = 0.0
    for i, j in enumerate(mixture.partner.tolist()):
        s = (mixture.share * bags[i] + (1 - mixture.share) * bags[j]) @ matrix
        logits = [0.0, *s] if num_outputs == 1 else list(s)
        log_p = [v - math.log(sum(map(math.exp, logits))) for v in logits]
        own, other = log_p[label[i]], log_p[label[j]]
        total -= weight[i].item() * (mixture.share * own + (1 - mixture.share) * other)
    assert found.item() == pytest.approx(total / weight.sum().item(), abs=1e-12)


@pytest.mark.parametrize(("share", "partner"), [(1.0, [2, 0, 1]), (0.3, [0, 1, 2])])
def test_a_bag_mixed_with_itself_or_with_nothing_gives_the_task_loss(share, partner):
    bags = torch.randn(3, 1, generator=torch.Generator().manual_seed(0)).double()
    label, weight = torch.tensor([0, 1, 1]), torch.tensor([1, 0.5, 0.5]).double()
    found = mixup.mixup(
        bags, label, weight, classify=lambda z: z, mixture=Mixture(torch.tensor(partner), share)
    )
    torch.testing.assert_close(found, task_loss(bags, label, weight))


def test_draws_follow_the_key_alone():
    one, other, third = (mixup.draw(key, 9, 0.2, CPU) for key in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(one.partner, other.partner) and one.share == other.share
    assert one.share != third.share
    assert sorted(one.partner.tolist()) == list(range(9))


def test_shares_have_the_beta_distribution():
    shares = np.array([mixup.draw((step,), 1, 2.0, CPU).share for step in range(2000)])
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 1 / 20) < 0.005  # of beta(a, a): 1 / (4 (2 a + 1))


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_a_bag_mixed_with_itself_gives_the_smoothed_task_loss(num_outputs):
    draw = torch.Generator().manual_seed(0)
    bags = torch.randn(4, num_outputs, generator=draw).double()
    label, weight = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 0.5, 0.5, 1]).double()
    found = mixup.mixup(
        bags,
        label,
        weight,
        classify=lambda z: z,
        mixture=Mixture(torch.arange(4), 0.3),
        smoothing=0.2,
    )
    torch.testing.assert_close(found, task_loss(bags, label, weight, smoothing=0.2))
