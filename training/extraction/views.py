"""Augmented views of a scan: the same tiles as another scanner or stain might show them.

A view has the coordinates and tile numbers of its scan (`source_scan`), and never counts as a
scanner. Its look is drawn once per (seed, scan, view name) and is the same for all its tiles.
"""

from dataclasses import dataclass

import numpy as np

from training.extraction.config_views import AugmentedView


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """A view of one scan with everything drawn and fitted; pickles, so that workers share it."""

    name: str


def draw(view: AugmentedView, *, seed: int, scan: str, sample: np.ndarray) -> Look:
    """Draw and fit the look of a view of one scan.

    Args:
        view: what may be done.
        seed: of the data set.
        scan: name of the scan.
        sample: uint8 [tiles, height, width, 3] or [height, width, 3], some of the scan's pixels
            with tissue (its thumbnail, or tiles drawn from it).

    Raises:
        DataError: A reference cannot be read or shows no tissue, or the sample shows none where a
            step needs it.
    """
    raise NotImplementedError


def apply(look: Look, tiles: np.ndarray) -> np.ndarray:
    """Show tiles, uint8 [tiles, height, width, 3], with the look; the array given stays."""
    raise NotImplementedError


def view_name(scan: str, view: AugmentedView) -> str:
    """Name the view of a scan in the index."""
    return f"{scan}-{view.name}"
