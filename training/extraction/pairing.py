"""Gives the scans of a slide common tile numbers, so that tile n is the same tissue in each.

The grid of the reference scan is mapped to every other scan of the slide. A tile of the other scan
is cut along its own axes around the mapped centre: shifts and smooth warps are followed, a turn of
the slide is not undone inside the tile. A scan that could not be registered keeps its own grid,
with numbers that no other scan of the slide uses.
"""

from training.extraction.config import Tiling
from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.registration import Registration
from training.extraction.slides import Slide


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
    raise NotImplementedError


def unpaired(tiles: Tiles, *, first: int) -> Tiles:
    """Number the tiles of an unregistered scan from `first` on.

    Args:
        tiles: on the scan's own grid.
        first: above all numbers that other scans of the slide use or may use.
    """
    raise NotImplementedError
