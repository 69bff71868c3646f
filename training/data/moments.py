"""Moments of the tiles of scans, in float64, read bag by bag.

A few thousand tiles are in memory at a time, whatever the number of scans. Order is that of the
rows and tiles given, so that the same scans give the same bits. On a CPU with one thread products
are those that `training.lanes` promises.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from training.data import sampling
from training.data.bags import BagReader, Row

_CHUNK_TILES = 4096

Features = Float64[np.ndarray, "scan feature"]
"""One number per scan and feature."""

PerGroup = Float64[np.ndarray, "group feature"]
"""One number per group and feature."""

Square = Float64[Tensor, "feature feature"]
"""A second moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of the tiles of each scan: their mean, and their variance about it (divisor: tiles)."""

    mean: Features
    variance: Features


def of_scans(reader: BagReader, entries: Sequence[Row]) -> Moments:
    """Compute the moments of each scan, joined over chunks as Chan, Golub and LeVeque (1979) do."""
    means, variances = [], []
    for entry in entries:
        count, mean, scatter = 0, np.zeros(entry.dim), np.zeros(entry.dim)
        for tiles in _chunks(reader, entry):
            here = tiles.mean(0)
            tiles -= here
            both, apart = count + len(tiles), here - mean
            scatter += np.square(tiles, out=tiles).sum(0)
            scatter += np.square(apart) * (count * len(tiles) / both)
            mean += apart * (len(tiles) / both)
            count = both
        means.append(mean)
        variances.append(scatter / count)
    return Moments(mean=np.stack(means), variance=np.stack(variances))


def within(reader: BagReader, entries: Sequence[Row], mean: Features) -> Square:
    """Average over scans the covariance of a scan's tiles about its mean."""
    total = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64)
    for entry, centre in zip(entries, mean, strict=True):
        for tiles in _chunks(reader, entry):
            apart = torch.from_numpy(tiles - centre)
            total.addmm_(apart.T, apart, alpha=1 / entry.num_tiles)
    return total / len(entries)


def of_differences(reader: BagReader, pairs: Sequence[tuple[Row, Row]]) -> Square | None:
    """Average over pairs of scans the second moment, about zero, of differences of shared tiles.

    Args:
        reader: of the bags.
        pairs: two scans of a slide each. A pair without a tile number in common does not count.

    Returns:
        None where no pair counts.
    """
    total, count = torch.zeros(0, 0, dtype=torch.float64), 0
    for one, other in pairs:
        shared = sampling.common(reader.tiles(one), reader.tiles(other))
        if not shared.matched:
            continue
        if not count:
            total = torch.zeros(one.dim, one.dim, dtype=torch.float64)
        count += 1
        first, second = reader.whole(one), reader.whole(other)
        for start in range(0, shared.matched, _CHUNK_TILES):
            here = slice(start, start + _CHUNK_TILES)
            apart = first[shared.first[here]].astype(np.float64) - second[shared.second[here]]
            moved = torch.from_numpy(apart)
            total.addmm_(moved.T, moved, alpha=1 / shared.matched)
    return total / count if count else None


def _chunks(reader: BagReader, entry: Row) -> Iterator[Float64[np.ndarray, "tile feature"]]:
    stored = reader.whole(entry)
    for start in range(0, len(stored), _CHUNK_TILES):
        yield stored[start : start + _CHUNK_TILES].astype(np.float64)
