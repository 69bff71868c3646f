import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.models.half import half_product
from training.models.linear import per_instance


def gradients(product, layer: nn.Linear, bags: torch.Tensor, slopes: torch.Tensor):
    """Give the product and its gradients where the loss is the product times these slopes."""
    bags = bags.clone().requires_grad_()
    found = product(layer, bags)
    return found, *torch.autograd.grad((found * slopes).sum(), [bags, *layer.parameters()])


@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradients_are_near_those_in_float32(bias: bool):
    torch.manual_seed(0)
    layer = nn.Linear(40, 30, bias=bias)
    given = layer, torch.randn(5, 60, 40), torch.randn(5, 60, 30)
    pairs = zip(gradients(half_product, *given), gradients(per_instance, *given), strict=True)
    for found, expected in pairs:
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 1e-3 * expected.norm()


@given(st.integers(-40, 30), st.integers(-8, 4), st.integers(-8, 6), st.integers(1, 5000))
def test_no_gradient_is_lost_or_overflows(slope: int, weight: int, bag: int, num_tiles: int):
    """All of one sign, so that the sums are as large as they can be."""
    to_bags, to_weight = of_equal_tiles(2.0**slope, 2.0**weight, 2.0**bag, num_tiles)
    assert torch.allclose(to_bags, torch.tensor(3 * 2.0 ** (slope + weight)), rtol=2e-3, atol=0)
    sums = torch.tensor(num_tiles * 2.0 ** (slope + bag))
    assert torch.allclose(to_weight, sums, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("weight", "bag"), [(1e-4, 60_000.0), (60_000.0, 1e-4), (1e-4, 1e-4)])
def test_nothing_overflows_at_the_ends_of_float16(weight: float, bag: float):
    for found in of_equal_tiles(1e25, weight, bag, 5000):
        assert found.isfinite().all() and found.all()


def of_equal_tiles(slope: float, weight: float, bag: float, num_tiles: int):
    """Give the gradients where all numbers of a tensor are the same."""
    layer = nn.Linear(2, 3, bias=False)
    nn.init.constant_(layer.weight, weight)
    slopes = torch.full((1, num_tiles, 3), slope)
    return gradients(half_product, layer, torch.full((1, num_tiles, 2), bag), slopes)[1:]


def test_gradients_of_many_tiles_survive_where_autocast_loses_them():
    torch.manual_seed(0)
    layer, bags = nn.Linear(6, 4, bias=False), torch.randn(2, 500, 6)
    slopes = 2e-8 * torch.rand(2, 500, 4)

    def narrow(layer: nn.Linear, bags: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return per_instance(layer, bags).float()

    lost = gradients(narrow, layer, bags, slopes)[2]
    found = gradients(half_product, layer, bags, slopes)[2]
    expected = gradients(per_instance, layer, bags, slopes)[2]
    assert not lost.any()
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_no_gradient_gives_none_and_one_that_is_not_finite_stays_so():
    layer, bags = nn.Linear(6, 4), torch.randn(2, 5, 6)
    for slope in (0.0, float("inf"), float("nan")):
        found = gradients(half_product, layer, bags, torch.full((2, 5, 4), slope))[1:]
        for each in found:
            assert not each.any() if slope == 0 else not each.isfinite().any()


def test_a_product_beyond_float16_is_not_finite():
    assert not half_product(nn.Linear(6, 4), torch.full((2, 5, 6), 1e5)).isfinite().any()
