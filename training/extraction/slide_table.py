"""The table of slides that are to be embedded: which files, at what scale, whose.

Everything wrong is collected, by file and line of the table; no slide is opened.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from training.data import user_tables

COLUMNS = ("mpp", "mask", "transform")
"""Columns beside those of `user_tables.SLIDE_COLUMNS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A file to read tiles from.

    Args:
        name: of the scan, or of the view that the file shows.
        source_scan: the scan that this file is an augmented copy of; empty for a scan.
        routine: whether it is the slide's routine scan.
        path: the file.
        mpp: micrometres per level-0 pixel, in place of what the file says.
        mask: where tiles may lie.
        transform: from the routine scan to this one, given by the user.
    """

    name: str
    source_scan: str
    routine: bool
    path: Path
    mpp: float | None
    mask: Path | None
    transform: Path | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """What the table says.

    Args:
        rows: a row per scan, as `user_tables.Slides.scans`.
        cases: a row per patient.
        slides: the scans of each slide, the routine one first, augmented copies last.
        folds: held-out patients of these; None: not given.
    """

    rows: pd.DataFrame
    cases: pd.DataFrame
    slides: Mapping[str, tuple[Scan, ...]]
    folds: pd.DataFrame | None = None


def read(
    path: Path, problems: list[str], *, limit: int | None = None, folds: Path | None = None
) -> Table:
    """Read a CSV of scans; files are looked up beside it.

    Args:
        path: columns as for `sweep index features`, and `file` (needed), `mpp`, `mask`,
            `transform`.
        problems: is appended to.
        limit: the first so many slides only.
        folds: CSV of held-out patients, by `patient` or `slide`.

    Raises:
        DataError: The file has no rows, or a needed column is missing.
    """
    found = user_tables.read_slides(path, problems, further=COLUMNS)
    held = None
    if folds is not None:
        of = {key: dict(zip(found.scans[key], found.scans["patient"], strict=True))
              for key in ("patient", "slide")}  # fmt: skip
        held = user_tables.read_folds(folds, of, problems)
    names = list(dict.fromkeys(found.scans["slide"]))[:limit]
    rows = found.scans[found.scans["slide"].isin(names)].reset_index(drop=True)
    cases = found.cases[found.cases["patient"].isin(set(rows["patient"]))]
    slides: dict[str, list[Scan]] = {name: [] for name in names}
    for _, row in rows.iterrows():
        slides[row["slide"]].append(_scan(path, row, problems))
    ordered = {
        slide: tuple(sorted(scans, key=lambda scan: (scan.source_scan != "", not scan.routine)))
        for slide, scans in slides.items()
    }
    for scans in ordered.values():
        problems += _idle(path, scans)
    if held is not None:
        held = held[held["patient"].isin(set(cases["patient"]))].reset_index(drop=True)
    return Table(rows=rows, cases=cases.reset_index(drop=True), slides=ordered, folds=held)


def _scan(path: Path, row: "pd.Series[str]", problems: list[str]) -> Scan:
    scan = row["scan"]
    where = f"{path}: scan {scan!r}"
    if not row["file"]:
        problems.append(f"{where}: no file")
    return Scan(
        name=scan,
        source_scan=row["source_scan"],
        routine=bool(row["routine"]),
        path=_file(path, row["file"], where, problems) or Path(),
        mpp=_mpp(row["mpp"], where, problems),
        mask=_file(path, row["mask"], where, problems),
        transform=_file(path, row["transform"], where, problems),
    )


def _file(path: Path, name: str, where: str, problems: list[str]) -> Path | None:
    if not name:
        return None
    found = path.parent / name
    try:
        if not found.exists():
            problems.append(f"{where}: {found}: missing")
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        problems.append(f"{where}: {found}: {error.strerror}")
    return found


def _idle(path: Path, scans: tuple[Scan, ...]) -> Iterator[str]:
    """Name what the table gives and nothing would read."""
    first, *others = scans
    if first.transform is not None:
        yield (
            f"{path}: scan {first.name!r}: has a transform, but is the slide's routine scan, from "
            "which transforms lead to the others"
        )
    for scan in others:
        if scan.source_scan and (scan.mask or scan.transform):
            yield (
                f"{path}: view {scan.name!r}: has a mask or a transform, but its tiles are those "
                f"of {scan.source_scan!r}"
            )


def _mpp(text: str, where: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        problems.append(f"{where}: mpp is {text!r}, expected micrometres per pixel such as 0.25")
        return None
    return value
