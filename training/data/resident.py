"""Bags that stay in memory between packs: those of one encoder, in one process.

A worker trains pack after pack on the same scans. What was read for one is kept for the next, in
its stored type and on the device, as long as neither the index nor the shards changed.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from training.data.bags import Row

_kept: dict[str, Tensor] = {}


def recall(
    root: Path, entries: Sequence[Row], read: Callable[[], Tensor], *, device: torch.device
) -> Tensor:
    """Give all bags of these scans, one after the other; read them unless they were the last ones.

    Args:
        root: of the data set.
        entries: the scans in order.
        read: reads the bags and puts them on the device.
        device: where they lie.
    """
    name = _name(root, entries, device)
    if name not in _kept:
        forget()  # before the others are read: there may be room for one encoder only
        _kept[name] = read()
    return _kept[name]


def forget() -> None:
    """Give the memory back, for example where it does not suffice for training."""
    _kept.clear()


def _name(root: Path, entries: Sequence[Row], device: torch.device) -> str:
    """Name the bags by their checksums, and by the versions of the files that hold them."""
    digest = hashlib.sha256(f"{device} {len(entries)}\n".encode())
    for entry in entries:
        digest.update(f"{entry.shard} {entry.row_start} {entry.checksum}\n".encode())
    for shard in sorted({str(entry.shard) for entry in entries}):
        path = root / shard
        changed = path.stat().st_mtime_ns if path.exists() else 0
        digest.update(f"{path} {changed}\n".encode())
    return digest.hexdigest()
