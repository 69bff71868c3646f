"""The state of a pack between epochs, in one safetensors file; its counters are JSON in the header.

One file, written to a temporary name and renamed, is whole or not there. No pickle. A checkpoint
saves time and nothing else: one that cannot be read is passed over with a warning.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

_NAME = "state.safetensors"


def write(folder: Path, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    """Write a checkpoint, in place of the one before.

    Args:
        folder: of the pack; made if it does not exist.
        tensors: by name.
        counters: plain values that JSON can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{_NAME}.{socket.gethostname()}-{secrets.token_hex(4)}"
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"counters": json.dumps(counters)},
        )
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / _NAME)
    finally:
        temporary.unlink(missing_ok=True)


def leave(folder: Path | None, snapshot: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
    """Write a checkpoint where there is a folder for it, and a snapshot."""
    if folder is not None and snapshot is not None:
        write(folder, *snapshot)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a checkpoint to the CPU; None where there is none that can be read."""
    path = folder / _NAME
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            counters = json.loads(file.metadata()["counters"])
            if not isinstance(counters, dict):
                raise TypeError(f"counters are {counters!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, counters  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("%s: not a checkpoint, training starts anew: %s", path, error)
        return None


def hand_down(folder: Path, heirs: Iterable[Path]) -> None:
    """Give a pack's checkpoint, if there is one, to packs that were made of it."""
    for heir in heirs:
        with contextlib.suppress(OSError):  # then they start anew
            content = (folder / _NAME).read_bytes()
            heir.mkdir(parents=True, exist_ok=True)
            temporary = heir / f".{_NAME}.{socket.gethostname()}-{secrets.token_hex(4)}"
            temporary.write_bytes(content)
            temporary.replace(heir / _NAME)
