"""Augmented views of a scan: the same tiles as another scanner or stain might show them.

A view has the coordinates and tile numbers of its scan (`source_scan`) and never counts as a
scanner. Its look is drawn once per (seed, scan, view name) and is the same for all its tiles, as a
scanner's is. Glass stays as white as it was, but for a gain of `colour`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from training import seeds
from training.errors import DataError
from training.extraction import stain
from training.extraction.config_views import (
    AugmentedView,
    Blur,
    Colour,
    Hed,
    Jpeg,
    Macenko,
    Reinhard,
    Step,
)
from training.extraction.slides import open_slide

Statistics = TypeVar("Statistics")

LUMA = np.array([0.299, 0.587, 0.114])

MAX_REFERENCE_PX = 4096
"""Longest side of a reference: it is read whole, at the scale of tiles."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Density:
    """Maps optical densities linearly; glass stays."""

    matrix: np.ndarray
    shift: np.ndarray
    light: float

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        densities = stain.density(tile, self.light)
        moved = densities @ self.matrix + self.shift
        return stain.picture(densities + _stained(tile) * (moved - densities), self.light)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lab:
    """Maps Lab channels linearly; glass stays."""

    factor: np.ndarray
    shift: np.ndarray

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        moved = stain.from_lab(stain.lab(tile) * self.factor + self.shift)
        return np.asarray(tile + _stained(tile) * (moved - tile))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Camera:
    """Mixes colours, bends them by gamma, then dims them."""

    matrix: np.ndarray
    gamma: np.float32
    gain: np.float32

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        mixed = np.clip(tile @ self.matrix / np.float32(255), 0, 1)
        return np.asarray(mixed**self.gamma * (255 * self.gain))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Blur:
    sigma: float

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        return np.asarray(
            ndimage.gaussian_filter(tile, (self.sigma, self.sigma, 0), mode="nearest")
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Jpeg:
    quality: int

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(_bytes(tile)).save(file, "JPEG", quality=self.quality)
        with Image.open(file) as packed:
            return np.asarray(packed, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """A view of one scan with everything drawn and fitted; pickles, so that workers share it.

    Args:
        name: of the view in the index.
        steps: what is done to a tile, float32 [height, width, 3].
    """

    name: str
    steps: tuple[Callable[[np.ndarray], np.ndarray], ...]


def draw(view: AugmentedView, *, seed: int, scan: str, sample: np.ndarray) -> Look:
    """Draw and fit the look of a view of one scan.

    Args:
        view: what may be done.
        seed: of the data set.
        scan: name of the scan.
        sample: uint8 [..., 3], some of the scan's pixels: its thumbnail, or tiles drawn from it;
            glass is left out here.

    Raises:
        DataError: A reference cannot be read or shows no tissue, or the sample shows none where a
            step needs it.
    """
    steps = []
    for number, step in enumerate(view.steps):
        generator = seeds.generator(seed, "view", scan, view.name, number)
        try:
            steps.append(_drawn(step, generator, sample))
        except DataError as error:
            raise DataError(
                f"scan {scan!r}, view {view.name!r}, {step.kind}: {error.message}", hint=error.hint
            ) from error
    return Look(name=view.of(scan), steps=tuple(steps))


def apply(look: Look, tiles: np.ndarray) -> np.ndarray:
    """Show tiles, uint8 [tiles, height, width, 3], with the look; the array given stays."""
    shown = np.empty_like(tiles)
    for tile, out in zip(tiles, shown, strict=True):
        values = tile.astype(np.float32)
        for step in look.steps:
            values = np.clip(step(values), 0, 255)
        out[...] = _bytes(values)
    return shown


def _drawn(
    step: Step, generator: np.random.Generator, sample: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    match step:
        case Hed():
            return _hed(step, generator)
        case Reinhard():
            return _reinhard(step, sample)
        case Macenko():
            return _macenko(step, sample)
        case Colour():
            return _camera(step, generator)
        case Blur():
            return _Blur(sigma=float(generator.uniform(*step.sigma_px)))
        case Jpeg():
            worst, best = step.quality
            return _Jpeg(quality=int(generator.integers(worst, best, endpoint=True)))


def _hed(step: Hed, generator: np.random.Generator) -> _Density:
    factor = 1 + step.sigma * generator.uniform(-1, 1, 3)
    shift = step.bias * generator.uniform(-1, 1, 3)
    colours = stain.HED / np.linalg.norm(stain.HED, axis=1, keepdims=True)
    matrix = np.linalg.inv(colours) * factor @ colours
    return _Density(
        matrix=matrix.astype(np.float32), shift=(shift @ colours).astype(np.float32), light=255.0
    )


def _reinhard(step: Reinhard, sample: np.ndarray) -> _Lab:
    mean, deviation = stain.spread(stain.tissue(sample))
    target, wanted = _fitted(step.reference, stain.spread)
    factor = 1 + step.strength * (wanted / np.maximum(deviation, 1e-3) - 1)
    shift = mean + step.strength * (target - mean) - mean * factor
    return _Lab(factor=factor.astype(np.float32), shift=shift.astype(np.float32))


def _macenko(step: Macenko, sample: np.ndarray) -> _Density:
    target = _fitted(step.reference, stain.stains) if step.reference else stain.PUBLISHED
    matrix = stain.restaining(stain.stains(stain.tissue(sample)), target)
    matrix = np.eye(3) + step.strength * (matrix - np.eye(3))
    return _Density(
        matrix=matrix.astype(np.float32), shift=np.zeros(3, np.float32), light=stain.GLASS - 1
    )


def _camera(step: Colour, generator: np.random.Generator) -> _Camera:
    gain = 1 - step.brightness * generator.uniform(0, 1)
    gamma, factor = 1 + np.array([step.contrast, step.saturation]) * generator.uniform(-1, 1, 2)
    angle = np.radians(step.hue_degrees) * generator.uniform(-1, 1)
    axis = np.full((3, 3), 1 / 3)  # projection on grey
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = axis + np.cos(angle) * (np.eye(3) - axis) + np.sin(angle) * across
    mix = (1 - factor) * np.outer(np.ones(3), LUMA) + factor * np.eye(3)
    return _Camera(
        matrix=(mix @ turn).T.astype(np.float32), gamma=np.float32(gamma), gain=np.float32(gain)
    )


def _fitted(path: Path, fit: Callable[[np.ndarray], Statistics]) -> Statistics:
    """Describe the tissue of a reference picture."""
    with open_slide(path, mpp=1.0) as picture:  # its scale is not asked
        if max(picture.size) > MAX_REFERENCE_PX:
            raise DataError(
                f"{path}: is {picture.size[0]} × {picture.size[1]} px, a reference has at most "
                f"{MAX_REFERENCE_PX} px a side",
                hint="cut a region of it, at the scale of the tiles",
            )
        rgb, _ = picture.thumbnail(MAX_REFERENCE_PX)
    try:
        return fit(stain.tissue(rgb))
    except DataError as error:
        raise DataError(f"{path}: {error.message}") from error


def _stained(tile: np.ndarray) -> np.ndarray:
    """Give 0 on glass to 1 on tissue, [height, width, 1]."""
    densities = stain.density(tile).mean(axis=2, keepdims=True)
    return np.asarray(np.clip(densities / np.float32(stain.MIN_DENSITY), 0, 1))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
