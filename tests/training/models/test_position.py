import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.position import PyramidPosition, layout


def as_in_the_paper(position: PyramidPosition, instances: torch.Tensor) -> torch.Tensor:
    """Encode one bag with torch's convolutions on its own square, empty cells being zero."""
    number, width = instances.shape
    side = next(side for side in range(1, number + 1) if side * side >= number)
    square = F.pad(instances, (0, 0, 0, side * side - number)).T.reshape(1, width, side, side)
    found = square + position.bias[None, :, None, None]
    for kernel in position.kernels:
        size = kernel.shape[-1]
        found = found + F.conv2d(square, kernel[:, None], padding=size // 2, groups=width)
    return found.reshape(width, -1).T[:number]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_sum_of_three_depthwise_convolutions_on_each_bags_square(seed: int):
    torch.manual_seed(seed)
    position = PyramidPosition(3).double()
    position.bias.data.normal_()
    sizes = [1, 2, 4, 5, 9, 10, 24, 25, 26, 40]
    bags = torch.randn(len(sizes), 43, 3).double()
    mask = torch.arange(43) < torch.tensor(sizes)[:, None]
    found = position(bags, mask)
    for bag, size, coded in zip(bags, sizes, found, strict=True):
        torch.testing.assert_close(coded[:size], as_in_the_paper(position, bag[:size]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_cells_and_instances_know_each_other(real: list[bool]):
    mask = torch.tensor([real])
    side = next(side for side in range(1, 61) if side * side >= len(real))
    holder, cell = layout(mask, side)
    number = sum(real)
    width = next(width for width in range(1, 61) if width * width >= number)
    places = [place for place, is_real in enumerate(real) if is_real]
    expected = {rank // width * side + rank % width: place for rank, place in enumerate(places)}
    assert {c: h for c, h in enumerate(holder[0].tolist()) if h >= 0} == expected
    assert {cell[0, place].item(): place for place in places} == expected
