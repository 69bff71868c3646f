"""Registers two scans of a slide on their thumbnails, and judges the result.

A registration is judged by the local correlation of the two pictures after it: the mean over the
tissue of the correlation inside a Gaussian window. What only shares an outline has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import TypeAdapter
from scipy import ndimage

from training.extraction import elastix, starting, transform
from training.extraction.config_registration import RegistrationConfig
from training.extraction.starting import Picture
from training.extraction.transform import Transform

WINDOW_PX = 6.0
"""Standard deviation of the window of the local correlation, thumbnail pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thumbnail:
    """A small picture of a scan.

    Args:
        rgb: uint8 [height, width, 3].
        inside: bool [height, width], tissue.
        um_per_px: micrometres per pixel of it along x and y.
    """

    rgb: np.ndarray
    inside: np.ndarray
    um_per_px: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registration:
    """Where the tissue of the fixed scan lies on the moving one.

    Args:
        transform: micrometres to micrometres.
        quality: mean local correlation of the scans over tissue, -1 to 1.
        overlap: share of the smaller tissue that meets tissue.
        folded: share of the tissue where the transform folds over.
        manual: whether the user gave the transform; it is judged, and never refused.
        refused: why the registration cannot be used; empty if it can.
    """

    transform: Transform
    quality: float
    overlap: float
    folded: float
    manual: bool = False
    refused: str = ""

    def map(self, points_um: np.ndarray) -> np.ndarray:
        """Map points [n, 2] of the fixed scan to the moving one.

        Raises:
            ValueError: The registration was refused.
        """
        if self.refused:
            raise ValueError(f"the registration was refused: {self.refused}")
        return self.transform.map(points_um)


def grey(thumbnail: Thumbnail) -> Picture:
    """Give the optical density, averaged over the colours: zero on glass, whatever its white."""
    rgb = thumbnail.rgb.astype(np.float32)
    glass = rgb[~thumbnail.inside]
    white = np.percentile(glass, 90, axis=0) if len(glass) else np.full(3, 255.0)
    density = -np.log10((rgb + 1) / (np.maximum(white, 128.0) + 1)).mean(axis=2)
    density = np.clip(density, 0.0, None)
    if thumbnail.inside.any():
        density = np.minimum(density, np.percentile(density[thumbnail.inside], 99.5))
    return Picture(
        grey=density.astype(np.float32), inside=thumbnail.inside, um_per_px=thumbnail.um_per_px
    )


def warp(transform: Transform, fixed: Picture, values: np.ndarray, um: tuple[float, float]):
    height, width = fixed.grey.shape
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    points = (np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) * fixed.um_per_px
    there = transform.map(points)
    place = (there / um - 0.5).T[::-1].reshape(2, height, width)
    return there.reshape(height, width, 2), ndimage.map_coordinates(
        values, place, order=1, mode="constant", cval=np.nan
    )


def local_ncc(a, b, mask, sigma):
    w = mask.astype(np.float64)
    g = lambda x: ndimage.gaussian_filter(x, sigma, mode="constant")
    n = np.maximum(g(w), 1e-6)
    a = np.where(mask, a, 0.0)
    b = np.where(mask, b, 0.0)
    ma, mb = g(a) / n, g(b) / n
    va = np.maximum(g(a * a) / n - ma**2, 0)
    vb = np.maximum(g(b * b) / n - mb**2, 0)
    cov = g(a * b) / n - ma * mb
    return cov / np.sqrt(va * vb + 1e-8), va, vb
