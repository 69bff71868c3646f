"""Reads a file of tile features as CLAM, TRIDENT, STAMP and others write them, one per scan.

HDF5 (`.h5`) or PyTorch (`.pt`, tensors only). Features lie under `features`, `feats` or
`embeddings` as [tiles, dim], with or without an extra leading axis of 1; `coords` [tiles, 2] and
`tile` [tiles] may lie beside them.
"""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import h5py
import numpy as np

from training.data import tables
from training.errors import DataError

KEYS = ("features", "feats", "embeddings")
"""Names under which features are looked for."""

SUFFIXES = (".h5", ".pt")
"""File types that are read."""

CAST_ERROR = 1e-3
"""Largest root mean square error of a float16 cast, relative to that of the values; rounding alone
gives 3e-4 (2**-11 at most), more means that values fell below the range of float16."""

_MICROMETRES = "coords in micrometres"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What a feature file holds.

    Args:
        embeddings: [tiles, dim], floating point, finite.
        coords: [tiles, 2] int32 as given, rounded; None: the file has none.
        in_pixels: whether they are whole numbers of level-0 pixels; others (STAMP writes
            micrometres, and says so in the attribute `unit`) tell places apart and no more.
        tile: [tiles] int32, distinct; None: the file has none.
    """

    embeddings: np.ndarray
    coords: np.ndarray | None
    in_pixels: bool
    tile: np.ndarray | None


def read(path: Path) -> Features:
    """Read one file in full.

    Raises:
        DataError: It cannot be read or is not a bag of features; one line per problem.
    """
    arrays = _read_pt(path) if path.suffix == ".pt" else _read_h5(path)
    present = [key for key in KEYS if key in arrays]
    if len(present) != 1:
        found = f"has {tables.joined(sorted(arrays)[:8])}" if arrays else "holds no arrays"
        raise DataError(f"{path}: {found}, expected exactly one of {tables.joined(KEYS)}")
    embeddings = _without_leading_axis(arrays[present[0]], 2)
    if embeddings.ndim != 2 or not np.issubdtype(embeddings.dtype, np.floating):
        raise DataError(
            f"{path}: {present[0]!r} is {embeddings.dtype} {embeddings.shape}, expected floating "
            "point [tiles, dim]"
        )
    if 0 in embeddings.shape:
        raise DataError(f"{path}: has no tiles: {present[0]!r} is {embeddings.shape}")
    lines = _not_finite(path, embeddings)
    name = _MICROMETRES if _MICROMETRES in arrays else "coords"
    coords = _integers(path, name, arrays, (len(embeddings), 2), lines)
    in_pixels = name == "coords" and (coords is None or _whole(arrays[name]))
    tile = _integers(path, "tile", arrays, (len(embeddings),), lines)
    if tile is not None and tile.min() < 0:
        lines.append(f"{path}: 'tile' numbers are negative, down to {tile.min()}")
    if tile is not None and len(np.unique(tile)) < len(tile):
        lines.append(f"{path}: 'tile' numbers are not distinct")
    if lines:
        raise DataError("\n".join(lines))
    return Features(embeddings=embeddings, coords=coords, in_pixels=in_pixels, tile=tile)


def stored_type(embeddings: np.ndarray) -> str:
    """Choose float16, or float32 where the cast would overflow or lose small values."""
    if embeddings.dtype == np.float16:
        return "float16"
    wide = embeddings.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        narrow = embeddings.astype(np.float16)
    if not np.isfinite(narrow).all():
        return "float32"
    error, scale = np.square(narrow - wide).mean(), np.square(wide).mean()
    return "float16" if error <= CAST_ERROR**2 * scale else "float32"


def place(coords: np.ndarray | None) -> str:
    """Name a set of distinct coordinates, whatever their order; empty if there is none."""
    if coords is None:
        return ""
    distinct = np.unique(coords, axis=0)
    if len(distinct) < len(coords):
        return ""
    return hashlib.sha256(np.ascontiguousarray(distinct).data).hexdigest()


def rank(coords: np.ndarray) -> np.ndarray:
    """Number tiles by their coordinates, x before y: [tiles] int32."""
    _, numbers = np.unique(coords, axis=0, return_inverse=True)
    return np.asarray(numbers, dtype=np.int32).reshape(-1)


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            wanted = {*KEYS, "coords", "tile"}
            arrays = {
                name: value[()] if name in wanted else np.empty(0)
                for name, value in file.items()
                if isinstance(value, h5py.Dataset)
            }
            if "coords" in arrays and str(file.attrs.get("unit", "")).lower() in ("um", "µm"):
                arrays[_MICROMETRES] = arrays.pop("coords")
            return arrays
    except (OSError, RuntimeError, ValueError) as error:  # h5py has all three for damage
        raise DataError(f"{path}: cannot be read: {error}") from error


def _read_pt(path: Path) -> dict[str, np.ndarray]:
    import torch  # takes seconds; only users of .pt files wait for it

    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise DataError(
            f"{path}: is damaged or holds more than tensors, so it is not loaded",
            hint="save the feature tensor alone: torch.save(features, path)",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        # rubbish makes torch's unpickler stumble in many ways
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read: {first}") from error
    tensors = found if isinstance(found, Mapping) else {KEYS[0]: found}
    return {
        str(name): (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor)
    }


def _without_leading_axis(array: np.ndarray, ndim: int) -> np.ndarray:
    return array[0] if array.ndim == ndim + 1 and len(array) == 1 else array


def _not_finite(path: Path, embeddings: np.ndarray) -> list[str]:
    wrong = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    limit = np.finfo(np.float32).max
    if not len(wrong):
        huge = embeddings.dtype.itemsize > 4 and bool((np.abs(embeddings) > limit).any())
        return [f"{path}: numbers beyond float32, up to {np.abs(embeddings).max():g}"] * huge
    return [f"{path}: {len(wrong)} tiles hold NaN or infinity, the first is row {wrong[0]}"]


def _whole(numbers: np.ndarray) -> bool:
    return bool((np.rint(numbers) == numbers).all())


def _integers(
    path: Path,
    name: str,
    arrays: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    lines: list[str],
) -> np.ndarray | None:
    """Read numbers that lie beside the features, as int32."""
    if name not in arrays:
        return None
    array = _without_leading_axis(arrays[name], len(shape))
    if array.shape != shape:
        lines.append(f"{path}: {name!r} is {array.shape}, expected {shape}")
        return None
    limit = np.iinfo(np.int32).max
    if array.dtype.kind not in "iuf" or not (np.abs(array.astype(np.float64)) <= limit).all():
        lines.append(f"{path}: {name!r} are not numbers that fit 32 bits")
        return None
    return np.asarray(np.rint(array), dtype=np.int32)
