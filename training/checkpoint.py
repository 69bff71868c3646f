"""The state of a pack between epochs, in one safetensors file; its counters are JSON in the header.

One file, written to a temporary name and renamed, is whole or not there. No pickle.
"""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import DataError

_NAME = "state.safetensors"


def write(folder: Path, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    """Write a checkpoint, in place of the one before.

    Args:
        folder: of the pack; made if it does not exist.
        tensors: by name.
        counters: plain values that JSON can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{_NAME}.{os.getpid()}"
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        temporary,
        metadata={"counters": json.dumps(counters)},
    )
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / _NAME)


def read(folder: Path, *, device: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a checkpoint; None where there is none.

    Raises:
        DataError: The file is not a checkpoint.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device=device) as file:
            counters: dict[str, Any] = json.loads(file.metadata()["counters"])
            return {name: file.get_tensor(name) for name in file.keys()}, counters  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a checkpoint: {error}", hint=f"delete {path}") from error
