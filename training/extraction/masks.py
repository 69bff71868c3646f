"""Masks over scans: tissue found, or drawn by the user as a picture or as GeoJSON polygons."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import DataError
from training.extraction.slide_files import open_file

GEOJSON = (".geojson", ".json")
MAX_PICTURE_PX = 16_384
"""Longest side of the stored level of a picture that is read."""
RASTER_PX = 4096
"""Longest side of the raster that polygons are drawn on; pixels are never below level 0's."""
ASPECT = 0.02
"""Largest difference in shape between a picture and its scan, beside rounding to pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """Where tiles may lie.

    Args:
        inside: bool [height, width], over the whole scan.
        step: level-0 pixels per pixel of the mask, along x and y.
    """

    inside: np.ndarray
    step: tuple[float, float]


def read(path: Path, size: tuple[int, int]) -> Mask:
    """Read a user's mask of a scan.

    Args:
        path: GeoJSON polygons in level-0 pixels (`.geojson`, `.json`; as QuPath exports them), or
            a picture of any size that shows the whole scan, where what is neither black nor
            transparent is inside.
        size: width and height of the scan at level 0.

    Raises:
        DataError: It cannot be read, does not fit the scan or has nothing inside.
    """
    mask = _polygons(path, size) if path.suffix.lower() in GEOJSON else _picture(path, size)
    if not mask.inside.any():
        raise DataError(f"{path}: nothing of the scan is inside")
    return mask


def both(first: Mask, second: Mask) -> Mask:
    """Keep what lies in both, on the finer of the two rasters."""
    fine, coarse = sorted((first, second), key=lambda mask: mask.step[0] * mask.step[1])
    inside = fine.inside
    for axis in (0, 1):
        place = (np.arange(fine.inside.shape[axis]) + 0.5) * fine.step[1 - axis]
        index = (place / coarse.step[1 - axis]).astype(np.int64)
        limit = coarse.inside.shape[axis] - 1
        coarse = Mask(
            inside=np.take(coarse.inside, np.minimum(index, limit), axis), step=coarse.step
        )
    return Mask(inside=inside & coarse.inside, step=fine.step)


def _picture(path: Path, size: tuple[int, int]) -> Mask:
    file = open_file(path)
    try:
        if file.vendor == "jpeg":
            raise DataError(
                f"{path}: is a JPEG, whose black is not quite black", hint="save the mask as PNG"
            )
        fitting = [k for k, level in enumerate(file.levels) if max(level) <= MAX_PICTURE_PX]
        if not fitting:
            raise DataError(
                f"{path}: is {file.levels[-1][0]} × {file.levels[-1][1]} px, more than "
                f"{MAX_PICTURE_PX}",
                hint="save the mask smaller; it is stretched over the scan",
            )
        width, height = file.levels[fitting[0]]
        pixels = np.asarray(file.read(0, 0, fitting[0], width, height))
    finally:
        file.close()
    step = (size[0] / width, size[1] / height)
    rounding = 1 / min(width, height)
    if abs(math.log(step[0] / step[1])) > ASPECT + rounding:
        raise DataError(
            f"{path}: is {width} × {height} px, of another shape than the scan, {size[0]} × "
            f"{size[1]} px",
            hint="a mask shows the whole scan",
        )
    inside = np.asarray(pixels[..., :3].any(axis=2))
    if pixels.shape[2] == 4:
        inside &= pixels[..., 3] > 0
    return Mask(inside=inside, step=step)


def _polygons(path: Path, size: tuple[int, int]) -> Mask:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    polygons = list(_areas(content))
    if not polygons:
        raise DataError(
            f"{path}: holds no Polygon and no MultiPolygon", hint="export annotations as GeoJSON"
        )
    problems = list[str]()
    rings = [
        [_ring(f"{path}: polygon {number}", ring, problems) for ring in polygon]
        for number, polygon in enumerate(polygons, 1)
    ]
    if problems:
        shown = problems[:10]
        more = [f"and {len(problems) - 10} more like these"] if len(problems) > 10 else []
        raise DataError("\n".join(shown + more))
    scale = max(1.0, max(size) / RASTER_PX)
    width, height = (math.ceil(side / scale) for side in size)
    step = (size[0] / width, size[1] / height)
    inside = np.zeros((height, width), bool)
    for polygon in rings:
        _draw(inside, [ring / step for ring in polygon])
    if not inside.any():
        raise DataError(
            f"{path}: no polygon covers a part of the scan, {size[0]} × {size[1]} px",
            hint="coordinates are level-0 pixels of the scan",
        )
    return Mask(inside=inside, step=step)


def _areas(content: object) -> Iterator[Sequence[object]]:
    """Yield the rings of every polygon in a GeoJSON value; points and lines are passed over."""
    if isinstance(content, list):
        for each in content:
            yield from _areas(each)
    if not isinstance(content, dict):
        return
    coordinates = content.get("coordinates")
    match content.get("type"):
        case "FeatureCollection":
            yield from _areas(content.get("features"))
        case "Feature":
            yield from _areas(content.get("geometry"))
        case "GeometryCollection":
            yield from _areas(content.get("geometries"))
        case "Polygon":
            yield coordinates if isinstance(coordinates, list) else [coordinates]
        case "MultiPolygon":
            parts = coordinates if isinstance(coordinates, list) else [[coordinates]]
            yield from (part if isinstance(part, list) else [part] for part in parts)


def _ring(place: str, ring: object, problems: list[str]) -> np.ndarray:
    """Turn a ring into float64 [points, 2]; what is wrong is appended to `problems`."""
    try:
        points = np.array([(float(point[0]), float(point[1])) for point in ring])  # type: ignore[attr-defined]
    except (TypeError, ValueError, LookupError, OverflowError):
        problems.append(f"{place}: a ring is no list of points [x, y]")
        return np.empty((0, 2))
    if len(points) < 3 or not np.isfinite(points).all():
        problems.append(f"{place}: a ring needs three points or more, all finite")
    return points


def _draw(inside: np.ndarray, rings: Sequence[np.ndarray]) -> None:
    """Set the pixels whose centres lie in the polygon: an odd number of edges to their left."""
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    height, width = inside.shape
    low, high = np.sort([start[:, 1], stop[:, 1]], axis=0)
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    end = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    counts = end - first
    edge = np.repeat(np.arange(len(start)), counts)
    if not len(edge):
        return
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    along = (row + 0.5 - start[edge, 1]) / (stop[edge, 1] - start[edge, 1])
    x = start[edge, 0] + along * (stop[edge, 0] - start[edge, 0])
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    top, left = row.min(), column.min()
    crossings = np.zeros((row.max() + 1 - top, column.max() + 1 - left), np.int64)
    np.add.at(crossings, (row - top, column - left), 1)
    covered = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    inside[top : top + covered.shape[0], left : left + covered.shape[1]] |= covered
