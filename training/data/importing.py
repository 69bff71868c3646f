"""Imports what users already have: feature files with a slide table, or a table of instances.

Everything is read once before anything is written, so that all problems of all files are reported
together; then bags are read again into shards. Nothing is left behind after an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from training.data import doubles, feature_folder, joining, shards, tables, user_tables
from training.data.bags import Bag
from training.data.feature_folder import Source
from training.data.shards import View
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was imported.

    Args:
        num_float32: scans kept in float32; the others are float16.
        num_matched: slides of which several scans share tile numbers.
        notes: what the user may want to know, a line each.
    """

    encoder: str
    num_patients: int
    num_slides: int
    num_scans: int
    num_tiles: int
    dim: int
    num_float32: int
    num_matched: int = 0
    notes: tuple[str, ...] = ()


def import_features(
    folder: Path,
    slides_csv: Path,
    *,
    out: Path,
    encoder: str,
    folds: Path | None = None,
    licence: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Import one feature file per scan (`feature_files`) and a CSV of scans.

    Columns of the CSV: `slide`, `patient`; optional `scan` (default: the slide), `scanner`, `site`,
    `lab`, `stain`, `cohort`, `routine` (1 for a slide's routine scan; default: its first), `file`
    (default: `<scan>.h5` or `<scan>.pt`), `source_scan` (in the row of an augmented view, named
    under `scan`: the scan that it was made from). Other columns are labels and covariates of the
    patient. Tiles of a slide's scans have common numbers if their files say so (`tile`) or if all
    have the same coordinates; else their numbers differ, so that nothing is paired by accident.

    Args:
        folder: where the feature files lie.
        slides_csv: the CSV of scans, UTF-8.
        out: the data set; made, or given another encoder.
        encoder: name of the encoder that made the features.
        folds: CSV with `fold`, `patient` or `slide`, and optional `repetition`: who is held out.
        licence: terms of the features.
        progress: called with files read and files to read; each is read twice.

    Raises:
        DataError: All problems, by file and line.
    """
    problems: list[str] = []
    slides = user_tables.read_slides(slides_csv, problems)
    held = _held_out(folds, slides.scans, ("patient", "slide"), problems)
    problems += _conflicts(slides_csv, slides, held, out, encoder)
    sources = feature_folder.survey(folder, slides.scans, problems, progress)
    if problems:
        raise DataError("\n".join(problems))
    views = [_view(row, sources[row["scan"]]) for _, row in slides.scans.iterrows()]
    shards.write(
        out,
        encoder=encoder,
        views=views,
        load=lambda view: feature_folder.bag(sources[view.scan]),
        cases=slides.cases,
        folds=held,
        licence=licence,
        progress=(lambda done, total: progress(total + done, 2 * total)) if progress else None,
    )
    matched, apart = _matched(views, sources)
    unused = feature_folder.unused(folder, sources)
    elsewhere = [scan for scan, source in sources.items() if not source.in_pixels]
    notes = (
        *_note(elsewhere, "scans have coordinates that are no level-0 pixels: none are stored"),
        *_note(unused, f"files in {folder} are not in {slides_csv.name}"),
        *_note(apart, "slides have several scans whose tiles cannot be matched"),
        *_in_no_fold(held, views),
        *_doubles(out, encoder),
    )
    return _report(encoder, views, len(matched), notes)


def import_instances(
    table: Path,
    *,
    out: Path,
    encoder: str,
    bag: str = "bag",
    label: str = "label",
    patient: str | None = None,
    folds: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Import a table in which a row is an instance, as classic MIL sets have it.

    Other columns are the embedding, in float32. A bag is a slide with one scan; order is kept.

    Args:
        table: CSV (UTF-8) or Parquet.
        out: the data set; made, or given another encoder.
        encoder: name for these embeddings.
        bag: column of bag ids.
        label: column of labels, constant in a patient.
        patient: column of patients; None: each bag is a patient.
        folds: as in `import_features`, with `bag` for `slide`.
        progress: called with bags done and bags in all.

    Raises:
        DataError: All problems, by file.
    """
    problems: list[str] = []
    names = [bag, label, *([patient] if patient else [])]
    frame = user_tables.read_instances(table, names)
    values = user_tables.numeric(table, frame.drop(columns=names), problems)
    owners = frame[patient or bag]
    bags = pd.DataFrame({"slide": frame[bag], "patient": owners, "label": frame[label]})
    problems += _inconstant(table, bags, label)
    rows = bags.groupby("slide", sort=False).indices
    bags = bags.drop_duplicates("slide").assign(bag=lambda first: first["slide"])
    held = _held_out(folds, bags, ("bag", "patient"), problems)
    if problems:
        raise DataError("\n".join(problems))
    views = [
        View(
            **{"patient": owner, "slide": name, "scan": name, "view": name, "routine": True},
            num_tiles=len(rows[name]),
            dim=values.shape[1],
            dtype="float32",
        )
        for name, owner in zip(bags["slide"], bags["patient"], strict=True)
    ]
    shards.write(
        out,
        encoder=encoder,
        views=views,
        load=lambda view: _instances(values[rows[view.slide]]),
        cases=bags[["patient", "label"]].drop_duplicates().rename(columns={"label": label}),
        folds=held,
        progress=progress,
    )
    return _report(encoder, views, notes=(*_in_no_fold(held, views), *_doubles(out, encoder)))


def _held_out(
    path: Path | None, scans: pd.DataFrame, columns: Sequence[str], problems: list[str]
) -> pd.DataFrame | None:
    """Read who is held out; any of these columns of the scans may name the patient."""
    if path is None:
        return None
    patient_of = {name: dict(zip(scans[name], scans["patient"], strict=True)) for name in columns}
    return user_tables.read_folds(path, patient_of, problems)


def _conflicts(
    path: Path, slides: user_tables.Slides, held: pd.DataFrame | None, out: Path, encoder: str
) -> list[str]:
    """Compare the slide table with itself and with the data set that is there."""
    views = slides.scans.assign(view=slides.scans["scan"], encoder=encoder)
    views = views.assign(num_tiles=1, dim=1, dtype="float16")  # not known before files are read
    try:
        existing = joining.existing(out)
    except DataError as error:
        return [error.message]
    try:
        joining.join(existing, views, slides.cases, held)
    except DataError as error:
        return [f"{path}: {line}" for line in error.message.splitlines()]
    return []


def _view(row: "pd.Series[str]", source: Source) -> View:
    names = ("patient", "slide", "scan", "source_scan", *user_tables.DESCRIBING)
    described = {name: row[name] for name in names}
    return View(
        **described,
        view=row["scan"],
        routine=bool(row["routine"]),
        num_tiles=source.num_tiles,
        dim=source.dim,
        dtype=source.dtype,
    )


def _matched(views: Sequence[View], sources: dict[str, Source]) -> tuple[list[str], list[str]]:
    """Name the slides of several scans with common tile numbers, and of several views without."""
    slides = pd.Series({view.scan: view.slide for view in views})
    several = slides[slides.duplicated(keep=False)]
    apart = {slide for scan, slide in several.items() if sources[str(scan)].first_tile is not None}
    scans = pd.Series({view.scan: view.slide for view in views if not view.source_scan})
    return sorted(set(scans[scans.duplicated()]) - apart), sorted(apart)


def _inconstant(table: Path, bags: pd.DataFrame, label: str) -> list[str]:
    """Find bags without a name or of several patients, and patients of several labels."""
    nameless = np.flatnonzero((bags["slide"] == "") | (bags["patient"] == ""))
    lines = [f"{table}: row {row + 1} has no bag or no patient" for row in nameless]
    lines += [
        f"{table}: bag {bag!r} belongs to several patients: {tables.joined(patients)}"
        for bag, patients in tables.ambiguous(bags, "slide", "patient").items()
    ]
    return lines + [
        f"{table}: {label} of patient {patient!r} has several values: {tables.joined(values)}"
        for patient, values in tables.ambiguous(bags, "patient", "label").items()
    ]


def _instances(values: np.ndarray) -> Bag:
    return Bag(
        embeddings=values,
        tile=np.arange(len(values), dtype=np.int32),
        coords=np.full((len(values), 2), -1, np.int32),
    )


def _in_no_fold(held: pd.DataFrame | None, views: Sequence[View]) -> list[str]:
    """Note the patients that some repetition of the given folds leaves out."""
    if held is None:
        return []
    everyone = {view.patient for view in views}
    parts = [everyone - set(part["patient"]) for _, part in held.groupby("repetition")]
    left_out = sorted(set[str]().union(*parts))
    always = "" if len(parts) == 1 else " of some repetition"
    return _note(left_out, f"patients are in no fold{always} and take no part there")


def _doubles(out: Path, encoder: str) -> list[str]:
    """Note what looks like one patient under two names."""
    index, _, _ = tables.read(out)
    return doubles.notes(index[(index["encoder"] == encoder) & (index["source_scan"] == "")])


def _note(names: Sequence[str], what: str) -> list[str]:
    shown = tables.joined(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"{len(names)} {what}: {shown}"] if names else []


def _report(
    encoder: str, views: Sequence[View], num_matched: int = 0, notes: tuple[str, ...] = ()
) -> Report:
    return Report(
        encoder=encoder,
        num_patients=len({view.patient for view in views}),
        num_slides=len({view.slide for view in views}),
        num_scans=sum(not view.source_scan for view in views),
        num_tiles=sum(view.num_tiles for view in views),
        dim=views[0].dim,
        num_float32=sum(view.dtype == "float32" for view in views),
        num_matched=num_matched,
        notes=notes,
    )
