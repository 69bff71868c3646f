"""The grid of tiles over a scan, and which of them hold enough tissue."""

from dataclasses import dataclass

import numpy as np

from training.extraction.config import Tiling
from training.extraction.masks import Mask
from training.extraction.slides import Slide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """Kept tiles of a scan, in the order of their numbers.

    Args:
        coords: int32 [tiles, 2], level-0 pixels (x, y) of the upper left corners.
        tile: int32 [tiles], row-major number on the full grid: same number, same place.
        share: float32 [tiles], share of the tile inside the mask.
        span: width and height of a tile in level-0 pixels.
        shape: rows and columns of the full grid.
        num_found: tiles with enough tissue, before `max_tiles`.
    """

    coords: np.ndarray
    tile: np.ndarray
    share: np.ndarray
    span: tuple[float, float]
    shape: tuple[int, int]
    num_found: int


def tiles(slide: Slide, mask: Mask, tiling: Tiling) -> Tiles:
    """Cut the grid and keep the tiles with enough tissue.

    Raises:
        DataError: The scan is smaller than a tile, or no tile has enough tissue.
    """
    raise NotImplementedError
