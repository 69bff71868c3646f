"""How many lanes are computed in one call: as many as a cache, or a GPU's free memory, holds.

The parameters of all lanes lie on the device anyway, with gradients, moments and snapshots; what
grows with the lanes of a call are activations. They are estimated; where that was too low, an
epoch, or the evaluation after the last, begins again with half the lanes in a call, down to two.
That changes no bit of a lane on a CPU.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from training import checkpoint as checkpoints
from training import objective
from training.config import InfoNCE, TrialConfig
from training.data.sampling import Pool
from training.data.scans import Scans
from training.evaluation import CHUNK_INSTANCES
from training.lanes import Lanes
from training.models.transmil import QUERIES

Done = TypeVar("Done")

log = logging.getLogger(__name__)

CACHE_NUMBERS = 2**20
"""On a CPU, numbers of the widest layer that lanes computed together may hold."""
KEPT = 8
"""Numbers kept per unit of a layer for the backward pass: product, norm, activation, dropout, and
the gradients of them."""
SQUARED = 6
"""Numbers kept per pair of tiles that attend to each other, or that a loss compares."""
HELD_ROWS = 13
"""Rows of parameters that a lane holds: its own, gradient, two moments, the chosen epoch, and
snapshots of them before this epoch and, for a moment, the last."""
SHARE = 0.7
"""Of a GPU's free memory: the allocator needs room, and neighbours may come."""


@runtime_checkable
class Trained(Protocol):
    """A session, as far as it is tried again."""

    device: torch.device
    lanes: Lanes

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from a snapshot."""


def lanes_together(
    device: torch.device,
    configs: Sequence[TrialConfig],
    models: Sequence[nn.Module],
    *,
    scans: Scans,
    pool: Pool,
    gpu_share: float,
) -> int:
    """Choose how many lanes to compute in one call.

    Args:
        device: where.
        configs: of the lanes, of one lane key.
        models: of the lanes.
        scans: of the fold.
        pool: what training draws from.
        gpu_share: see `trainer.train`.
    """
    sizes, all_tiles = configs[0].sampling, scans.table["num_tiles"].to_numpy(np.int64)
    pairs = min(sizes.pairs_per_batch, max(map(len, pool.pairs), default=0))
    bags = min(sizes.slides_per_batch, len(pool.routine)) + 2 * pairs
    tiles = np.minimum(all_tiles, sizes.tiles_per_bag or all_tiles.max())
    if device.type == "cpu":
        return lanes_in_cache(bags * float(tiles.mean()), configs[0], in_dim=scans.in_dim)
    whole = [scans.of(part, seen_only=False) for part in ("test", "validation", "external")]
    longest = int(all_tiles[np.concatenate(whole)].max(initial=0))
    most = {"bags": bags, "tiles": int(tiles.max()), "longest": longest, "in_dim": scans.in_dim}
    lane = max(of_a_lane(each, **most) for each in configs)
    size = objective.dtype(configs[0]).itemsize
    row = max(sum(each.numel() for each in model.parameters()) for model in models)
    free = free_bytes(device, gpu_share) - HELD_ROWS * len(models) * row * size
    return lanes_that_fit(free, lane * size)


def lanes_in_cache(instances: float | int, config: TrialConfig, *, in_dim: int) -> int:
    """Tell for how many lanes of so many instances a CPU's cache suffices; two at least."""
    width = max(config.head.embed_dims, default=in_dim)
    return max(2, int(CACHE_NUMBERS / (instances * width)))


def of_a_lane(config: TrialConfig, *, bags: int, tiles: int, longest: int, in_dim: int) -> int:
    """Estimate the numbers that a lane holds beside its rows, in a step or while it is scored.

    Args:
        config: of the lane.
        bags: of a batch.
        tiles: of each of them, padding included.
        longest: tiles of the longest bag that is scored.
        in_dim: width of the input.
    """
    head, pairs = config.head, min(config.sampling.pairs_per_batch, bags // 2)
    instance = in_dim + KEPT * (sum(head.embed_dims) + getattr(head, "attention_dim", 0))
    attended = SQUARED * getattr(head, "num_heads", 0)
    compared = [
        loss for loss in config.losses if isinstance(loss, InfoNCE) and loss.level == "tile"
    ]
    step = bags * tiles * (instance + attended * tiles)
    step += SQUARED * len(compared) * (pairs * tiles) ** 2
    scored = max(CHUNK_INSTANCES, longest)
    return max(step, scored * (instance + attended * min(QUERIES, scored)))


def lanes_that_fit(free: int, lane: int) -> int:
    """Tell how many lanes of so many bytes fit; two at least."""
    return max(2, int(SHARE * free / lane))


def free_bytes(device: torch.device, share: float) -> int:
    """Ask how much memory a GPU has left for this process; what torch keeps for later is free."""
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - used
    return int(min(free + kept, share * total - used))


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
                checkpoints.leave(checkpoint, before)
                raise
        log.warning("out of memory: %d lanes in one call from now on", session.lanes.together)
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        session.restore(*before)
