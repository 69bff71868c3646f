"""Position encoding by convolutions over instances laid out in a square (PPEG)."""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        found: Tensor = _Convolution.apply(wide, kernel.permute(1, 2, 0), side)
        return found


class _Convolution(torch.autograd.Function):
    """Add up shifted products, [..., bag, row, column, unit] with [..., row, column, unit].

    Where autograd would make a whole wide gradient for each of the kernel's places, this adds to
    one; the order of additions is the same. Places that only ever meet the border are passed over.
    """

    @staticmethod
    def forward(wide: Tensor, kernel: Tensor, side: int) -> Tensor:
        total = wide.new_zeros(*wide.shape[:-3], side, side, wide.shape[-1])
        for row, column in _places(side):
            shifted = wide[..., row : row + side, column : column + side, :]
            total += shifted * kernel[..., None, row, column, None, None, :]
        return total

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor, int],
        output: Tensor,  # noqa: ARG004
    ) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        wide, kernel = ctx.saved_tensors
        to_wide, to_kernel = torch.zeros_like(wide), torch.zeros_like(kernel)
        side = grad.shape[-2]
        for row, column in reversed(_places(side)):
            here = (..., slice(row, row + side), slice(column, column + side), slice(None))
            to_kernel[..., row, column, :] = (grad * wide[here]).sum((-4, -3, -2))
            to_wide[here].add_(grad * kernel[..., None, row, column, None, None, :])
        return to_wide, to_kernel, None

    @staticmethod
    def vmap(
        info: Any,
        dims: tuple[int | None, int | None, None],
        wide: Tensor,
        kernel: Tensor,
        side: int,
    ) -> tuple[Tensor, int]:
        lanes = [
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip((wide, kernel), dims, strict=False)
        ]
        found: Tensor = _Convolution.apply(*lanes, side)
        return found, 0


def _places(side: int) -> list[tuple[int, int]]:
    """List the kernel's places that meet a square of this side somewhere."""
    widest = max(_SIZES)
    near = [place for place in range(widest) if abs(place - widest // 2) < side]
    return list(itertools.product(near, near))


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
