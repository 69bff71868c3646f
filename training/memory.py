"""How many lanes are computed in one call: as many as a cache, or a GPU's free memory, holds.

The parameters of all lanes lie on the device anyway, with gradients and moments; what grows with
the lanes of a call are activations. They are estimated; where that was too low, an epoch, or the
evaluation after the last, begins again with half the lanes in a call, down to two. That changes no
bit of a lane on a CPU.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training import checkpoint as checkpoints
from training.evaluation import CHUNK_INSTANCES
from training.lanes import Lanes

Done = TypeVar("Done")

log = logging.getLogger(__name__)

CACHE_NUMBERS = 2**20
"""On a CPU, numbers of the widest layer that lanes computed together may hold."""
KEPT = 8
"""Numbers kept per unit of a layer for the backward pass: product, norm, activation, dropout, and
the gradients of them."""
SHARE = 0.7
"""Of a GPU's free memory: the allocator needs room, and neighbours may come."""
NUMBER_BYTES = 4


@runtime_checkable
class Trained(Protocol):
    """A session, as far as it is tried again."""

    device: torch.device
    lanes: Lanes

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from a snapshot."""


def lanes_together(
    device: torch.device, *, bags: int, num_tiles: npt.NDArray[np.int64], widths: Sequence[int]
) -> int:
    """Choose how many lanes to compute in one call.

    Args:
        device: where.
        bags: of a batch.
        num_tiles: tiles of a batch that each scan would give.
        widths: of the input and of each layer.
    """
    if device.type == "cpu":
        width = max(widths[1:-1], default=widths[0])
        return max(2, int(CACHE_NUMBERS / (bags * float(num_tiles.mean()) * width)))
    instances = max(bags * int(num_tiles.max()), CHUNK_INSTANCES)
    return lanes_that_fit(free_bytes(device), of_a_lane(instances, widths))


def of_a_lane(instances: int, widths: Sequence[int]) -> int:
    """Estimate the bytes of activations of a lane.

    Args:
        instances: of a batch, padding included.
        widths: of the input and of each layer.
    """
    return instances * (widths[0] + KEPT * sum(widths[1:])) * NUMBER_BYTES


def lanes_that_fit(free: int, lane: int) -> int:
    """Tell how many lanes of so many bytes fit; two at least."""
    return max(2, int(SHARE * free / lane))


def free_bytes(device: torch.device) -> int:
    """Ask how much memory a GPU has left; what torch keeps for later counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free) + kept


def fitting(
    session: Trained,
    work: Callable[[], Done],
    before: tuple[dict[str, Tensor], dict[str, Any]] | None,
    checkpoint: Path | None,
) -> Done:
    """Do some work of a session; out of GPU memory, again with half the lanes in one call.

    Args:
        session: the pack.
        work: an epoch, or the evaluation after the last one.
        before: a snapshot to begin again from; None: it is not tried.
        checkpoint: folder that gets it where two lanes do not fit, for parts of the pack.

    Raises:
        OutOfMemoryError: Two lanes do not fit.
    """
    while True:
        try:
            return work()
        except torch.OutOfMemoryError:
            if before is None:
                raise
            if not session.lanes.halve():
                if checkpoint is not None:
                    checkpoints.write(checkpoint, *before)
                raise
        log.warning("out of memory: %d lanes in one call from now on", session.lanes.together)
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        session.restore(*before)
