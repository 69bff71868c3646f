"""The device that a pack trains on: its name, what it can compute, and room for its neighbours."""

from functools import lru_cache

import torch


@lru_cache(maxsize=4)
def name(device: str) -> str:
    """Name what trains: cpu, or the name of the GPU; cuda where it does not say."""
    if device == "cpu":
        return device
    try:
        found: str = torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError):
        return device
    return found


def leave(share: float) -> None:
    """Leave a GPU that others share, after a pack: what torch keeps for later is theirs now."""
    if share < 1 and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
        torch.cuda.empty_cache()
