"""Trains several models at once: their parameters stacked along a lane axis, under `vmap`.

Promise: on a CPU with one thread, a lane's numbers are bit-identical whatever its companions, its
position and the number of lanes, as long as there are two. What that took (measured, torch 2.13
with MKL 2024.2, K = 2 to 32):

- MKL's kernels depend on the alignment of an operand in memory, and a lane's slice of a stack is
  aligned by its position. `MKL_CBWR=AUTO` makes products independent of alignment, at no measured
  cost; it is set below, and obeyed as long as the process has computed no product before.
- Inputs are expanded along the lane axis, so that a layer is one batched product with a lane's own
  shape. A shared input may be folded into one product, whose shape depends on K.
- On a CPU `sigmoid`, `softplus` and `logaddexp` round differently at the end of a tensor than
  inside it, so that the last lane differs. Models and losses go without them; `tanh`, `exp`,
  `log1p`, `logsigmoid`, `logsumexp` and `softmax` are safe.
- Dropout masks are drawn outside `vmap`, each lane's from its own generator.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")
# Large tensors lie on huge pages, where Linux has them: a fresh one costs a third (measured).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.func import vmap

from training.models.embedding import quantised

_ALIGNED = 16
"""Parameters of a lane are padded to a multiple of this, so that rows stay on cache lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighbouring lanes that are computed in one call: views of the stack by tensor name."""

    where: slice
    parameters: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def __len__(self) -> int:
        return int(self.where.stop - self.where.start)

    def share(self, tensor: Tensor) -> Tensor:
        """Show one tensor to all lanes of the group, without copying it."""
        return tensor.expand(len(self), *tensor.shape)

    def backward(self, loss: Tensor) -> None:
        """Fill the lanes' gradients with those of the sum of their losses."""
        found = torch.autograd.grad(loss.sum(), list(self.parameters.values()))
        for gradient, value in zip(self.gradients.values(), found, strict=True):
            gradient.copy_(value)


class Lanes:
    """The stacked parameters, gradients and buffers of models of one architecture.

    All parameters of a lane are one row of `flat`, all its gradients one row of `grad`, all buffers
    one row of `state`; the tensors that the model sees are views of them. So a lane can be saved,
    restored and handed to an optimiser as one tensor.

    Args:
        models: one per lane, at least two, all on the CPU; the first is moved.
        device: where the stack lies.
        together: lanes computed in one call, about; fewer fit a cache, more save calls. Changes no
            bit of a result, since a call has two lanes at least.
    """

    def __init__(
        self, models: Sequence[nn.Module], *, device: torch.device, together: int = 16
    ) -> None:
        if len(models) < 2:
            raise ValueError("a stack needs two lanes: one alone takes other kernels")
        flat = torch.stack([_row(model.parameters()) for model in models])
        state = torch.stack([_row(model.buffers()) for model in models])
        self.module = models[0].to(device)
        self._places = _places(self.module)
        self.together = together
        self.put(flat.to(device), state.to(device))

    def put(self, flat: Tensor, state: Tensor) -> None:
        """Replace all rows, for example by those of a checkpoint or of the chosen epochs."""
        self.flat, self.state = flat.clone(), state.clone()
        self.grad = torch.zeros_like(self.flat)
        count = max(1, min(-(-len(flat) // self.together), len(flat) // 2))
        ends = [len(flat) * number // count for number in range(count + 1)]
        self.groups = [self._group(slice(*pair)) for pair in itertools.pairwise(ends)]

    def _group(self, where: slice) -> Group:
        like = dict(self.module.named_parameters())
        parameters = _views(self.flat[where], like)
        return Group(
            where=where,
            parameters={name: view.requires_grad_() for name, view in parameters.items()},
            gradients=_views(self.grad[where], like),
            buffers=_views(self.state[where], dict(self.module.named_buffers())),
        )

    def __len__(self) -> int:
        return len(self.flat)

    def select(self, positions: Sequence[int]) -> None:
        """Keep the lanes at these positions, in this order."""
        self.put(self.flat[list(positions)], self.state[list(positions)])

    def halve(self) -> bool:
        """Compute half as many lanes in a call from the next `put` on; False where that cannot be.

        The lanes stay, and so does every bit of their results.
        """
        largest = max(len(group) for group in self.groups)
        self.together = largest // 2
        return largest > 3  # a call has two lanes at least

    def named(self, flat: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Name the parameters and buffers in one lane's rows."""
        tensors = _views(flat[None], dict(self.module.named_parameters()))
        tensors |= _views(state[None], dict(self.module.named_buffers()))
        return {name: tensor[0].clone() for name, tensor in tensors.items()}

    def call(
        self, group: Group, *lane_arguments: object, shared: tuple[object, ...], train: bool
    ) -> tuple[Tensor, ...]:
        """Run the models of a group.

        Args:
            group: of this stack.
            lane_arguments: tensors (or tuples of them) with a leading lane axis.
            shared: further arguments, the same for all lanes.
            train: whether modules are in training mode; buffers follow only then.
        """
        if self.module.training is not train:
            self.module.train(train)
        mapped: Callable[..., tuple[Tensor, ...]] = vmap(partial(self._one, shared))
        return mapped((*group.parameters.values(), *group.buffers.values()), *lane_arguments)

    def _one(
        self, shared: tuple[object, ...], tensors: tuple[Tensor, ...], *arguments: object
    ) -> tuple[Tensor, ...]:
        """Run the model with tensors in the places of its parameters and buffers."""
        own = [place[name] for place, name in self._places]
        try:
            for (place, name), tensor in zip(self._places, tensors, strict=True):
                place[name] = tensor
            out: tuple[Tensor, ...] = self.module(*arguments, *shared)
        finally:
            for (place, name), tensor in zip(self._places, own, strict=True):
                place[name] = tensor
        return out


def _row(tensors: Iterable[Tensor]) -> Tensor:
    """Concatenate tensors, padded to a multiple of `_ALIGNED`."""
    flat = torch.cat([torch.zeros(0), *(tensor.detach().flatten() for tensor in tensors)])
    return nn.functional.pad(flat, (0, -flat.numel() % _ALIGNED))


def _places(module: nn.Module) -> list[tuple[dict[str, Tensor], str]]:
    """List where a module and those inside it hold their parameters, then their buffers.

    In the order of `named_parameters` and `named_buffers`. To lend the lanes' tensors to these
    places is what `torch.func.functional_call` does, at a fifth of its cost.
    """
    inside = list(module.modules())
    return [
        (held, name)
        for kind in ("_parameters", "_buffers")
        for each in inside
        for held in [getattr(each, kind)]
        for name, tensor in held.items()
        if tensor is not None
    ]


def _views(rows: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See the rows as stacked tensors of the given shapes."""
    views, start = {}, 0
    for name, tensor in like.items():
        end = start + tensor.numel()
        views[name] = rows[:, start:end].view(len(rows), *tensor.shape)
        start = end
    return views


def draw_dropped(
    generators: Sequence[torch.Generator],
    shape: tuple[int, int],
    *,
    widths: Sequence[int],
    dropout: float,
) -> tuple[Bool[Tensor, "lane bag instance _"], ...]:
    """Draw which units dropout zeroes, [lane, bag, instance, width] for each embedding layer.

    Args:
        generators: one per lane.
        shape: bags and instances of the padded batch.
        widths: width of each layer.
        dropout: share dropped, rounded to 1/65536.
    """
    share = quantised(dropout)
    if not share:
        return ()
    return tuple(_dropped(generators, (*shape, width), share) for width in widths)


def _dropped(
    generators: Sequence[torch.Generator], shape: tuple[int, ...], share: int
) -> Bool[Tensor, "lane bag instance _"]:
    """Compare 16 random bits per unit with the share; four units come from one 64-bit draw."""
    count, device = math.prod(shape), generators[0].device
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
    units = words.view(torch.int16)[:count]
    found = torch.empty(len(generators), count, dtype=torch.bool, device=device)
    for generator, lane in zip(generators, found, strict=True):
        words.random_(-(2**63), None, generator=generator)
        torch.lt(units, share - 32768, out=lane)
    return found.view(len(generators), *shape)


def aligned_alike() -> bool:
    """Find out whether products are independent of alignment in this process, as promised above."""
    numbers = torch.linspace(0, 999, 2 * 16 * 33).sin()
    # A product that depends on the alignment of its left side without `MKL_CBWR` (measured).
    right = numbers[: 2 * 3 * 33].view(2, 3, 33).mT
    padded = torch.cat([numbers.new_zeros(_ALIGNED), numbers])
    found = []
    for shift in range(_ALIGNED):
        left = padded.roll(-shift)[_ALIGNED - shift :][: numbers.numel()]
        found.append(torch.bmm(left.view(2, 16, 33), right))
    return all(torch.equal(each, found[0]) for each in found)
