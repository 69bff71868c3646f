"""Bags and how they are read from shards: slices of memory maps, each compared once as a whole.

A bag that was damaged on disk after the launch checked the data is a `DataError` that names shard,
encoder, view and patient. What the file system refuses is its cause.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np

from training.errors import DataError

NOT_FINITE = "embeddings are not all finite"
CHANGED = "the bag differs from its checksum; write it anew"
MEND = "import the encoder again: sweep index"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bag:
    """Embeddings of a view.

    Args:
        embeddings: [tiles, dim], float16 or float32, finite.
        tile: [tiles] int32; the same number is the same tissue place in every view of the slide.
        coords: [tiles, 2] int32, level-0 pixels x and y; -1 where not known.
    """

    embeddings: np.ndarray
    tile: np.ndarray
    coords: np.ndarray


@runtime_checkable
class Row(Protocol):
    """A row of the index, as `itertuples` or `iloc` give it (pandas knows no field types)."""

    patient: Any
    view: Any
    encoder: Any
    shard: Any
    row_start: Any
    num_tiles: Any
    dim: Any
    checksum: Any


_compared: set[tuple[object, ...]] = set()
"""Bags that this process has compared with their checksum: shard, its version, row, checksum."""


class BagReader:
    """Reads bags of a data set; keeps each shard's memory map open.

    Arrays are read-only views of the file. A shard that someone else wrote in chunks is read by
    contiguous slices instead.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, dict[str, np.ndarray | h5py.Dataset]] = {}

    def embeddings(self, row: Row) -> np.ndarray:
        """Read [tiles, dim], in the stored type."""
        found = self._slice("embeddings", row)
        if found.shape[1:] != (row.dim,) or found.dtype.kind != "f":
            text = f"embeddings are {found.dtype} {found.shape}, expected width {row.dim}"
            raise DataError(f"{self._where(row)}: {text}")
        return found

    def whole(self, row: Row) -> np.ndarray:
        """Read embeddings that are finite and, with the tile numbers, as they were written.

        This is looked at when a process reads a bag for the first time.

        Raises:
            DataError: They are not; the message names shard, encoder, view and patient.
        """
        found = self.embeddings(row)
        try:
            state = (self.root / row.shard).stat()
        except OSError as error:
            raise DataError(f"{self._where(row)}: cannot be read: {error}", hint=MEND) from error
        key = (self.root, row.shard, state.st_mtime_ns, row.row_start, row.checksum)
        if key not in _compared:
            bag = Bag(embeddings=found, tile=self.tiles(row), coords=self.coords(row))
            for problem in flaws(bag, row.checksum):
                raise DataError(f"{self._where(row)}: {problem}", hint=MEND)
            _compared.add(key)
        return found

    def refuse_not_finite(self, row: Row) -> None:
        """Say that embeddings that were read of a view are not finite.

        Raises:
            DataError: Always; the message names shard, encoder, view and patient.
        """
        raise DataError(f"{self._where(row)}: {NOT_FINITE}", hint=MEND)

    def _where(self, row: Row) -> str:
        path = self.root / row.shard
        return f"{path}: encoder {row.encoder!r}, view {row.view!r} of patient {row.patient!r}"

    def tiles(self, row: Row) -> np.ndarray:
        """Read tile numbers, [tiles] int32."""
        return self._slice("tile", row)

    def coords(self, row: Row) -> np.ndarray:
        """Read level-0 pixels, [tiles, 2] int32; -1 where not known."""
        return self._slice("coords", row)

    def _slice(self, name: str, row: Row) -> np.ndarray:
        start, stop = row.row_start, row.row_start + row.num_tiles
        try:
            shard = self._open.get(row.shard)
            if shard is None:
                shard = self._open[row.shard] = _map(self.root / row.shard)
            found: np.ndarray = shard[name][start:stop]
        except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{self._where(row)}: cannot be read: {error}", hint=MEND) from error
        if start < 0 or len(found) != row.num_tiles:
            raise DataError(
                f"{self._where(row)}: the shard has {len(shard[name])} rows of {name}, expected "
                f"rows {start} to {stop}"
            )
        return found


def flaws(bag: Bag, wanted: str) -> list[str]:
    """List what is wrong with a stored bag, given its checksum in the index."""
    lines = [] if is_finite(bag.embeddings) else [NOT_FINITE]
    return lines + ([] if checksum(bag) == wanted else [CHANGED])


def is_finite(values: np.ndarray) -> bool:
    """Tell whether all numbers are finite; quicker than `np.isfinite` where they are."""
    if values.dtype == np.float16:  # in numbers of two bytes, the exponent is all ones otherwise
        return not ((np.ascontiguousarray(values).view(np.uint16) & 0x7C00) == 0x7C00).any()
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def checksum(bag: Bag) -> str:
    """Hash the stored bytes of embeddings and tile numbers (SHA-256)."""
    digest = hashlib.sha256(np.ascontiguousarray(bag.embeddings).data)
    digest.update(np.ascontiguousarray(bag.tile, dtype=np.int32).data)
    return digest.hexdigest()


def _map(path: Path) -> dict[str, np.ndarray | h5py.Dataset]:
    file = h5py.File(path, "r")
    found: dict[str, np.ndarray | h5py.Dataset] = {}
    for name in ("embeddings", "tile", "coords"):
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"has no dataset {name!r}")
        offset = dataset.id.get_offset()
        mappable = offset is not None and dataset.chunks is None and dataset.size > 0
        found[name] = (
            np.asarray(np.memmap(path, dataset.dtype, "r", offset, dataset.shape))
            if mappable
            else dataset
        )
    if not any(isinstance(value, h5py.Dataset) for value in found.values()):
        file.close()
    return found
