"""Plans a slide: which tiles of which files are read, under which numbers, in which views.

The routine scan is the reference: its grid is mapped to the slide's other scans, so that tile n is
the same tissue in each. A scan that cannot be registered keeps a grid of its own, and that is said.
What goes wrong with one scan is named and leaves the others alone; without its routine scan a slide
is left out as a whole, since the numbers of all its tiles come from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.errors import DataError
from training.extraction import (
    grid,
    masks,
    overview,
    pair_files,
    pairing,
    registration,
    tissue,
    transform,
)
from training.extraction import views as augmented
from training.extraction.config_embed import EmbedConfig
from training.extraction.config_registration import RegistrationConfig
from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.registration import Registration, Thumbnail
from training.extraction.slide_table import Scan
from training.extraction.slides import Slide, open_slide
from training.extraction.views import Look

SAMPLE_PX = 1024
"""Longer side of the thumbnail that augmented views are fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Tiles of one file, and the views in which they are shown.

    Args:
        scan: the file.
        coords: int32 [tiles, 2], level-0 pixels.
        tile: int32 [tiles], the same number, the same tissue.
        mpp_read: micrometres per pixel of the tiles, truly.
        looks: by name of the view; None shows the file as it is.
    """

    scan: Scan
    coords: np.ndarray
    tile: np.ndarray
    mpp_read: float
    looks: Mapping[str, Look | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What is to be read of a slide.

    Args:
        slide: its name.
        parts: by file.
        failed: scans, and why they cannot be read.
        notes: what the user should know: scans that could not be paired.
    """

    slide: str
    parts: tuple[Part, ...] = ()
    failed: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Opened:
    """A scan whose tiles are known."""

    slide: Slide
    mask: Mask
    tiles: Tiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """A slide that is being planned.

    Args:
        slide: its name.
        scans: its files.
        config: how tiles are cut.
        pictures: folder for pictures.
        scratch: folder where they are made.
        opened: by scan, what is known so far.
        notes: what the user should know.
    """

    slide: str
    scans: Sequence[Scan]
    config: EmbedConfig
    pictures: Path
    scratch: Path
    opened: dict[str, _Opened] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def view_names(scan: Scan, config: EmbedConfig) -> list[str]:
    """Name the views that come of a file: itself, and augmented ones where it is a scan."""
    made = () if scan.source_scan else config.views
    return [scan.name, *(view.of(scan.name) for view in made)]


def picture(folder: Path, scan: Scan) -> Path:
    """Where the picture of a scan with its tiles lies."""
    return folder / overview.file_name(scan.name)


def plan(
    slide: str,
    scans: Sequence[Scan],
    config: EmbedConfig,
    *,
    wanted: Mapping[str, Sequence[str]],
    pictures: Path,
    scratch: Path,
) -> Plan:
    """Plan a slide; errors are kept by scan.

    Args:
        slide: its name.
        scans: its files, the routine scan first, augmented copies last.
        config: how tiles are cut.
        wanted: by scan, the views that are to be embedded; scans without are left alone.
        pictures: folder for a picture of each scan, with its tiles, and of each pair.
        scratch: folder on the same disk, where pictures are made.
    """
    parts: list[Part] = []
    failed: dict[str, str] = {}
    work = _Work(slide=slide, scans=scans, config=config, pictures=pictures, scratch=scratch)
    for order, scan in enumerate(scans):
        if not wanted[scan.name] and scan is not scans[0] and not _is_source(scan, scans, wanted):
            continue
        try:
            found = work.opened[scan.name] = _open(work, scan, order)
            if wanted[scan.name] and not scan.source_scan:
                _draw(found, picture(pictures, scan), scratch)
            if wanted[scan.name]:
                parts.append(_part(scan, found, config, wanted[scan.name]))
        except (DataError, OSError) as error:
            failed[scan.name] = (
                error.told if isinstance(error, DataError) else f"{pictures.parent}: {error}"
            )
            if scan is scans[0]:
                break
    for each in work.opened.values():
        each.slide.close()
    return Plan(slide=slide, parts=tuple(parts), failed=failed, notes=tuple(work.notes))


def _draw(opened: _Opened, file: Path, scratch: Path) -> None:
    """Draw a scan with its tiles; picture and numbers appear whole."""
    scratch.mkdir(parents=True, exist_ok=True)
    made = [scratch / file.name, (scratch / file.name).with_suffix(".json")]
    try:
        overview.write(opened.slide, opened.mask, opened.tiles, made[0])
        for path in made:
            path.replace(file.with_name(path.name))
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _is_source(scan: Scan, scans: Sequence[Scan], wanted: Mapping[str, Sequence[str]]) -> bool:
    return any(other.source_scan == scan.name and wanted[other.name] for other in scans)


def _open(work: _Work, scan: Scan, order: int) -> _Opened:
    """Open a file and find its tiles: by its own grid, its source's, or the reference's."""
    config, reference = work.config, work.scans[0]
    slide = open_slide(scan.path, mpp=scan.mpp)
    if scan.source_scan:
        return _copy(scan, slide, work.opened)
    mask = tissue.find(slide, config.tissue)
    if scan.mask is not None:
        mask = masks.both(mask, masks.read(scan.mask, slide.size))
    first = work.opened.get(reference.name)
    if first is None:
        return _Opened(slide=slide, mask=mask, tiles=grid.tiles(slide, mask, config.tiling))
    if config.registration is None:
        reason = "registration is off"
    else:
        moving = _Opened(slide=slide, mask=mask, tiles=first.tiles)
        found = _register(work, first, moving, scan, config.registration)
        if not found.refused:
            mapped = pairing.map_grid(
                first.tiles,
                found,
                fixed=first.slide,
                moving=slide,
                mask=mask,
                tiling=config.tiling,
            )
            return _Opened(slide=slide, mask=mask, tiles=mapped)
        reason = found.refused
    work.notes.append(f"scan {scan.name!r}: not paired with {reference.name!r}: {reason}")
    own = pairing.unpaired(
        grid.tiles(slide, mask, config.tiling),
        first.tiles,
        order=order,
        num_scans=sum(not each.source_scan for each in work.scans),
    )
    return _Opened(slide=slide, mask=mask, tiles=own)


def _copy(scan: Scan, slide: Slide, opened: Mapping[str, _Opened]) -> _Opened:
    source = opened.get(scan.source_scan)
    if source is None:
        raise DataError(f"its source_scan {scan.source_scan!r} has no tiles")
    if slide.size != source.slide.size:
        raise DataError(
            f"{scan.path}: is {slide.size[0]} x {slide.size[1]} pixels, its source_scan "
            f"{scan.source_scan!r} {source.slide.size[0]} x {source.slide.size[1]}"
        )
    return _Opened(slide=slide, mask=source.mask, tiles=source.tiles)


def _register(
    work: _Work, first: _Opened, moving: _Opened, scan: Scan, config: RegistrationConfig
) -> Registration:
    """Register a scan, or judge what the user gave; its picture is drawn, refused or not."""
    shown = _thumbnail(first, config), _thumbnail(moving, config)
    if scan.transform is None:
        found = registration.register(*shown, config=config)
    else:
        given = transform.read_manual(
            scan.transform, fixed_mpp=first.slide.mpp, moving_mpp=moving.slide.mpp, config=config
        )
        found = registration.judge(*shown, given, config=config)
    pair = pair_files.describe(work.slide, scan.name, work.scans[0].name, found)
    pair_files.write(work.pictures, pair, found, shown, scratch=work.scratch)
    return found


def _thumbnail(opened: _Opened, config: RegistrationConfig) -> Thumbnail:
    rgb, step = opened.slide.thumbnail(config.thumbnail_px)
    rows, columns = (
        np.minimum(
            ((np.arange(count) + 0.5) * level0 / mask).astype(int),
            opened.mask.inside.shape[axis] - 1,
        )
        for axis, count, level0, mask in (
            (0, rgb.shape[0], step[1], opened.mask.step[1]),
            (1, rgb.shape[1], step[0], opened.mask.step[0]),
        )
    )
    mpp = opened.slide.mpp
    return Thumbnail(
        rgb=rgb,
        inside=opened.mask.inside[np.ix_(rows, columns)],
        um_per_px=(step[0] * mpp[0], step[1] * mpp[1]),
    )


def _part(scan: Scan, opened: _Opened, config: EmbedConfig, wanted: Sequence[str]) -> Part:
    looks: dict[str, Look | None] = {scan.name: None} if scan.name in wanted else {}
    made = [] if scan.source_scan else list(config.views)
    sample = opened.slide.thumbnail(SAMPLE_PX)[0] if made else None
    for view in made:
        name = view.of(scan.name)
        if name in wanted and sample is not None:
            looks[name] = augmented.draw(view, seed=config.seed, scan=scan.name, sample=sample)
    return Part(
        scan=scan,
        coords=opened.tiles.coords,
        tile=opened.tiles.tile,
        mpp_read=opened.slide.true_mpp(config.tiling),
        looks=looks,
    )
