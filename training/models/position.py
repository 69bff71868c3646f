"""Position encoding by convolutions over instances laid out in a square (PPEG)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from training.types import Instances, Mask

_SIZES = (7, 5, 3)
"""Kernel sizes of the pyramid."""


class PyramidPosition(nn.Module):
    r"""Add three depthwise convolutions over the square of a bag's instances to the instances.

    $y = x + \sum_{k \in \{7, 5, 3\}} \mathrm{conv}_{k \times k}(x) + b$, with the N real instances
    in rows of $\lceil \sqrt N \rceil$, in the order of the bag.

    Shao et al., NeurIPS 2021, section 3 (pyramid position encoding generator).
    Departures: cells of the square beyond the N-th are zero, like the border, and not copies of the
    first instances; the three biases are one, their sum. Convolutions are linear, so that the three
    kernels are added up and take one pass; it is written as shifted products, whose rounding does
    not depend on the number of lanes.

    Padded instances take no part; what stands in their place afterwards is of no meaning.

    Args:
        width: of the instances.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.empty(width, size, size).uniform_(-1 / size, 1 / size))
            for size in _SIZES
        )
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, instances: Instances, mask: Mask) -> Instances:
        """Encode positions."""
        side = math.isqrt(max(mask.shape[1] - 1, 0)) + 1
        holder, cell = layout(mask, side)
        index = holder.clamp_min(0).unsqueeze(-1).expand(-1, -1, instances.shape[-1])
        square = instances.gather(1, index).masked_fill((holder < 0).unsqueeze(-1), 0.0)
        coded = self._convolve(square.view(len(square), side, side, -1)).flatten(1, 2)
        index = cell.unsqueeze(-1).expand(-1, -1, instances.shape[-1])
        return instances + coded.gather(1, index) + self.bias

    def _convolve(
        self, square: Float[Tensor, "bag row column embedding"]
    ) -> Float[Tensor, "bag row column embedding"]:
        widest, side = max(_SIZES), square.shape[1]
        kernel = torch.stack(
            [
                F.pad(each, ((widest - size) // 2,) * 4)
                for each, size in zip(self.kernels, _SIZES, strict=True)
            ]
        ).sum(0)
        wide = F.pad(square, (0, 0, *(widest // 2,) * 4))
        total = torch.zeros_like(square)
        for row in range(widest):
            for column in range(widest):
                shifted = wide[:, row : row + side, column : column + side]
                total = total + shifted * kernel[:, row, column]
        return total


def layout(mask: Mask, side: int) -> tuple[Int[Tensor, "bag cell"], Int[Tensor, "bag instance"]]:
    """Lay the real instances of each bag out in the corner of a square of `side` × `side` cells.

    A bag of N instances has rows of ceil(sqrt(N)). The rest of the square is empty, which is what a
    convolution sees beyond a border.

    Args:
        mask: True where an instance is real.
        side: root of the longest bag's size, rounded up.

    Returns:
        The instance in each cell, -1 for none, and the cell of each instance, 0 for padding.
    """
    count = mask.sum(1, keepdim=True)
    width = count.to(torch.float64).sqrt().ceil().to(torch.int64)
    cells = torch.arange(side * side, device=mask.device)
    row, column = cells // side, cells % side
    rank = row * width + column
    used = (column < width) & (rank < count)
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)
    holder = order.gather(1, rank.clamp(max=mask.shape[1] - 1))
    place = (mask.cumsum(1) - 1).clamp_min(0)
    cell = torch.where(mask, place // width * side + place % width, 0)
    return torch.where(used, holder, -1), cell
