"""A module's parameters and buffers as one row of numbers, and rows of numbers as its tensors."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

ALIGNED = 16
"""Parameters of a lane are padded to a multiple of this, so that rows stay on cache lines."""

Places = list[tuple[dict[str, Tensor], str]]
"""Where modules hold their tensors: a module's own dictionary, and the name in it."""


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows, the shorter ones with zeros at their end."""
    longest = max(map(len, rows))
    return torch.stack([nn.functional.pad(row, (0, longest - len(row))) for row in rows])


def num_alike(kinds: Sequence[Mapping[str, Tensor]]) -> int:
    """Count the tensors that all kinds begin with, of equal names and shapes."""
    listed = [[(name, tensor.shape) for name, tensor in each.items()] for each in kinds]
    return sum(
        1 for _ in itertools.takewhile(lambda each: len(set(each)) == 1, zip(*listed, strict=False))
    )


def row(tensors: Iterable[Tensor]) -> Tensor:
    """Concatenate tensors, padded to a multiple of `ALIGNED`."""
    flat = torch.cat([torch.zeros(0), *(tensor.detach().flatten() for tensor in tensors)])
    return nn.functional.pad(flat, (0, -flat.numel() % ALIGNED))


def places(module: nn.Module) -> tuple[Places, Places]:
    """List where a module and those inside it hold their parameters, and their buffers.

    In the order of `named_parameters` and `named_buffers`. To lend the lanes' tensors to these
    places is what `torch.func.functional_call` does, at a fifth of its cost.
    """
    inside = list(module.modules())
    parameters, buffers = (
        [
            (held, name)
            for each in inside
            for held in [getattr(each, kind)]
            for name, tensor in held.items()
            if tensor is not None
        ]
        for kind in ("_parameters", "_buffers")
    )
    return parameters, buffers


def views(
    rows: Tensor, like: Mapping[str, Tensor], first: int = 0, last: int | None = None
) -> dict[str, Tensor]:
    """See the rows as stacked tensors of the given shapes, from the first to before the last."""
    found, start = {}, 0
    for name, tensor in like.items():
        end = start + tensor.numel()
        found[name] = rows[:, start:end].view(len(rows), *tensor.shape)
        start = end
    return dict(list(found.items())[first:last])
