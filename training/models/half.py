"""The product with a weight in float16, forwards and backwards.

Autocast alone loses what is small in a gradient. It rounds that of a tile, which is about one over
the tiles of a batch, to float16, whose least number is 6e-8: of 8 bags of 4,096 tiles half of the
numbers became zero, and the weight's gradient was off by 2.4 % (bfloat16: 0.23 %; as here: 0.03 %).
The common remedy multiplies the loss by a scale that is halved after a step whose gradients
overflowed, and that step is left out. Here each product and lane scales its own gradient by a
factor that follows from a bound on the sums, so that nothing overflows, no step is left out, there
is nothing to keep in a checkpoint, and numbers that are not finite are the lane's own fault.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.types import Instances

_LARGEST = 2.0**15
"""Bound on the sums, half of what float16 can hold."""
_TINY = 1e-30
"""Bound below which a gradient counts as zero; its scale would not be finite."""


def half_product(layer: nn.Linear, instances: Instances) -> Float[Tensor, "bag instance out"]:
    """Apply the layer to each instance; a bias is added in the type of the instances."""
    rows: Tensor = _Product.apply(instances.flatten(0, 1), layer.weight)
    if layer.bias is not None:
        rows = rows + layer.bias
    return rows.view(*instances.shape[:2], layer.out_features)


class _Product(torch.autograd.Function):
    """Multiply rows with the transposed weight; tensors are of one lane, `vmap` stacks them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, weight: Tensor) -> Tensor:
        return (rows.half() @ weight.half().mT).to(rows.dtype)

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor],
        output: Tensor,  # noqa: ARG004
    ) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        rows, weight = (each.half() for each in ctx.saved_tensors)
        scale = _scale(grad, rows, weight)
        scaled = (grad * scale).half()
        to_weight = (scaled.mT @ rows).to(grad.dtype) / scale
        if not ctx.needs_input_grad[0]:
            return None, to_weight
        return (scaled @ weight).to(grad.dtype) / scale, to_weight


def _scale(grad: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Choose the factor with which neither the gradient nor the sums of its products overflow."""
    total = torch.linalg.vector_norm(grad, 1, dim=0).amax()
    factor = torch.maximum(rows.abs().amax().float(), len(weight) * weight.abs().amax().float())
    scale: Tensor = _LARGEST / (total * factor.clamp_min(1)).clamp_min(_TINY)
    return scale
