"""Registers two scans of a slide on their thumbnails, and judges the result."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.extraction.config_registration import RegistrationConfig
from training.extraction.transform import Transform


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
        raise NotImplementedError

    def to_json(self) -> dict[str, object]:
        """Give plain values; floats survive exactly."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "Registration":
        """Read what `to_json` gave."""
        raise NotImplementedError


def register(fixed: Thumbnail, moving: Thumbnail, *, config: RegistrationConfig) -> Registration:
    """Find the transform with elastix; slow to start, one thread, the same bytes each time.

    The result may be refused (`refused` says why): callers must look.
    """
    raise NotImplementedError


def judge(
    fixed: Thumbnail, moving: Thumbnail, transform: Transform, *, config: RegistrationConfig
) -> Registration:
    """Measure a transform that the user gave; it is never refused."""
    raise NotImplementedError
