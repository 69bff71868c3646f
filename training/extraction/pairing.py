"""Gives the scans of a slide common tile numbers, so that tile n is the same tissue in each.

The grid of the reference scan is mapped to every other scan of the slide. A tile of the other scan
is cut along its own axes around the mapped centre: shifts and smooth warps are followed, a turn of
the slide is not undone inside the tile. A scan that could not be registered keeps its own grid,
with numbers that no other scan of the slide uses.
"""

import math
from dataclasses import replace

import numpy as np
from scipy import ndimage

from training.errors import DataError
from training.extraction import grid
from training.extraction.config import Tiling
from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.registration import Registration
from training.extraction.slides import Slide

SPACE = 2**31
"""Tile numbers are int32 from 0 on."""

STRIDE = 2**26
"""Tile numbers of unpaired scans lie so far apart, where a slide has at most 32 scans."""


def map_grid(
    tiles: Tiles,
    registration: Registration,
    *,
    fixed: Slide,
    moving: Slide,
    mask: Mask,
    tiling: Tiling,
) -> Tiles:
    """Map the reference scan's tiles to another scan; numbers and order stay.

    Args:
        tiles: of the reference scan.
        registration: from the reference scan to the other.
        fixed: the reference scan.
        moving: the other scan.
        mask: tissue of the other scan.
        tiling: size of tiles and the least share of tissue.

    Returns:
        The tiles that lie wholly on the other scan and hold enough tissue there.

    Raises:
        ValueError: The registration was refused.
        DataError: No tile is left.
    """
    step = moving.scale(tiling).step
    span = np.array(step) * tiling.tile_px
    centres = (tiles.coords + np.array(tiles.span) / 2) * fixed.mpp
    corners = registration.map(centres) / moving.mpp - span / 2
    inside = ((corners > -0.5) & (corners + span < np.array(moving.size) + 0.5)).all(axis=1)
    coords = np.clip(np.rint(corners), 0, np.floor(moving.size - span)).astype(np.int32)
    share = _shares(mask, coords, span)
    kept = np.flatnonzero(
        inside & (share >= tiling.min_tissue - grid.ROUNDING) & (share > grid.ROUNDING)
    )
    if not len(kept):
        raise DataError(
            f"{moving.path}: none of the {len(tiles.tile)} tiles of {fixed.path} lies on it with "
            f"{tiling.min_tissue:.0%} tissue: {int((~inside).sum())} lie outside"
        )
    return replace(
        tiles,
        coords=coords[kept],
        tile=tiles.tile[kept],
        share=share[kept].astype(np.float32),
        span=(float(span[0]), float(span[1])),
        num_found=len(kept),
    )


def unpaired(tiles: Tiles, reference: Tiles, *, order: int, num_scans: int) -> Tiles:
    """Give the tiles of an unregistered scan numbers that no other scan of the slide uses.

    Where numbers begin depends on the scan's place alone, so that a scan which is added later
    changes no other: at multiples of `STRIDE` for the first 32, then between those, then between
    all of these.

    Args:
        tiles: on the scan's own grid.
        reference: of the slide's first scan, numbered from 0.
        order: place of the scan among the slide's scans, from 1.
        num_scans: of the slide.

    Raises:
        DataError: A grid has more places than there are numbers for each of so many scans.
    """
    room = min(STRIDE, SPACE >> (num_scans - 1).bit_length())
    most = max(math.prod(tiles.shape), math.prod(reference.shape))
    if most > room:
        raise DataError(
            f"its tiles cannot be numbered apart: {num_scans} scans of the slide have room for "
            f"{room:,} places on a grid each, found {most:,}",
            hint="fewer scans of a slide, less overlap, or larger tiles",
        )
    return replace(tiles, tile=(tiles.tile + np.int32(_first(order))).astype(np.int32))


def _first(order: int) -> int:
    if order * STRIDE < SPACE:
        return order * STRIDE
    level = 1 << (order.bit_length() - 1)
    return (2 * (order - level) + 1) * (SPACE // (2 * level))


def _shares(mask: Mask, corners: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Measure the share of tiles anywhere inside the mask: `grid.shares`, but not on a grid."""
    integral = np.zeros(np.add(mask.inside.shape, 1))
    np.cumsum(mask.inside, axis=0, out=integral[1:, 1:])
    np.cumsum(integral[1:, 1:], axis=1, out=integral[1:, 1:])
    (left, top), (right, bottom) = (corners / mask.step).T, ((corners + span) / mask.step).T

    def until(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.map_coordinates(integral, [y, x], order=1, mode="nearest"))

    area = until(right, bottom) - until(left, bottom) - until(right, top) + until(left, top)
    return np.asarray(np.clip(area * np.prod(mask.step) / np.prod(span), 0.0, 1.0))
