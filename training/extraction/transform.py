"""Maps from one scan of a slide to another: an affine part, then a B-spline; kept as JSON.

Coordinates are (x, y) in micrometres from the upper left corner of level 0.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.extraction.config_registration import RegistrationConfig


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spline:
    r"""Add a smooth displacement: $y + \sum_k c_k \beta_3((y - o)/s - k)$, cubic B-splines.

    Args:
        origin: of the first control point.
        spacing: of the control points.
        coefficients: [2, rows, columns], displacements along x and y, micrometres.
    """

    origin: tuple[float, float]
    spacing: tuple[float, float]
    coefficients: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transform:
    """Maps places of the fixed scan to the moving one: x -> spline(A x + b).

    Args:
        affine: [2, 3], A and b.
        spline: the smooth rest, if any.
    """

    affine: np.ndarray
    spline: Spline | None = None

    def map(self, points: np.ndarray) -> np.ndarray:
        """Map points [n, 2]."""
        raise NotImplementedError


def read_manual(
    path: Path,
    *,
    fixed_mpp: tuple[float, float],
    moving_mpp: tuple[float, float],
    config: RegistrationConfig,
) -> Transform:
    """Read a user's transform: JSON `{"unit": "um" or "px", "affine": [[a, b, c], [d, e, f]]}`.

    In `px` it maps level-0 pixels to level-0 pixels.

    Raises:
        DataError: It cannot be read, or is singular, or mirrors the slide and `mirrored` is off.
    """
    raise NotImplementedError
