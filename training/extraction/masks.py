"""Masks over scans: tissue found, or drawn by the user as an image or as GeoJSON polygons."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """Where tiles may lie.

    Args:
        inside: bool [height, width], over the whole scan.
        step: level-0 pixels per pixel of the mask, along x and y.
    """

    inside: np.ndarray
    step: tuple[float, float]


def read(path: Path, size: tuple[int, int]) -> Mask:
    """Read a user's mask of a scan: a picture (not black: inside) or GeoJSON in level-0 pixels.

    Args:
        path: `.geojson` or `.json`, else a picture stretched over the whole scan.
        size: width and height of the scan at level 0.

    Raises:
        DataError: It cannot be read or does not fit the scan.
    """
    raise NotImplementedError


def both(first: Mask, second: Mask) -> Mask:
    """Keep what lies in both, on the finer of the two rasters."""
    raise NotImplementedError
