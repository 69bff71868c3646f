"""A folder of feature files: which file is of which scan, what is in it, how tiles are numbered.

The first reading (`survey`) keeps facts only; `bag` reads a file again when its bag is written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from training.data import feature_files
from training.data.bags import Bag
from training.errors import DataError

MAX_SUGGESTIONS = 20
"""Missing files for which a similar name is looked up; it takes a while in a large folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A feature file.

    Args:
        dtype: type to store: float16 or float32.
        place: name of its set of coordinates; empty if there is none.
        has_tile: whether it has tile numbers of its own.
        in_pixels: whether its coordinates, if any, are level-0 pixels; others are not stored.
        first_tile: tiles count from here; None: they have the file's numbers, or, without, the
            order of their coordinates.
    """

    path: Path
    num_tiles: int
    dim: int
    dtype: str
    place: str
    has_tile: bool
    in_pixels: bool
    first_tile: int | None = None


def survey(
    folder: Path,
    scans: pd.DataFrame,
    problems: list[str],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Source]:
    """Find and read the file of every scan; what is wrong is appended to `problems`.

    Args:
        folder: where the files lie.
        scans: rows with `slide`, `scan` and `file` (empty: `<scan>.h5` or `<scan>.pt`).
        problems: is appended to.
        progress: called with files read and twice their number.
    """
    paths = _locate(folder, scans, problems)
    sources = {}
    for done, (scan, path) in enumerate(paths.items(), 1):
        try:
            sources[scan] = _look(path)
        except DataError as error:
            problems.append(error.message)
        if progress:
            progress(done, 2 * len(paths))
    problems += _widths(sources)
    return _numbered(scans, sources, problems)


def bag(source: Source) -> Bag:
    """Read a file again, as it will be stored."""
    found = feature_files.read(source.path)
    num_tiles = len(found.embeddings)
    coords = np.full((num_tiles, 2), -1, np.int32) if found.coords is None else found.coords
    if source.first_tile is not None:
        tile = np.arange(source.first_tile, source.first_tile + num_tiles, dtype=np.int32)
    else:
        tile = feature_files.rank(coords) if found.tile is None else found.tile
    if not found.in_pixels:
        coords = np.full_like(coords, -1)
    embeddings = np.ascontiguousarray(found.embeddings, dtype=source.dtype)
    return Bag(embeddings=embeddings, tile=tile, coords=coords)


def unused(folder: Path, sources: Mapping[str, Source]) -> list[str]:
    """Name the feature files that belong to no scan."""
    used = {source.path for source in sources.values()}
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in feature_files.SUFFIXES and path not in used
    )


def _locate(folder: Path, scans: pd.DataFrame, problems: list[str]) -> dict[str, Path]:
    """Find the file of each scan."""
    if not folder.is_dir():
        problems.append(f"{folder}: is not a folder")
        return {}
    present = {path.name for path in folder.iterdir()}
    owner = dict[Path, str]()
    suggestions = 0
    for scan, given in zip(scans["scan"], scans["file"], strict=True):
        names = [given] if given else [scan + suffix for suffix in feature_files.SUFFIXES]
        found = [folder / name for name in names if name in present or (folder / name).is_file()]
        if not found:
            suggestions += 1
            close = (
                get_close_matches(names[0], present, 1) if suggestions <= MAX_SUGGESTIONS else []
            )
            hint = f"; is it {close[0]!r}?" if close else ""
            expected = "" if given else f" (or {feature_files.SUFFIXES[1]})"
            problems.append(f"{folder / names[0]}{expected}: missing, for scan {scan!r}{hint}")
        elif len(found) > 1:
            problems.append(f"{found[0]}: also as {found[1].name!r}; say which in a column 'file'")
        elif found[0].suffix not in feature_files.SUFFIXES:
            problems.append(f"{found[0]}: is not {' or '.join(feature_files.SUFFIXES)}")
        elif found[0] in owner:
            problems.append(f"{found[0]}: is the file of scans {owner[found[0]]!r} and {scan!r}")
        else:
            owner[found[0]] = scan
    return {scan: path for path, scan in owner.items()}


def _look(path: Path) -> Source:
    found = feature_files.read(path)
    num_tiles, dim = found.embeddings.shape
    return Source(
        path=path,
        num_tiles=num_tiles,
        dim=dim,
        dtype=feature_files.stored_type(found.embeddings),
        place=feature_files.place(found.coords),
        has_tile=found.tile is not None,
        in_pixels=found.in_pixels,
    )


def _widths(sources: Mapping[str, Source]) -> list[str]:
    """Find files whose features are not as wide as those of most."""
    widths = pd.Series([source.dim for source in sources.values()], dtype="int64")
    if widths.nunique() < 2:
        return []
    usual = int(widths.mode().iloc[0])
    return [
        f"{source.path}: features are {source.dim} wide, those of most files {usual}"
        for source in sources.values()
        if source.dim != usual
    ]


def _numbered(
    scans: pd.DataFrame, sources: Mapping[str, Source], problems: list[str]
) -> dict[str, Source]:
    """Decide the tile numbers, slide by slide: common ones only where places are known to agree."""
    numbered = {}
    for slide, names in scans.groupby("slide", sort=False)["scan"]:
        found = {name: sources[name] for name in names if name in sources}
        places = {source.place for source in found.values()}
        own = {source.has_tile for source in found.values()}
        if len(own) > 1:
            problems.append(f"slide {slide!r}: some of its files have 'tile' numbers, some do not")
        common = own == {True} or (len(found) > 1 and len(places) == 1 and "" not in places)
        start = 0
        for name, source in found.items():
            numbered[name] = source if common else replace(source, first_tile=start)
            start += source.num_tiles
    return numbered
