"""The device that a pack trains on: its name, what it can compute, and room for its neighbours."""

from functools import lru_cache

import torch

from training.errors import DataError


def prepare(device: torch.device, precision: str) -> None:
    """Let a GPU compute in this precision and in no lower one.

    Args:
        device: a CPU always does.
        precision: of the configuration.

    Raises:
        DataError: The GPU cannot.
    """
    if device.type != "cuda":
        return
    # TF32 has 10 bits of 23. The environment may ask for it; what is set here counts.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise DataError(
            f"precision: bfloat16, which this GPU does not have: {name(device.type)}",
            hint="set precision: float16",
        )


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
