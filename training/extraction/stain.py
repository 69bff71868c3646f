"""Stain colours of H&E tissue: optical density, Macenko's stains, Reinhard's Lab statistics.

Pictures are float32 0 to 255 with the colours on the last axis. Statistics are taken over tissue
only, so that the share of glass on a scan does not change its look.
"""

from dataclasses import dataclass

import numpy as np

from training.errors import DataError

MIN_DENSITY = 0.15
"""Below this optical density (natural logarithm) a pixel is glass (Macenko et al. 2009)."""

MIN_PIXELS = 200
"""Fewer pixels of tissue give no statistics."""

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Rows: colour of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""

GLASS = 240.0
"""Light through clear glass, as Macenko's published code has it."""

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_KNEE = 6 / 29


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stains:
    """Macenko's description of a picture.

    Args:
        colours: [3, 2], optical density of one unit of haematoxylin and of eosin.
        most: [2], the 99th percentile of the amount of each.
    """

    colours: np.ndarray
    most: np.ndarray


PUBLISHED = Stains(
    colours=np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]),
    most=np.array([1.9705, 1.0308]),
)
"""The reference of Macenko's published code."""


def density(rgb: np.ndarray, light: float = 255.0) -> np.ndarray:
    """Give the optical density, natural logarithm; `light` is what passes clear glass."""
    return np.asarray(-np.log((rgb + np.float32(1)) / np.float32(light + 1)))


def picture(densities: np.ndarray, light: float = 255.0) -> np.ndarray:
    """Undo `density`."""
    return np.asarray(np.exp(-densities) * np.float32(light + 1) - np.float32(1))


def tissue(rgb: np.ndarray) -> np.ndarray:
    """Give the pixels of tissue, float32 [n, 3].

    Raises:
        DataError: There is hardly any.
    """
    pixels = rgb.reshape(-1, 3).astype(np.float32)
    pixels = pixels[density(pixels).mean(axis=1) > MIN_DENSITY]
    if len(pixels) < MIN_PIXELS:
        raise DataError(f"{len(pixels)} pixels of stained tissue, expected at least {MIN_PIXELS}")
    return np.asarray(pixels)


def stains(pixels: np.ndarray) -> Stains:
    """Find the two stains of tissue: the extremes of its colour in the plane of most variance.

    Macenko et al., ISBI 2009, with the constants of the authors' code: clear glass is 240, pixels
    below density 0.15 in a colour are left out, angles are the 1st and 99th percentile.
    """
    densities = -np.log((pixels.astype(np.float64) + 1) / GLASS)
    dense = densities[~np.any(densities < MIN_DENSITY, axis=1)]
    if len(dense) < MIN_PIXELS:
        raise DataError(f"{len(dense)} pixels show both stains, expected at least {MIN_PIXELS}")
    plane = np.linalg.eigh(np.cov(dense.T))[1][:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    flat = dense @ plane
    ends = np.percentile(np.arctan2(flat[:, 1], flat[:, 0]), (1, 99))
    both = plane @ np.stack([np.cos(ends), np.sin(ends)])
    both = both[:, np.argsort(-both[0])]  # haematoxylin absorbs more red than eosin
    amounts = np.linalg.lstsq(both, densities.T, rcond=None)[0]
    return Stains(colours=both, most=np.percentile(amounts, 99, axis=1))


def restaining(source: Stains, target: Stains) -> np.ndarray:
    """Give the matrix [3, 3] that turns densities (a row per pixel) from one into the other."""
    amounts = np.linalg.pinv(source.colours) * (target.most / source.most)[:, None]
    return np.asarray((target.colours @ amounts).T)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Turn sRGB into CIE Lab, white point D65."""
    share = rgb / np.float32(255)
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    xyz = linear @ (_TO_XYZ.T / _WHITE).astype(np.float32)
    curved = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(curved, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(values: np.ndarray) -> np.ndarray:
    """Undo `lab`; colours that sRGB lacks are cut."""
    y = (values[..., 0] + 16) / 116
    curved = np.stack([values[..., 1] / 500 + y, y, y - values[..., 2] / 200], axis=-1)
    xyz = np.where(curved > _KNEE, curved**3, 3 * _KNEE**2 * (curved - np.float32(4 / 29)))
    linear = np.clip(xyz @ np.linalg.inv(_TO_XYZ.T / _WHITE).astype(np.float32), 0, 1)
    share = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, linear * 12.92)
    return np.asarray(share * np.float32(255))


def spread(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and standard deviation in Lab (Reinhard et al. 2001, who use another Lab)."""
    values = lab(pixels).astype(np.float64)
    return values.mean(axis=0), values.std(axis=0)
