"""Finds tissue on a thumbnail: what is coloured, once smoothed, and coloured as a stain is.

Glass has no colour, and fat, smoothed over its cells, hardly any: both lie below a threshold on the
colourfulness (largest minus smallest of R, G and B) that Otsu's method finds between two bounds
(Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9:62, 1979). Haematoxylin and eosin absorb
green most; green and blue pen absorb red more, and red and black pen about as much blue. Red pen
must be strong somewhere: its paler rims are taken with it by growing from there, so that blood and
reddish tissue without pen stay. Black borders and shadows of the glass's edge pass for black pen.
"""

import numpy as np
from scipy import ndimage

from training.extraction.config import Tissue
from training.extraction.masks import Mask
from training.extraction.slides import Slide


def find(slide: Slide, config: Tissue) -> Mask:
    """Find the tissue of a scan on its thumbnail.

    What of the scan cannot be decoded is taken for tissue, so that its tiles are tried, and counted
    as broken.
    """
    shrink = max(1.0, config.mpp / max(slide.mpp))
    found = slide.survey(max(1, round(max(slide.size) / shrink)))
    inside = tissue_mask(found.rgb, found.mpp, config) | found.broken
    return Mask(inside=inside, step=found.step)


def tissue_mask(rgb: np.ndarray, mpp: float, config: Tissue) -> np.ndarray:
    """Tell tissue from glass, fat, pen and dark borders.

    Args:
        rgb: uint8 [height, width, 3].
        mpp: micrometres per pixel of it.
        config: the thresholds.

    Returns:
        bool [height, width].
    """
    sigma = config.smooth_um / mpp
    smooth = ndimage.gaussian_filter(rgb.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    colour = smooth.max(axis=2) - smooth.min(axis=2)
    threshold = np.clip(otsu(colour), config.min_colour, config.max_colour)
    inside = (colour >= threshold) & ~pen(smooth, mpp, config)
    return _without_specks(inside, config.min_area_um2 / mpp**2)


def otsu(values: np.ndarray) -> float:
    """Find the threshold in 0 … 255 that divides the values into the two most distinct classes."""
    counts, edges = np.histogram(values, bins=256, range=(0, 256))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.argmax(np.nan_to_num(between))])


def pen(smooth: np.ndarray, mpp: float, config: Tissue) -> np.ndarray:
    """Find ink and darkness on the smoothed picture: bool [height, width]."""
    if not config.pen:
        return np.zeros(smooth.shape[:2], bool)
    red, green, blue = np.moveaxis(-np.log((smooth + 1) / 256), 2, 0)
    floor = np.maximum(green, 1e-3)
    cold = (red > config.max_red_ratio * floor) & (green > 0.1)
    warm = blue > config.max_blue_ratio * floor
    dark = smooth.max(axis=2) < config.min_light
    strong = (green > config.red_pen_density) & (red < 0.5 * green)
    red_pen = (blue > config.red_pen_ratio * floor) & strong
    ink = cold | ndimage.binary_propagation(red_pen | (warm & dark), mask=warm & (green > 0.1))
    return np.asarray(_grown(ink, config.pen_margin_um / mpp))


def _grown(inside: np.ndarray, radius: float) -> np.ndarray:
    if radius < 0.5 or not inside.any():
        return inside
    return np.asarray(ndimage.distance_transform_edt(~inside) <= radius)


def _without_specks(inside: np.ndarray, min_pixels: float) -> np.ndarray:
    labels, _ = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(sizes[labels] >= max(min_pixels, 1))
