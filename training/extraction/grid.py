"""The grid of tiles over a scan, and which of its tiles hold enough tissue.

The full grid begins at the upper left corner; tiles that would reach beyond the scan do not exist.
A tile's number is its row-major place on the full grid whatever the mask, so that it stays the same
when the mask or the cap changes.
"""

import math
from dataclasses import dataclass

import numpy as np

from training import seeds
from training.errors import DataError
from training.extraction.config import Tiling
from training.extraction.masks import Mask
from training.extraction.slides import Slide

ROUNDING = 1e-9


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
    step = slide.scale(tiling).step
    span = (tiling.tile_px * step[0], tiling.tile_px * step[1])
    xs, ys = (corners(slide.size[axis], step[axis], tiling) for axis in (0, 1))
    if not len(xs) or not len(ys):
        raise DataError(
            f"{slide.path}: is {slide.size[0]} × {slide.size[1]} px, smaller than a tile of "
            f"{span[0]:.0f} × {span[1]:.0f} px",
            hint="ask for a smaller tile_px or mpp",
        )
    share = shares(mask, xs, ys, span)
    found = np.flatnonzero((share >= tiling.min_tissue - ROUNDING) & (share > ROUNDING))
    if not len(found):
        raise DataError(f"{slide.path}: {_missing(mask, share, tiling)}")
    tile = _drawn(found, tiling, share.size)
    coords = np.stack([xs[tile % len(xs)], ys[tile // len(xs)]], axis=1)
    return Tiles(
        coords=coords.astype(np.int32),
        tile=tile.astype(np.int32),
        share=share.ravel()[tile].astype(np.float32),
        span=span,
        shape=(len(ys), len(xs)),
        num_found=len(found),
    )


def corners(size: int, step: float, tiling: Tiling) -> np.ndarray:
    """Place the tiles along one axis: int64 level-0 pixels of their first edges.

    Args:
        size: of the scan at level 0.
        step: level-0 pixels per pixel of a tile.
        tiling: side and overlap.
    """
    stride = tiling.tile_px - tiling.overlap_px
    room = size / step - tiling.tile_px
    num = math.floor(room / stride + ROUNDING) + 1 if room > -ROUNDING else 0
    return np.asarray(np.floor(np.arange(num) * stride * step + ROUNDING), np.int64)


def shares(mask: Mask, xs: np.ndarray, ys: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Measure the share of every tile inside the mask, exactly, by its integral image.

    Returns:
        float64 [rows, columns].
    """
    height, width = mask.inside.shape
    integral = np.zeros((height + 1, width + 1))
    np.cumsum(mask.inside, axis=0, out=integral[1:, 1:])
    np.cumsum(integral[1:, 1:], axis=1, out=integral[1:, 1:])
    by_rows = _between(integral, ys / mask.step[1], (ys + span[1]) / mask.step[1])
    area = _between(by_rows.T, xs / mask.step[0], (xs + span[0]) / mask.step[0]).T
    pixels_per_tile = span[0] * span[1] / (mask.step[0] * mask.step[1])
    return np.asarray(np.clip(area / pixels_per_tile, 0.0, 1.0))


def _between(integral: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Subtract the integral's rows at `begin` from those at `end`, both between its lines."""
    return np.asarray(_row(integral, end) - _row(integral, begin))


def _row(integral: np.ndarray, place: np.ndarray) -> np.ndarray:
    place = np.clip(place, 0, len(integral) - 1)
    low = np.minimum(place.astype(np.int64), len(integral) - 2)
    weight = (place - low)[:, None]
    return np.asarray(integral[low] * (1 - weight) + integral[low + 1] * weight)


def _drawn(found: np.ndarray, tiling: Tiling, num_places: int) -> np.ndarray:
    """Draw `max_tiles` of the tiles by a key of each place: a smaller cap keeps part of these."""
    if tiling.max_tiles is None or len(found) <= tiling.max_tiles:
        return found
    key = seeds.generator(tiling.seed, "tiles").random(num_places)[found]
    return np.asarray(np.sort(found[np.argsort(key, kind="stable")[: tiling.max_tiles]]))


def _missing(mask: Mask, share: np.ndarray, tiling: Tiling) -> str:
    if not mask.inside.any():
        return "no tissue found, or none where the user's mask is"
    return (
        f"no tile has {tiling.min_tissue:.0%} tissue; the most that one has is {share.max():.0%}, "
        f"and {mask.inside.mean():.2%} of the scan is tissue"
    )
