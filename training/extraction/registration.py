"""Registers two scans of a slide on their thumbnails, and judges the result.

A registration is judged by the local correlation of the two pictures after it: the mean over the
tissue of the correlation inside a Gaussian window. What only shares an outline has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from training.config_base import Config
from training.extraction import elastix, starting, transform
from training.extraction.config_registration import RegistrationConfig
from training.extraction.starting import Picture
from training.extraction.transform import Transform

JUDGED_PX = 512
"""Longer side of the pictures on which a registration is judged, about."""

WINDOW_PX = 4.0
"""Standard deviation of the window of the local correlation, pixels of those pictures."""

FLAT = 0.01
"""Contrast (optical density) below which two windows are flat, not alike."""


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
        manual: whether the user gave the transform; its quality is told, and refuses nothing.
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

    def to_json(self) -> dict[str, object]:
        """Give plain values; floats survive exactly."""
        plain = ("quality", "overlap", "folded", "manual", "refused")
        return {
            **{name: getattr(self, name) for name in plain},
            "transform": self.transform.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "Registration":
        """Read what `to_json` gave.

        Raises:
            ValueError: It is something else.
        """
        stored = _Stored.model_validate(value)
        return cls(
            transform=transform.from_json(stored.transform),
            quality=stored.quality,
            overlap=stored.overlap,
            folded=stored.folded,
            manual=stored.manual,
            refused=stored.refused,
        )


class _Stored(Config):
    transform: dict[str, object]
    quality: float
    overlap: float
    folded: float
    manual: bool
    refused: str


def register(fixed: Thumbnail, moving: Thumbnail, *, config: RegistrationConfig) -> Registration:
    """Find the transform with elastix; slow to start, one thread, the same bytes each time.

    The result may be refused (`refused` says why): callers must look.
    """
    pictures = density(fixed), density(moving)
    found, problems = Transform(start=transform.IDENTITY, affine=transform.IDENTITY), list[str]()
    if not all(picture.inside.any() for picture in pictures):
        problems = ["a scan shows no tissue"]
    elif any(np.ptp(picture.grey[picture.inside]) < FLAT for picture in pictures):
        problems = ["a scan's tissue shows no structure"]  # elastix ends the process over it
    else:
        start = starting.find(
            *pictures, angle_step=config.angle_step, min_overlap=config.min_overlap
        )
        try:
            found = elastix.refine(*pictures, start, config=config)
        except elastix.ElastixError as error:
            found, problems = replace(found, start=start), [str(error)]
    judged = _judged(*pictures, found)
    problems += [*_misplaced(judged, config), *_unlike(judged, config)]
    return replace(judged, refused="; ".join(problems))


def judge(
    fixed: Thumbnail, moving: Thumbnail, given: Transform, *, config: RegistrationConfig
) -> Registration:
    """Measure a transform that the user gave; only one that misses the tissue is refused."""
    judged = replace(_judged(density(fixed), density(moving), given), manual=True)
    return replace(judged, refused="; ".join(_misplaced(judged, config)))


def density(thumbnail: Thumbnail) -> Picture:
    """Give the optical density, averaged over the colours: zero on glass, whatever its white."""
    rgb = thumbnail.rgb.astype(np.float32)
    glass = rgb[~thumbnail.inside]
    white = np.percentile(glass, 90, axis=0) if len(glass) else np.full(3, 255.0)
    grey = -np.log10((rgb + 1) / (np.maximum(white, 128) + 1)).mean(axis=2)
    tissue = grey[thumbnail.inside]
    most = np.percentile(tissue, 99.5) if len(tissue) else 1.0
    return Picture(
        grey=np.clip(grey, 0, max(most, 0.01)).astype(np.float32),
        inside=thumbnail.inside,
        um_per_px=thumbnail.um_per_px,
    )


def moved(picture: Picture, values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Sample values of a picture at places `there` [rows, columns, 2]; NaN beyond its edges."""
    place = np.moveaxis(there / picture.um_per_px - 0.5, 2, 0)[::-1]
    return np.asarray(
        ndimage.map_coordinates(
            values.astype(np.float32), place, order=1, mode="constant", cval=np.nan
        )
    )


def places(picture: Picture) -> np.ndarray:
    """Give the micrometres of a picture's pixels, [rows, columns, 2]."""
    height, width = picture.grey.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=2) * picture.um_per_px


def _judged(fixed: Picture, moving: Picture, found: Transform) -> Registration:
    fixed, moving = (
        starting.shrunk(each, max(each.grey.shape) / JUDGED_PX) for each in (fixed, moving)
    )
    here = places(fixed)
    there = found.map(here.reshape(-1, 2)).reshape(here.shape)
    grey = moved(moving, moving.grey, there)
    shown = np.isfinite(grey)
    tissue = fixed.inside > 0.5
    both = tissue & (np.nan_to_num(moved(moving, moving.inside, there)) > 0.5)
    areas = [
        float((each.inside > 0.5).sum() * each.um_per_px[0] * each.um_per_px[1])
        for each in (fixed, moving)
    ]
    areas[1] /= max(abs(float(np.linalg.det(found.linear()))), 1e-9)
    shared = float(both.sum() * fixed.um_per_px[0] * fixed.um_per_px[1])
    alike = _correlation(fixed.grey, np.nan_to_num(grey), shown)[tissue & shown]
    turning = _turning(there) * np.sign(np.linalg.det(found.linear()))
    return Registration(
        transform=found,
        quality=float(alike.mean()) if len(alike) else 0.0,
        overlap=min(1.0, shared / max(min(areas), 1e-9)),
        folded=float((turning[tissue] <= 0).mean()) if tissue.any() else 0.0,
    )


def _turning(there: np.ndarray) -> np.ndarray:
    """Give the area of each pixel at `there` [rows, columns, 2]; negative where turned over."""
    if min(there.shape[:2]) < 2:
        return np.ones(there.shape[:2])  # a line cannot fold over itself sideways
    along_y, along_x = (np.gradient(there, axis=axis) for axis in (0, 1))
    return np.asarray(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])


def _misplaced(judged: Registration, config: RegistrationConfig) -> Iterator[str]:
    if judged.folded > 0:
        yield f"the transform folds over in {judged.folded:.1%} of the tissue"
    if judged.overlap < config.min_overlap:
        yield (
            f"{judged.overlap:.0%} of the tissue meets tissue, expected at least "
            f"{config.min_overlap:.0%}"
        )


def _unlike(judged: Registration, config: RegistrationConfig) -> Iterator[str]:
    scale = float(np.sqrt(abs(np.linalg.det(judged.transform.linear()))))
    if not 1 / config.max_scale <= scale <= config.max_scale:
        yield (
            f"the tissue is {scale:.3f} times as large, expected at most {config.max_scale:g} "
            "either way"
        )
    if judged.quality < config.min_quality:
        yield f"quality is {judged.quality:.2f}, expected at least {config.min_quality:g}"


def _correlation(first: np.ndarray, second: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Correlate inside a Gaussian window around each pixel, over what is shown."""

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(
            ndimage.gaussian_filter(values * shown, WINDOW_PX, mode="constant") / weight
        )

    weight = np.maximum(
        ndimage.gaussian_filter(shown.astype(np.float64), WINDOW_PX, mode="constant"), 1e-6
    )
    first, second = first.astype(np.float64), second.astype(np.float64)
    centre, centre2 = mean(first), mean(second)
    spread = np.maximum(mean(first**2) - centre**2, 0)
    spread2 = np.maximum(mean(second**2) - centre2**2, 0)
    both = mean(first * second) - centre * centre2
    return np.asarray(both / np.sqrt(spread * spread2 + FLAT**4))
