"""Shards of embeddings: writing a data set, and reading bags from it.

A shard is an HDF5 file with contiguous, uncompressed, preallocated datasets `embeddings` [rows,
dim], `tile` [rows] and `coords` [rows, 2], so that a bag is a slice of a memory map. Writing
happens once per encoder, by one writer at a time; `index.parquet` is renamed last, so that a writer
killed at any moment leaves the data set as it was.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from training.data import joining, tables
from training.data.bags import Bag, checksum
from training.errors import DataError

ALIGNMENT = 4096
"""Bytes; datasets start on a page, so that a memory map needs no copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A scan or an augmented copy of one, and the size of its bag, known before the bag is read.

    Args:
        view: unique name; equal to `scan` unless augmented.
        source_scan: the scan that an augmented view was made from; empty for a scan.
        routine: whether this is the slide's routine scan; exactly one is.
        dtype: stored type, float16 or float32.
    """

    patient: str
    slide: str
    scan: str
    view: str
    source_scan: str = ""
    scanner: str = ""
    site: str = ""
    lab: str = ""
    stain: str = ""
    cohort: str = ""
    routine: bool
    num_tiles: int
    dim: int
    dtype: str = "float16"


def write(
    root: Path,
    *,
    encoder: str,
    views: Sequence[View],
    load: Callable[[View], Bag],
    cases: pd.DataFrame,
    folds: pd.DataFrame | None = None,
    shard_bytes: int = 2**30,
    tile_um: float | Sequence[float] = math.nan,
    mpp_read: float | Sequence[float] = math.nan,
    encoder_revision: str = "",
    precision: str = "",
    licence: str = "",
    replacing: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Create a data set, or add or replace one encoder of it.

    Shared views and patients must agree; cases and folds replace those of the same patients.

    Args:
        root: the folder; missing, empty or a data set.
        encoder: name of the encoder; letters, digits and `._-`.
        views: what to write, in order.
        load: gives the bag of a view; called once per view, in shard order.
        cases: one row per patient: `patient`, labels and covariates, as strings.
        folds: held-out patients: `repetition`, `fold`, `patient`.
        shard_bytes: size that a shard does not exceed, unless one bag does.
        tile_um: side of a tile, micrometres; of all views or of each.
        mpp_read: resolution at which tiles were read, micrometres per pixel; likewise.
        encoder_revision: which weights.
        precision: arithmetic of the encoder.
        licence: terms of the embeddings.
        replacing: encoders that are written next, whose views need not agree with these.
        progress: called with bags done, and all.

    Raises:
        DataError: Views or a bag are wrong, or the folder cannot be written. Nothing is left.
    """
    described = pd.DataFrame([asdict(view) for view in views]).assign(
        encoder=encoder, tile_um=tile_um, mpp_read=mpp_read, precision=precision, licence=licence
    )
    described["encoder_revision"] = encoder_revision
    join = partial(joining.join, added=described, cases=cases, folds=folds, replacing=replacing)
    version, joined = joining.version(root), join(joining.existing(root))
    places = joining.places(joined, shard_bytes)
    made = [path for path in (root / "shards", root, *root.parents) if not path.exists()]
    try:
        sums = _write_shards(root, places, {view.view: view for view in views}, load, progress)
        while version != (version := joining.version(root)):  # another encoder came meanwhile
            joined = join(joining.existing(root))
        joining.commit(root, joined, places.assign(checksum=places["view"].map(sums)))
    except BlockingIOError as error:
        encoder = ""  # what lies there is the other writer's
        raise DataError(f"{root}: another import writes this encoder now: {error}") from error
    except OSError as error:
        raise DataError(f"{root}: cannot be written: {error}") from error
    finally:
        _tidy(root, encoder, made)


def _tidy(root: Path, encoder: str, made: Sequence[Path]) -> None:
    """Remove what a write left unfinished, if it was this one, and new folders if empty."""
    if encoder:
        joining.tidy(root, encoder)
    for folder in made:
        with suppress(OSError):  # not empty: it has what was written
            folder.rmdir()


def _write_shards(
    root: Path,
    places: pd.DataFrame,
    views: Mapping[str, View],
    load: Callable[[View], Bag],
    progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    """Write all shards and return the checksum of each view."""
    (root / "shards").mkdir(parents=True, exist_ok=True)
    sums: dict[str, str] = {}
    for shard, group in places.groupby("shard", sort=False):
        path = root / str(shard)
        unfinished = path.with_name(f".{path.name}.partial")
        with _create(unfinished, int(group["num_tiles"].sum()), group.iloc[0]) as file:
            for name, start in zip(group["view"], group["row_start"], strict=True):
                sums[name] = _fill(file, load(views[name]), views[name], start)
                if progress:
                    progress(len(sums), len(views))
        tables.publish(unfinished, path)
    return sums


def _create(path: Path, rows: int, row: "pd.Series[Any]") -> h5py.File:
    """Open a new shard with all its storage allocated: contiguous, at fixed offsets."""
    try:
        file = h5py.File(path, "w", alignment_threshold=1, alignment_interval=ALIGNMENT)
    except OSError as error:
        if path.exists():  # and is locked: what a killed writer left could be written over
            raise BlockingIOError(str(error)) from error
        raise
    for name, shape, dtype in (
        ("embeddings", (rows, int(row["dim"])), row["dtype"]),
        ("tile", (rows,), "int32"),
        ("coords", (rows, 2), "int32"),
    ):
        file.create_dataset(name, shape, dtype, track_times=False, fill_time="never")
    return file


def _fill(file: h5py.File, bag: Bag, view: View, start: int) -> str:
    """Write a bag in its place and return its checksum; refuse one that is not as announced."""
    found = (bag.embeddings.shape, bag.embeddings.dtype.name, bag.tile.shape, bag.coords.shape)
    wanted = ((view.num_tiles, view.dim), view.dtype, (view.num_tiles,), (view.num_tiles, 2))
    if found != wanted:
        raise DataError(
            f"view {view.view!r}: embeddings, type, tile and coords are {found}, expected {wanted}"
        )
    if not np.isfinite(bag.embeddings).all():
        raise DataError(f"view {view.view!r}: embeddings are not all finite")
    stop = start + view.num_tiles
    file["embeddings"][start:stop] = bag.embeddings
    file["tile"][start:stop] = bag.tile
    file["coords"][start:stop] = bag.coords
    return checksum(bag)
