"""Which units dropout zeroes: drawn outside `vmap`, each lane's from its own generator."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from training.models.embedding import quantised


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
