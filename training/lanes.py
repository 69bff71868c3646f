"""Trains several models at once: their parameters stacked along a lane axis, under `vmap`.

The models may be of several kinds that begin alike, as one model beside several losses is. What
all kinds have is one call, whatever the kinds; then each goes on with lanes of its own.

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
- Dropout masks are drawn outside `vmap`, each lane's from its own generator (`dropout`).
- A lane alone in the call of its kind is computed twice there, and its second answer not used.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")
# Large tensors lie on huge pages, where Linux has them: a fresh one costs a third (measured).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import vmap

from training import stacking
from training.stacking import ALIGNED, Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighbouring lanes that are computed in one call: views of the stack by tensor name.

    Attributes:
        where: rows of the stack.
        kind: number of the lanes' kind; where they are of several, that of the first.
        parameters: of the kind; where there are runs, those that all kinds of the stack have.
        gradients: of these.
        buffers: as the parameters.
        runs: lanes of several kinds by kind, with what a kind has beyond the others.
    """

    where: slice
    kind: int
    parameters: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    runs: "tuple[Group, ...]" = ()

    def __len__(self) -> int:
        return int(self.where.stop - self.where.start)

    def share(self, tensor: Tensor) -> Tensor:
        """Show one tensor to all lanes of the group, without copying it."""
        return tensor.expand(len(self), *tensor.shape)

    def backward(self, loss: Tensor) -> None:
        """Fill the lanes' gradients with those of the sum of their losses."""
        parts = (self, *self.runs)
        leaves = [leaf for part in parts for leaf in part.parameters.values()]
        gradients = [gradient for part in parts for gradient in part.gradients.values()]
        for gradient, value in zip(gradients, torch.autograd.grad(loss.sum(), leaves), strict=True):
            gradient.copy_(value)


class Lanes:
    """The stacked parameters, gradients and buffers of models.

    All parameters of a lane are one row of `flat`, all its gradients one row of `grad`, all buffers
    one row of `state`; the tensors that the model sees are views of them. So a lane can be saved,
    restored and handed to an optimiser as one tensor. Rows are as long as the longest needs; the
    rest of a shorter one is zero.

    Args:
        models: one per lane, at least two, all on the CPU; the first of each kind is moved.
        device: where the stack lies.
        together: lanes computed in one call, about; fewer fit a cache, more save calls. Changes no
            bit of a result, since a call has two lanes at least.
        kinds: the number of each lane's kind, from 0 in order: models of a kind have modules and
            settings in common, those of all kinds their first parameters and buffers. Default: all
            are of one.
    """

    def __init__(
        self, models: Sequence[nn.Module], *, device: torch.device, together: int = 16,
        kinds: Sequence[int] = (),
    ) -> None:  # fmt: skip
        if len(models) < 2:
            raise ValueError("a stack needs two lanes: one alone takes other kernels")
        self.kinds = list(kinds) or [0] * len(models)
        rows = [stacking.row(model.parameters()) for model in models]
        flat = stacking.stacked(rows)
        state = stacking.stacked([stacking.row(model.buffers()) for model in models])
        firsts = [self.kinds.index(kind) for kind in range(max(self.kinds) + 1)]
        self.modules = [models[first].to(device) for first in firsts]
        parameters = [dict(module.named_parameters()) for module in self.modules]
        buffers = [dict(module.named_buffers()) for module in self.modules]
        self._like = list(zip(parameters, buffers, strict=True))
        self._common = stacking.num_alike(parameters), stacking.num_alike(buffers)
        places = [stacking.places(module) for module in self.modules]
        alike, kept = self._common
        self._places = [[*parameters, *buffers] for parameters, buffers in places]
        self._first_places = [[*each[:alike], *held[:kept]] for each, held in places]
        self._widths = [len(rows[first]) for first in firsts]
        self.together = together
        self.put(flat.to(device), state.to(device))

    def put(self, flat: Tensor, state: Tensor, kinds: Sequence[int] | None = None) -> None:
        """Replace all rows, for example by those of a checkpoint or of the chosen epochs.

        Args:
            flat: parameters, a row per lane.
            state: buffers.
            kinds: number of each lane's kind; None: as they were.
        """
        if kinds is not None:
            self.kinds = list(kinds)
        self.flat, self.state = flat.clone(), state.clone()
        self.grad = torch.zeros_like(self.flat)
        count = max(1, min(-(-len(flat) // self.together), len(flat) // 2))
        ends = [len(flat) * number // count for number in range(count + 1)]
        self.groups = [self._group(slice(*pair)) for pair in itertools.pairwise(ends)]

    def _group(self, where: slice) -> Group:
        """See rows as a group, and if their lanes are of several kinds, as its runs."""
        inside = range(where.start + 1, where.stop)
        changes = [row for row in inside if self.kinds[row] != self.kinds[row - 1]]
        if not changes:
            return self._seen(where)
        ends = [where.start, *changes, where.stop]
        runs = [self._seen(slice(*pair), first=self._common) for pair in itertools.pairwise(ends)]
        return replace(self._seen(where, last=self._common), runs=tuple(runs))

    def _seen(
        self, where: slice, *, first: tuple[int, int] = (0, 0),
        last: tuple[int | None, int | None] = (None, None),
    ) -> Group:  # fmt: skip
        """See rows as tensors of the first one's kind, of parameters and of buffers a part."""
        kind = self.kinds[where.start]
        parameters, buffers = self._like[kind]
        leaves = stacking.views(self.flat[where], parameters, first[0], last[0])
        return Group(
            where=where,
            kind=kind,
            parameters={name: view.requires_grad_() for name, view in leaves.items()},
            gradients=stacking.views(self.grad[where], parameters, first[0], last[0]),
            buffers=stacking.views(self.state[where], buffers, first[1], last[1]),
        )

    def __len__(self) -> int:
        return len(self.flat)

    def rows(self, stack: Tensor) -> list[Tensor]:
        """Give what each lane uses of its row of `flat`, or of a stack like it."""
        return [row[: self._widths[kind]] for row, kind in zip(stack, self.kinds, strict=True)]

    def select(self, positions: Sequence[int]) -> None:
        """Keep the lanes at these positions, in this order."""
        kinds = [self.kinds[position] for position in positions]
        self.put(self.flat[list(positions)], self.state[list(positions)], kinds)

    def halve(self) -> bool:
        """Compute half as many lanes in a call from the next `put` on; False where that cannot be.

        The lanes stay, and so does every bit of their results.
        """
        largest = max(len(group) for group in self.groups)
        self.together = largest // 2
        return largest > 3  # a call has two lanes at least

    def named(self, flat: Tensor, state: Tensor, *, kind: int = 0) -> dict[str, Tensor]:
        """Name the parameters and buffers in one lane's rows."""
        parameters, buffers = self._like[kind]
        tensors = stacking.views(flat[None], parameters) | stacking.views(state[None], buffers)
        return {name: tensor[0].clone() for name, tensor in tensors.items()}

    def call(
        self, group: Group, *lane_arguments: object, shared: tuple[object, ...], train: bool,
        method: str = "__call__",
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Run the models of a group.

        Args:
            group: of this stack.
            lane_arguments: tensors (or tuples of them) with a leading lane axis.
            shared: further arguments, the same for all lanes.
            train: whether modules are in training mode; buffers follow only then.
            method: of the modules. With lanes of several kinds, one that uses no more of a module
                than all kinds have.
        """
        places = self._first_places if group.runs else self._places
        mapped = self._mapped(group.kind, places[group.kind], shared, method, train=train)
        return mapped((*group.parameters.values(), *group.buffers.values()), *lane_arguments)

    def call_runs(
        self, group: Group, *lane_arguments: Tensor, shared: tuple[object, ...], method: str
    ) -> list[tuple[Tensor, ...]]:
        """Run the models of each run of a group, whole modules of their kind in training mode.

        Args:
            group: of this stack, with runs.
            lane_arguments: with a leading axis of all lanes of the group.
            shared: further arguments, the same for all lanes.
            method: of the modules.
        """
        sizes = [len(run) for run in group.runs]
        tensors = group.parameters.values(), group.buffers.values(), lane_arguments
        found = []
        for run, *given in zip(group.runs, *(_split(each, sizes) for each in tensors), strict=True):
            parameters, buffers, arguments = given
            parameters += run.parameters.values()
            buffers += run.buffers.values()
            held = buffers
            if len(run) == 1:
                parameters, held, arguments = (
                    _twice(each) for each in (parameters, buffers, arguments)
                )
            mapped = self._mapped(run.kind, self._places[run.kind], shared, method, train=True)
            out = mapped((*parameters, *held), *arguments)
            if len(run) == 1:
                for buffer, twice in zip(buffers, held, strict=True):
                    buffer.copy_(twice[:1])
            found.append(tuple(each[: len(run)] for each in out))
        return found

    def _mapped(
        self, kind: int, places: Places, shared: tuple[object, ...], method: str, *, train: bool
    ) -> Callable[..., tuple[Tensor, ...]]:
        """Give the method of a kind's module as one of all lanes' tensors and arguments."""
        module = self.modules[kind]
        if module.training is not train:
            module.train(train)
        mapped: Callable[..., tuple[Tensor, ...]] = vmap(
            partial(_lent, getattr(module, method), places, shared)
        )
        return mapped


def _lent(
    method: Callable[..., tuple[Tensor, ...]],
    places: Places,
    shared: tuple[object, ...],
    tensors: tuple[Tensor, ...],
    *arguments: object,
) -> tuple[Tensor, ...]:
    """Run a module with tensors in the places of its parameters and buffers."""
    own = [place[name] for place, name in places]
    try:
        for (place, name), tensor in zip(places, tensors, strict=True):
            place[name] = tensor
        return method(*arguments, *shared)
    finally:
        for (place, name), tensor in zip(places, own, strict=True):
            place[name] = tensor


def _split(tensors: Iterable[Tensor], sizes: list[int]) -> list[list[Tensor]]:
    """Divide tensors along the lane axis; give the parts of each size."""
    parts = [torch.split(tensor, sizes) for tensor in tensors]
    return [[part[number] for part in parts] for number in range(len(sizes))]


def _twice(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Give a lone lane a companion, itself."""
    return [torch.cat([tensor, tensor]) for tensor in tensors]


def aligned_alike() -> bool:
    """Find out whether products are independent of alignment in this process, as promised above."""
    numbers = torch.linspace(0, 999, 2 * 16 * 33).sin()
    # A product that depends on the alignment of its left side without `MKL_CBWR` (measured).
    right = numbers[: 2 * 3 * 33].view(2, 3, 33).mT
    padded = torch.cat([numbers.new_zeros(ALIGNED), numbers])
    found = []
    for shift in range(ALIGNED):
        left = padded.roll(-shift)[ALIGNED - shift :][: numbers.numel()]
        found.append(torch.bmm(left.view(2, 16, 33), right))
    return all(torch.equal(each, found[0]) for each in found)
