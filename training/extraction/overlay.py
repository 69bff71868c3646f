"""One picture per registered pair, for looking: a checkerboard of both scans."""

from pathlib import Path

import numpy as np
from PIL import Image

from training.extraction import registration as registering
from training.extraction.registration import Registration, Thumbnail

BEYOND = (255, 200, 0)
"""Colour of what lies beyond the edges of the moving scan."""


def write(
    fixed: Thumbnail, moving: Thumbnail, registration: Registration, out: Path, *, fields: int = 12
) -> None:
    """Write a PNG of the fixed scan whose every other field shows the moving scan, moved.

    Where the registration is right, tissue continues over the edges of the fields. A refused one is
    drawn too, so that one sees why.

    Args:
        fixed: the reference scan.
        moving: the other.
        registration: from the first to the second.
        out: the file.
        fields: along the longer side.
    """
    here, there = registering.density(fixed), registering.density(moving)
    places = registering.places(here)
    places = registration.transform.map(places.reshape(-1, 2)).reshape(places.shape)
    colours = [registering.moved(there, moving.rgb[..., each], places) for each in range(3)]
    shown = np.stack(colours, axis=2)
    shown = np.where(np.isnan(shown), np.array(BEYOND), shown)
    side = max(1, max(here.grey.shape) // fields)
    rows, columns = np.indices(here.grey.shape) // side
    picture = np.where(((rows + columns) % 2 == 0)[..., None], fixed.rgb, shown)
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(out, format="PNG")
