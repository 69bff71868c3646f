"""Decodes slides in processes of their own: plans of slides, and batches of their tiles.

Both come in the order in which they were asked for, so that what follows is the same whatever the
number of processes. The processes are torch's: they share memory with this one, and end with it.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.errors import DataError
from training.extraction import views
from training.extraction.config import Tiling
from training.extraction.slides import BrokenTileError, Slide, open_slide
from training.extraction.views import Look

Item = TypeVar("Item")
Result = TypeVar("Result")

PREFETCH = 2
"""Batches that each process decodes ahead."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Tiles that are decoded together.

    Args:
        part: number of the part that they belong to.
        start: of the first tile, in the part.
        path: of the slide.
        mpp: of the user, if given.
        tiling: how tiles are cut.
        coords: int32 [tiles, 2].
        looks: in which they are shown; None: as they are.
    """

    part: int
    start: int
    path: Path
    mpp: float | None
    tiling: Tiling
    coords: np.ndarray
    looks: tuple[Look | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Decoded tiles.

    Args:
        part: number of the part that they belong to.
        start: of the first tile, in the part.
        tiles: uint8 [tile, height, width, 3], by look.
        whole: bool [tile]; the others are broken, and white.
        error: why nothing could be decoded; else empty.
    """

    part: int
    start: int
    tiles: tuple[Tensor, ...] = ()
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    error: str = ""

    def pin_memory(self) -> "Decoded":
        """Move the tiles to memory that a GPU reads by itself; torch's loader calls this."""
        return replace(self, tiles=tuple(tiles.pin_memory() for tiles in self.tiles))


def batches(jobs: Iterable[Job], *, workers: int, pin: bool) -> Iterator[Decoded]:
    """Decode tiles ahead of their use, in order.

    Args:
        jobs: taken as processes have room for them.
        workers: processes; 0: none but this one.
        pin: whether the tiles shall lie in pinned memory.
    """
    return _each(_Tiles(), jobs, workers=workers, pin=pin)


def each(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """Call a function on items in other processes, ahead of the use of its results, in order."""
    return _each(_Calls(function), items, workers=workers, pin=False)


def _each(
    dataset: "Dataset[Any]", items: Iterable[Any], *, workers: int, pin: bool
) -> Iterator[Any]:
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        worker_init_fn=_quiet if workers else None,
        prefetch_factor=PREFETCH if workers else None,
    )
    return iter(loader)


class _Calls(Dataset[Any]):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __getitem__(self, item: Any) -> Any:
        return self._function(item)


class _Tiles(Dataset[Decoded]):
    """Decodes jobs; keeps the last slide open."""

    def __init__(self) -> None:
        self._path: tuple[Path, float | None] | None = None
        self._slide: Slide | None = None

    def __getitem__(self, job: Job) -> Decoded:
        try:
            return _decode(job, self._opened(job.path, job.mpp))
        except (DataError, OSError) as error:
            text = error.told if isinstance(error, DataError) else f"{job.path}: {error}"
            return Decoded(part=job.part, start=job.start, error=text)

    def _opened(self, path: Path, mpp: float | None) -> Slide:
        if self._slide is None or self._path != (path, mpp):
            if self._slide is not None:
                self._slide.close()
            self._path, self._slide = (path, mpp), None
            self._slide = open_slide(path, mpp=mpp)
        return self._slide


def _decode(job: Job, slide: Slide) -> Decoded:
    side = job.tiling.tile_px
    tiles = np.full((len(job.coords), side, side, 3), 255, np.uint8)
    whole = np.ones(len(job.coords), bool)
    for place, (x, y) in enumerate(job.coords.tolist()):
        try:
            tiles[place] = slide.read(x, y, job.tiling)
        except BrokenTileError:
            whole[place] = False
    shown = [tiles if look is None else views.apply(look, tiles) for look in job.looks]
    return Decoded(
        part=job.part,
        start=job.start,
        tiles=tuple(torch.from_numpy(each) for each in shown),
        whole=whole,
    )


def _as_it_is(item: Any) -> Any:
    return item


def _quiet(_worker: int) -> None:
    """Leave Ctrl-C to the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
