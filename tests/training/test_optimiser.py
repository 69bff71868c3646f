import itertools

import pytest
import torch
from torch import nn

from training.config import Optim
from training.lanes import Lanes
from training.optimiser import LaneAdamW, schedule

OPTIMS = [
    Optim(lr=0.1, weight_decay=0.3, clip=0.5),
    Optim(lr=0.01, weight_decay=0.0),
    Optim(lr=0.02, weight_decay=0.1, clip=100.0),
]


def test_each_lane_moves_as_under_torchs_adamw_and_clipping():
    torch.manual_seed(0)
    models = [nn.Linear(3, 2).double() for _ in OPTIMS]
    lanes = Lanes(models, device=torch.device("cpu"))
    ours = LaneAdamW(lanes, OPTIMS)
    rows = [nn.Parameter(row.clone()) for row in lanes.flat]
    theirs = [
        torch.optim.AdamW([row], lr=optim.lr * 0.7, weight_decay=optim.weight_decay)
        for row, optim in zip(rows, OPTIMS, strict=True)
    ]
    for _ in range(5):
        lanes.grad.copy_(torch.randn_like(lanes.grad))
        for row, optimiser, optim, gradient in zip(rows, theirs, OPTIMS, lanes.grad, strict=True):
            row.grad = gradient.clone()
            if optim.clip is not None:
                nn.utils.clip_grad_norm_([row], optim.clip)
            optimiser.step()
        ours.step(0.7)
    for row, mine in zip(rows, lanes.flat, strict=True):
        torch.testing.assert_close(mine, row.detach(), rtol=0, atol=1e-13)


def test_a_lane_without_clipping_does_not_notice_that_a_companion_clips():
    torch.manual_seed(0)
    free = Optim(lr=0.01, weight_decay=0.0)
    gradients = torch.randn(2, 16)
    gradients[0, 0] = 1e30  # finite, and its square is not
    rows = []
    for clip in (None, 0.5):
        torch.manual_seed(1)
        lanes = Lanes([nn.Linear(3, 2) for _ in range(2)], device=torch.device("cpu"))
        optimiser = LaneAdamW(lanes, [free, free.model_copy(update={"clip": clip})])
        lanes.grad.copy_(gradients)
        optimiser.step(1.0)
        rows.append(lanes.flat[0].detach())
    assert rows[0].isfinite().all() and torch.equal(*rows)


def test_lanes_that_leave_take_their_moments_along():
    torch.manual_seed(0)
    models = [nn.Linear(3, 2) for _ in OPTIMS]
    gradients = torch.randn(4, 3, 16)
    results = []
    for leave_after in (2, 4):
        lanes = Lanes(models, device=torch.device("cpu"))
        optimiser = LaneAdamW(lanes, OPTIMS)
        kept = [0, 1, 2]
        for step, gradient in enumerate(gradients):
            if step == leave_after:
                kept = [2, 0]
                lanes.select(kept)
                optimiser.select(lanes, kept)
            lanes.grad.copy_(gradient[kept])
            optimiser.step(1.0)
        results.append({lane: lanes.flat[place] for place, lane in enumerate(kept)})
    for lane in (0, 2):
        assert torch.equal(results[0][lane], results[1][lane])


def test_cosine_falls_from_one_towards_zero_after_the_warm_up():
    optim = Optim(epochs=5, warmup_epochs=1, schedule="cosine")
    factors = [schedule(optim, step, 4) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0 and factors[12] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(factors[4:]))
    assert 0 < factors[-1] < 0.02


def test_constant_stays_at_one():
    optim = Optim(epochs=2, schedule="constant")
    assert {schedule(optim, step, 3) for step in range(6)} == {1.0}
