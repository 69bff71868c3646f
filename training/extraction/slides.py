"""Reads scans at a physical scale: whole-slide images, and plain images as regions.

Coordinates are level-0 pixels of the upper left corner. The scale is never assumed: it comes from
the file or from the user. Every region is read at a requested scale: a stored level within
`mpp_tolerance` of it is taken as it is, else the next finer level is averaged down.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from training.errors import DataError
from training.extraction.config import Tiling


class BrokenTileError(DataError):
    """A region of an otherwise readable scan cannot be decoded; callers count these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a scan is read at a requested scale.

    Args:
        level: the stored level that is read.
        factor: pixels of that level per pixel returned, along x and y; (1, 1): as it is.
        step: level-0 pixels per pixel returned, along x and y.
        mpp: micrometres per pixel returned, truly (mean of x and y).
    """

    level: int
    factor: tuple[float, float]
    step: tuple[float, float]
    mpp: float


class Slide:
    """A scan. Opened on first use in each process; pickles as its path and scale."""

    path: Path
    size: tuple[int, int]
    """Width and height at level 0."""
    mpp: tuple[float, float]
    """Micrometres per level-0 pixel along x and y."""
    vendor: str
    levels: tuple[tuple[int, int], ...]
    """Width and height of every stored level."""
    fingerprint: str
    """Hash of parts of the file: tells whether it was replaced."""
    has_profile: bool
    """Whether the file has an ICC profile."""

    def scale(self, tiling: Tiling) -> Scale:
        """Decide how tiles are read; DataError if that were upsampling and is not allowed."""
        raise NotImplementedError

    def true_mpp(self, tiling: Tiling) -> float:
        """Give the micrometres per pixel that tiles truly have."""
        return self.scale(tiling).mpp

    def read(self, x: int, y: int, tiling: Tiling) -> np.ndarray:
        """Read a tile, uint8 [tile_px, tile_px, 3]; what lies outside or is empty is white.

        Raises:
            BrokenTileError: The region cannot be decoded. The slide stays usable.
        """
        raise NotImplementedError

    def thumbnail(self, max_px: int) -> tuple[np.ndarray, tuple[float, float]]:
        """Read the whole scan, its longer side at most `max_px`.

        Returns:
            uint8 [height, width, 3] and the level-0 pixels per pixel along x and y.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; the next use opens it again."""

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_slide(path: Path, *, mpp: float | None = None) -> Slide:
    """Open a scan.

    Args:
        path: the file.
        mpp: micrometres per level-0 pixel, in place of what the file says.

    Raises:
        DataError: It cannot be read, or its scale is not known.
    """
    raise NotImplementedError
