"""Maps from one scan of a slide to another: a start, an affine part, a B-spline; kept as JSON.

Coordinates are (x, y) in micrometres from the upper left corner of level 0.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError
from scipy import ndimage

from training.config_base import Config
from training.errors import DataError
from training.extraction.config_registration import RegistrationConfig

Row = tuple[float, float, float]
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
MAX_CONDITION = 100.0
"""Stretching one direction this much more than the other squeezes tissue to a line."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spline:
    r"""Displaces smoothly: $y + \sum_k c_k \beta_3((y - o)/s - k)$ with cubic B-splines $\beta_3$.

    Args:
        origin: o, of the first control point.
        spacing: s, of the control points.
        coefficients: c, [2, rows, columns], displacements along x and y, micrometres.
    """

    origin: tuple[float, float]
    spacing: tuple[float, float]
    coefficients: np.ndarray

    def map(self, points: np.ndarray) -> np.ndarray:
        """Map points [n, 2]; far from all control points nothing moves."""
        place = ((points - self.origin) / self.spacing).T[::-1]
        moved = [
            ndimage.map_coordinates(part, place, order=3, prefilter=False, mode="constant")
            for part in self.coefficients
        ]
        return np.asarray(points + np.stack(moved, axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transform:
    """Maps places of the fixed scan to the moving one: x -> start(spline(affine(x))).

    Args:
        start: [2, 3], the rigid map that the search began with.
        affine: [2, 3], near the identity.
        spline: the smooth rest, if any.
    """

    start: np.ndarray
    affine: np.ndarray
    spline: Spline | None = None

    def map(self, points: np.ndarray) -> np.ndarray:
        """Map points [n, 2]."""
        points = _apply(self.affine, np.asarray(points, np.float64))
        if self.spline is not None:
            points = self.spline.map(points)
        return _apply(self.start, points)

    def linear(self) -> np.ndarray:
        """Give the 2 x 2 matrix of the map without the spline."""
        return np.asarray(self.start[:, :2] @ self.affine[:, :2])

    def to_json(self) -> dict[str, object]:
        """Give plain values; floats survive exactly."""
        spline = self.spline and {
            "origin": list(self.spline.origin),
            "spacing": list(self.spline.spacing),
            "coefficients": self.spline.coefficients.tolist(),
        }
        return {"start": self.start.tolist(), "affine": self.affine.tolist(), "spline": spline}


class _StoredSpline(Config):
    origin: tuple[float, float]
    spacing: tuple[float, float]
    coefficients: list[list[list[float]]]


class _Stored(Config):
    start: tuple[Row, Row]
    affine: tuple[Row, Row]
    spline: _StoredSpline | None


class _Manual(Config):
    unit: Literal["um", "px"]
    affine: tuple[Row, Row]


def from_json(value: Mapping[str, object]) -> Transform:
    """Read what `Transform.to_json` gave.

    Raises:
        ValueError: It is something else.
    """
    stored = _Stored.model_validate(value)
    smooth = stored.spline
    spline = None
    if smooth is not None:
        coefficients = np.array(smooth.coefficients)
        spline = Spline(origin=smooth.origin, spacing=smooth.spacing, coefficients=coefficients)
    return Transform(start=np.array(stored.start), affine=np.array(stored.affine), spline=spline)


def read_manual(
    path: Path,
    *,
    fixed_mpp: tuple[float, float],
    moving_mpp: tuple[float, float],
    config: RegistrationConfig,
) -> Transform:
    """Read a user's transform: JSON `{"unit": "um" or "px", "affine": [[a, b, c], [d, e, f]]}`.

    It maps (x, y) of the fixed scan to (a x + b y + c, d x + e y + f) of the moving one; in `px`,
    level-0 pixels to level-0 pixels.

    Args:
        path: the file.
        fixed_mpp: micrometres per level-0 pixel of the fixed scan.
        moving_mpp: of the moving scan.
        config: says whether it may mirror the slide.

    Raises:
        DataError: It cannot be read, is singular, or mirrors the slide unasked.
    """
    example = '{"unit": "px", "affine": [[1, 0, 0], [0, 1, 0]]}'
    try:
        given = _Manual.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, at['loc']))}: {at['msg']}" for at in error.errors()]
        raise DataError(
            "\n".join(f"{path}: {line}" for line in lines), hint=f"write it like {example}"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}", hint=f"write it like {example}") from error
    affine = np.array(given.affine)
    if given.unit == "px":
        affine = np.array(moving_mpp)[:, None] * affine / np.array([*fixed_mpp, 1.0])
    matrix = affine[:, :2]
    if not np.any(matrix) or np.linalg.cond(matrix) > MAX_CONDITION:
        raise DataError(
            f"{path}: affine is singular or nearly so: {affine[:, :2].tolist()} (micrometres)",
            hint="the two scans must both show the tissue as an area",
        )
    if np.linalg.det(matrix) < 0 and not config.mirrored:
        raise DataError(
            f"{path}: affine mirrors the slide: its determinant is {np.linalg.det(matrix):.6g}",
            hint="a scan of the same glass is not mirrored; if it is, set mirrored: true",
        )
    return Transform(start=affine, affine=IDENTITY)


def rotation_degrees(matrix: np.ndarray) -> float:
    """Give the turn of the rigid map nearest to a 2 x 2 matrix of positive determinant."""
    return math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))


def _apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ affine[:, :2].T + affine[:, 2])
