"""Imports what users already have: feature files with a slide table, or a table of instances.

Everything is read once before anything is written, so that all problems of all files are reported
together; then bags are read again into shards. Nothing is left behind after an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from training.data import feature_files, joining, shards, tables, user_tables
from training.data.shards import Bag, View
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was imported.

    Args:
        num_float32: scans kept in float32; the others are float16.
        num_matched: slides of which several scans share tile numbers.
        notes: what the user may want to know.
    """

    encoder: str
    num_patients: int
    num_slides: int
    num_scans: int
    num_tiles: int
    dim: int
    num_float32: int
    num_matched: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the first reading of a feature file found."""

    num_tiles: int
    dim: int
    dtype: str
    place: str
    has_tile: bool


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
    `lab`, `stain`, `cohort`, `routine` (default: the slide's first scan), `file` (default:
    `<scan>.h5` or `<scan>.pt` in the folder). Other columns are labels and covariates of the
    patient. Tiles of a slide's scans are matched by their `tile` numbers, or where all scans have
    the same coordinates; otherwise their numbers differ, so that nothing is paired by accident.

    Args:
        folder: where the feature files lie.
        slides_csv: the CSV of scans, UTF-8.
        out: the data set; made, or given another encoder.
        encoder: name of the encoder that made the features.
        folds: CSV with `fold`, `patient` or `slide`, and optional `repetition`: who is held out.
        licence: terms of the features.
        progress: called with files read and files to read (each is read twice).

    Raises:
        DataError: All problems, by file and line.
    """
    problems: list[str] = []
    slides = user_tables.read_slides(slides_csv, problems)
    scans = slides.scans
    held = None
    if folds is not None:
        patient_of = {name: _patient_of(scans, name) for name in ("patient", "slide")}
        held = user_tables.read_folds(folds, patient_of, problems)
    files = _locate(folder, scans, problems)
    facts = _look(files, progress, problems)
    problems += _widths(files, facts)
    problems += _unlike(out, encoder, slides, held)
    numbering = _numbering(scans, facts, problems)
    if problems:
        raise DataError("\n".join(problems))
    views = [
        View(
            **{str(name): value for name, value in row.items() if name != "file"},
            view=row["scan"],
            num_tiles=facts[row["scan"]].num_tiles,
            dim=facts[row["scan"]].dim,
            dtype=facts[row["scan"]].dtype,
        )
        for row in scans.to_dict("records")
    ]
    shards.write(
        out,
        encoder=encoder,
        views=views,
        load=lambda view: _bag(files[view.scan], view, numbering[view.scan]),
        cases=slides.cases,
        folds=held,
        licence=licence,
        progress=_later(progress, len(views)),
    )
    unused = _unused(folder, files)
    apart = sorted({view.slide for view in views if numbering[view.scan] not in (None, 0)})
    notes = [
        *([f"{len(unused)} files are not in {slides_csv.name}: {_few(unused)}"] if unused else []),
        *([f"tiles of the scans of {len(apart)} slides cannot be matched: {_few(apart)}"] if apart else []),
    ]
    return _report(encoder, views, len(_multiple(scans)) - len(apart), notes)


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

    All columns but the named ones are the embedding, stored as float32. Bags keep the order of
    their first rows; slide, scan and view are the bag.

    Args:
        table: CSV (UTF-8) or Parquet.
        out: the data set; made, or given another encoder.
        encoder: name for these embeddings.
        bag: column of bag ids.
        label: column of labels, constant in a bag and in a patient.
        patient: column of patients; None: each bag is a patient.
        folds: CSV with `fold`, `bag` or `patient`, and optional `repetition`: who is held out.
        progress: called with bags done and bags in all.

    Raises:
        DataError: All problems, by file.
    """
    problems: list[str] = []
    names = [bag, label, *([patient] if patient else [])]
    frame = user_tables.read_instances(table, names)
    features = frame.drop(columns=names)
    if features.columns.empty:
        raise DataError(f"{table}: no columns beside {tables.joined(names)}")
    values = user_tables.numeric(table, features, problems)
    bags = pd.DataFrame({"slide": frame[bag], "patient": frame[patient or bag], label: frame[label]})
    problems += _inconstant(table, bags, label)
    rows = {str(name): np.asarray(found) for name, found in bags.groupby("slide", sort=False).indices.items()}
    bags = bags.drop_duplicates("slide")
    held = None
    if folds is not None:
        patient_of = {"patient": _patient_of(bags, "patient"), "bag": _patient_of(bags, "slide")}
        held = user_tables.read_folds(folds, patient_of, problems)
    if problems:
        raise DataError("\n".join(problems))
    views = [
        View(
            patient=owner,
            slide=slide,
            scan=slide,
            view=slide,
            routine=True,
            num_tiles=len(rows[slide]),
            dim=values.shape[1],
            dtype="float32",
        )
        for slide, owner in zip(bags["slide"], bags["patient"], strict=True)
    ]
    cases = bags.drop_duplicates("patient")[["patient", label]]
    shards.write(
        out,
        encoder=encoder,
        views=views,
        load=lambda view: _instances(values[rows[view.slide]]),
        cases=cases,
        folds=held,
        progress=progress,
    )
    return _report(encoder, views, 0, [])


def _locate(folder: Path, scans: pd.DataFrame, problems: list[str]) -> dict[str, Path]:
    """Find the feature file of each scan."""
    if not folder.is_dir():
        problems.append(f"{folder}: is not a folder")
        return {}
    present = {path.name for path in folder.iterdir()}
    files, owner = dict[str, Path](), dict[Path, str]()
    for row in scans.itertuples(index=False):
        scan, given = str(row.scan), str(row.file)
        names = [given] if given else [scan + suffix for suffix in feature_files.SUFFIXES]
        found = [folder / name for name in names if name in present or (folder / name).is_file()]
        if not found:
            near = get_close_matches(names[0], present, 1) if len(problems) < 20 else []
            hint = f"; is it {near[0]!r}?" if near else ""
            expected = "" if given else f" (or {feature_files.SUFFIXES[1]})"
            problems.append(f"{folder / names[0]}{expected}: missing, for scan {scan!r}{hint}")
        elif len(found) > 1:
            problems.append(
                f"{found[0]}: also as {found[1].suffix}; name one in a column 'file', for scan "
                f"{scan!r}"
            )
        elif found[0].suffix not in feature_files.SUFFIXES:
            problems.append(f"{found[0]}: expected {' or '.join(feature_files.SUFFIXES)}")
        elif found[0] in owner:
            problems.append(f"{found[0]}: is the file of scans {owner[found[0]]!r} and {scan!r}")
        else:
            files[scan] = found[0]
            owner[found[0]] = scan
    return files


def _look(
    files: Mapping[str, Path],
    progress: Callable[[int, int], None] | None,
    problems: list[str],
) -> dict[str, _Facts]:
    """Read every file once."""
    facts = {}
    for done, (scan, path) in enumerate(files.items(), 1):
        try:
            found = feature_files.read(path)
        except DataError as error:
            problems.append(error.message)
        else:
            facts[scan] = _Facts(
                num_tiles=found.embeddings.shape[0],
                dim=found.embeddings.shape[1],
                dtype=feature_files.stored_type(found.embeddings),
                place=feature_files.place(found.coords),
                has_tile=found.tile is not None,
            )
        if progress:
            progress(done, 2 * len(files))
    return facts


def _widths(files: Mapping[str, Path], facts: Mapping[str, _Facts]) -> list[str]:
    widths = pd.Series([fact.dim for fact in facts.values()], dtype="int64")
    if widths.nunique() < 2:
        return []
    usual = int(widths.mode()[0])
    return [
        f"{files[scan]}: features are {fact.dim} wide, expected {usual} as most files have"
        for scan, fact in facts.items()
        if fact.dim != usual
    ]


def _unlike(
    out: Path, encoder: str, slides: user_tables.Slides, held: pd.DataFrame | None
) -> list[str]:
    """Compare the tables with themselves and with the data set that is there."""
    views = slides.scans.assign(view=slides.scans["scan"], source_scan="", encoder=encoder)
    views = views.assign(num_tiles=1, dim=1, dtype="float16")
    try:
        joining.join(joining.existing(out), views, slides.cases, held)
    except DataError as error:
        return error.message.splitlines()
    return []


def _numbering(
    scans: pd.DataFrame, facts: Mapping[str, _Facts], problems: list[str]
) -> dict[str, int | None]:
    """Decide each scan's tile numbers: None: from file or coordinates; else count from there."""
    numbering: dict[str, int | None] = dict.fromkeys(scans["scan"])
    for slide, names in _multiple(scans).items():
        found = [facts[name] for name in names if name in facts]
        with_tile = [fact.has_tile for fact in found]
        if any(with_tile) and not all(with_tile):
            problems.append(f"slide {slide!r}: some of its files have 'tile' numbers, some do not")
        places = {fact.place for fact in found}
        if all(with_tile) or (len(places) == 1 and "" not in places):
            continue
        starts = np.cumsum([0, *(fact.num_tiles for fact in found)])
        numbering.update(zip((name for name in names if name in facts), map(int, starts), strict=False))
    return numbering
