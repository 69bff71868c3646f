import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.redundancy import barlow_twins, vicreg

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


def slow_barlow(first, second, beta):
    rows, dim = first.shape
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            a, b = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
            norm = math.sqrt(a @ a / rows + 1e-5) * math.sqrt(b @ b / rows + 1e-5)
            c = a @ b / rows / norm
            total += (1 - c) ** 2 if i == j else beta * c**2
    return total


def slow_vicreg(first, second, invariance, variance, covariance):
    rows, dim = first.shape
    total = invariance * sum((first - second).ravel() ** 2) / (rows * dim)
    for z in (first, second):
        for i in range(dim):
            spread = sum((z[:, i] - z[:, i].mean()) ** 2) / (rows - 1)
            total += variance / 2 * max(0.0, 1 - math.sqrt(spread + 1e-4)) / dim
            for j in range(dim):
                if i != j:
                    c = np.cov(z[:, i], z[:, j])[0, 1]
                    total += covariance * c**2 / dim
    return total


def example(seed, rows=6, dim=3):
    return np.random.default_rng(seed).normal(size=(2, rows, dim))


def both(sides, real=None):
    first, second = map(torch.as_tensor, sides)
    real = torch.ones(len(first), dtype=torch.bool) if real is None else torch.as_tensor(real)
    return (
        barlow_twins(first, second, real=real, off_diagonal=0.1),
        vicreg(first, second, real=real, **WEIGHTS),
    )


def test_barlow_twins_equals_the_value_by_hand():
    # The second unit of the second scan is the first with its sign turned: C = ((1, -1), (0, 0)).
    first = torch.tensor([[1e3, 1e3], [-1e3, 1e3], [1e3, -1e3], [-1e3, -1e3]]).double()
    second = torch.stack([first[:, 0], -first[:, 0]], dim=1)
    loss = barlow_twins(first, second, real=torch.ones(4).bool(), off_diagonal=0.1)
    assert loss.item() == pytest.approx(1 + 0.1, abs=1e-9)


def test_vicreg_equals_the_value_by_hand():
    # One scan: SD 2 in the first unit, none in the second; the other the same, 1 off in one unit.
    side = math.sqrt(3)
    first = torch.tensor([[side, 0.0], [-side, 0.0], [side, 0.0], [-side, 0.0]]).double()
    second = first + torch.tensor([0.0, 1.0])
    loss = vicreg(first, second, real=torch.ones(4).bool(), **WEIGHTS)
    hinge = (1 - math.sqrt(1e-4)) / 2  # the mean of 0 and this over two units
    assert loss.item() == pytest.approx(25 * 0.5 + 25 * hinge, abs=1e-12)


def test_correlated_units_cost_their_covariance_by_hand():
    column = torch.tensor([3.0, -3.0]).double() / math.sqrt(2)  # variance 9
    both_units = torch.stack([column, column], dim=1)
    loss = vicreg(both_units, both_units, real=torch.ones(2).bool(), **WEIGHTS)
    assert loss.item() == pytest.approx(2 * (2 * 81 / 2), abs=1e-10)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.sampled_from([1, 3]))
def test_losses_equal_loops(seed, rows, dim):
    sides = example(seed, rows, dim)
    found = both(sides)
    expected = slow_barlow(*sides, 0.1), slow_vicreg(*sides, **WEIGHTS)
    for one, other in zip(found, expected, strict=True):
        assert one.item() == pytest.approx(other, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_shift_of_both_scans_does_not_matter(seed):
    sides = example(seed)
    shifted = sides + np.random.default_rng(seed).normal(size=3) * 5
    for one, other in zip(both(shifted), both(sides), strict=True):
        torch.testing.assert_close(one, other)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scans_may_swap(seed):
    sides = example(seed)
    for one, other in zip(both(sides[::-1].copy()), both(sides), strict=True):
        torch.testing.assert_close(one, other)


def test_barlow_twins_knows_no_scale_and_vicreg_does():
    sides = example(0) * 1e3
    one, other = both(sides), both(np.stack([sides[0], 3 * sides[1]]))
    torch.testing.assert_close(one[0], other[0])
    assert not torch.isclose(one[1], other[1])


def test_ignored_rows_may_hold_anything():
    sides, real = example(0, 6), np.array([True] * 4 + [False] * 2)
    expected = both(sides[:, :4], real[:4])
    sides[:, 4:] = np.nan
    for one, other in zip(both(sides, real), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_one_row_has_no_correlation():
    loss, distance = both(example(0, 1))
    assert loss.item() == 0
    assert distance.item() == pytest.approx(
        25 * np.square(np.diff(example(0, 1), axis=0)).mean(), rel=1e-12
    )


@pytest.mark.parametrize("place", [0, 1])
def test_training_finds_what_the_scans_share_and_drops_the_rest(place):
    """Half of the features are shared by the scans, the other, larger half is each scan's own."""
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(48, 3, generator=draw).double()
    first, second = (
        torch.cat([shared, 3 * torch.randn(48, 3, generator=draw).double()], 1) for _ in range(2)
    )
    torch.manual_seed(0)
    embed = torch.nn.Linear(6, 3).double()
    optimiser = torch.optim.Adam(embed.parameters(), lr=0.05)
    values = []
    for _ in range(300):
        optimiser.zero_grad()
        loss = both((embed(first), embed(second)))[place]
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.2 * values[0]
    weight = embed.weight.detach()
    assert (weight[:, :3].norm(dim=1) > 5 * weight[:, 3:].norm(dim=1)).all()
    assert torch.linalg.matrix_rank(weight[:, :3], rtol=0.1) == 3
