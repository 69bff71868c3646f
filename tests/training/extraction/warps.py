"""Makes a second scan of a real one: turned, scaled, shifted, bent and stained otherwise."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from training.extraction import stain
from training.extraction.registration import Thumbnail
from training.extraction.starting import Picture, shrunk
from training.extraction.transform import Spline

Map = Callable[[np.ndarray], np.ndarray]

OTHER_STAIN = np.array([[1.1, 0.15, 0.0], [0.05, 0.75, 0.1], [0.2, 0.1, 1.2]])
GLASS = 244


def warp(
    rgb: np.ndarray,
    mpp: float,
    *,
    degrees: float,
    scale: float,
    shift_um: tuple[float, float],
    bend_um: float,
    restained: bool,
    seed: int,
) -> tuple[np.ndarray, Map]:
    """Give the second scan at the same scale, and the true map, micrometres to micrometres.

    Args:
        rgb: uint8 [height, width, 3].
        mpp: its micrometres per pixel.
        degrees: turn.
        scale: of the tissue on the second scan.
        shift_um: beside what keeps it on the scan.
        bend_um: standard deviation of the B-spline's coefficients.
        restained: whether the stains change.
        seed: of the B-spline.
    """
    size = np.array(rgb.shape[1::-1]) * mpp
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = scale * np.array([[cos, -sin], [sin, cos]])
    room = np.abs(matrix) @ size * 1.15
    coefficients = np.random.default_rng(seed).normal(0, bend_um, size=(2, 9, 9))
    bend = Spline(origin=pair(-room / 6), spacing=pair(room / 6), coefficients=coefficients)
    centre = room / 2 + shift_um

    def back(points: np.ndarray) -> np.ndarray:
        return np.asarray((bend.map(points) - centre) @ np.linalg.inv(matrix).T + size / 2)

    def there(points: np.ndarray) -> np.ndarray:
        found = (points - size / 2) @ matrix.T + centre
        for _ in range(50):  # the bend is mild: converges
            found = found + (points - back(found)) @ matrix.T
        return found

    width, height = np.ceil(room / mpp).astype(int).tolist()
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    place = (back(np.stack([x.ravel(), y.ravel()], 1) * mpp) / mpp - 0.5).T[::-1]
    colours = [
        ndimage.map_coordinates(
            rgb[..., each].astype(np.float32), place, order=1, mode="constant", cval=GLASS
        )
        for each in range(3)
    ]
    second = np.stack(colours, axis=1).reshape(height, width, 3)
    if restained:
        second = stain.picture(stain.density(second) @ OTHER_STAIN, 235.0)
    return np.rint(np.clip(second, 0, 255)).astype(np.uint8), there


def thumbnail(rgb: np.ndarray, mpp: float, *, max_px: int) -> Thumbnail:
    """Shrink a scan; tissue is what absorbs light."""
    channels = [
        shrunk(
            Picture(
                grey=rgb[..., each].astype(np.float32),
                inside=np.zeros(rgb.shape[:2], bool),
                um_per_px=(mpp, mpp),
            ),
            max(rgb.shape) / max_px,
        )
        for each in range(3)
    ]
    small = np.stack([each.grey for each in channels], axis=2)
    grey = ndimage.gaussian_filter(stain.density(small).mean(axis=2), 2.0)
    return Thumbnail(
        rgb=np.rint(small).astype(np.uint8), inside=grey > 0.16, um_per_px=channels[0].um_per_px
    )


def pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def median_error(found: Map, true: Map, picture: Thumbnail) -> float:
    """Give the median distance over tissue, micrometres."""
    rows, columns = np.nonzero(picture.inside)
    points = (np.stack([columns, rows], axis=1)[::41] + 0.5) * picture.um_per_px
    return float(np.median(np.linalg.norm(found(points) - true(points), axis=1)))
