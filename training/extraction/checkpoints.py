"""Reads the files of weights: safetensors, or PyTorch files loaded with `weights_only=True`.

No code is ever run that comes with weights.
"""

import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import DataError
from training.extraction.weights import first_line

_NESTED = ("state_dict", "model")
_DAMAGE = (
    OSError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, struct.error,
)  # fmt: skip
"""What readers of weights stumble with over a damaged file."""


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        DataError: It cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise DataError(
            f"{path}: is damaged or holds more than weights, so it is not loaded",
            hint="save the weights alone: torch.save(model.state_dict(), path)",
        ) from error
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read: {first_line(error)}") from error
    while isinstance(found, dict) and (
        inner := [k for k in _NESTED if isinstance(found.get(k), dict)]
    ):
        found = found[inner[0]]
    if not isinstance(found, dict) or not any(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"{path}: holds no weights by name")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
