"""Reads the tables that users write: slides, folds and instances. Collects every problem by line.

Functions append to `problems` and return what could be read.
"""

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.data import tables
from training.errors import DataError

DESCRIBING = ("scanner", "site", "lab", "stain", "cohort")
SLIDE_COLUMNS = ("slide", "scan", "patient", *DESCRIBING, "routine", "file", "source_scan")
"""Columns of a slide table with a meaning; all others are labels or covariates of the patient."""

TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slides:
    """A slide table.

    Args:
        scans: one row per scan: `slide scan patient scanner site lab stain cohort file source_scan`
            (strings) and `routine` (bool); with a `source_scan`, a view made from that scan.
        cases: one row per patient.
    """

    scans: pd.DataFrame
    cases: pd.DataFrame


def read_slides(path: Path, problems: list[str], *, further: Sequence[str] = ()) -> Slides:
    """Read a CSV of scans; see `SLIDE_COLUMNS`.

    Args:
        path: the file.
        problems: is appended to.
        further: columns that describe the scan, too, and are no labels; empty where not there.

    Raises:
        DataError: The file has no rows, or not the columns `slide` and `patient`.
    """
    columns = (*SLIDE_COLUMNS, *further)
    header, rows = _read_csv(path, problems)
    _need(path, header, ("slide", "patient"), columns)
    covariates = [name for name in header if name not in columns]
    absent = [name for name in columns if name not in header]
    for name in covariates:
        near = get_close_matches(name.casefold(), absent, 1, 0.8)
        if near:
            problems.append(f"{path}: column {name!r}: did you mean {near[0]!r}?")
    scans, first_line = [], dict[str, int]()
    for line, row in rows:
        empty = [name for name in ("slide", "patient") if not row[name]]
        if empty:
            problems.append(f"{path}:{line}: no {' and no '.join(empty)}")
            continue
        scan = row.get("scan") or row["slide"]
        if scan in first_line:
            problems.append(
                f"{path}:{line}: scan {scan!r} again, first in line {first_line[scan]}; give each "
                "scan its own name in a column 'scan'"
            )
            continue
        first_line[scan] = line
        routine = row.get("routine", "").casefold()
        if routine not in TRUE + FALSE:
            problems.append(f"{path}:{line}: routine is {row['routine']!r}, expected 1 or 0")
        known = {name: row.get(name, "") for name in columns}
        scans.append({**known, "scan": scan, "routine": routine in TRUE})
    cases = _cases(path, rows, [*covariates, *(["cohort"] if "cohort" in header else [])], problems)
    frame = pd.DataFrame(scans, columns=list(columns))
    return Slides(scans=_with_routine(frame), cases=cases)


def read_folds(
    path: Path, patient_of: Mapping[str, Mapping[str, str]], problems: list[str]
) -> pd.DataFrame | None:
    """Read a CSV of held-out patients: `repetition` (optional), `fold`, and who.

    Args:
        path: the file.
        patient_of: for each column that may say who (`patient`, `slide`, `bag`), from its values
            to the patient.
        problems: is appended to.
    """
    try:
        header, rows = _read_csv(path, problems)
        keys = [name for name in patient_of if name in header]
        _need(path, header, ("fold", *([] if keys else ["patient"])), ("fold", *patient_of))
    except DataError as error:
        problems.append(error.message)
        return None
    held = dict[tuple[int, str], int]()
    for line, row in rows:
        key = row[keys[0]]
        patient = patient_of[keys[0]].get(key)
        numbers = [row.get("repetition") or "0", row["fold"]]
        if patient is None:
            problems.append(f"{path}:{line}: {keys[0]} {key!r} is not in the data")
        elif not all(text.isascii() and text.isdigit() for text in numbers):
            problems.append(f"{path}:{line}: repetition and fold must be numbers from 0")
        elif max(map(len, numbers)) > 6:
            problems.append(f"{path}:{line}: repetition or fold is too large: {max(numbers)!r}")
        else:
            repetition, fold = map(int, numbers)
            if held.setdefault((repetition, patient), fold) != fold:
                problems.append(
                    f"{path}:{line}: patient {patient!r} is held out in fold {fold} and in fold "
                    f"{held[repetition, patient]} of repetition {repetition}"
                )
    folds = pd.DataFrame(
        [(repetition, fold, patient) for (repetition, patient), fold in held.items()],
        columns=list(tables.FOLD_TYPES),
    )
    problems += _numbering(path, folds)
    return folds


def read_instances(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read a CSV or Parquet table of instances; the named columns come as strings.

    Raises:
        DataError: It cannot be read or misses a named column.
    """
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    path,
                    dtype=dict.fromkeys(names, "str"),
                    encoding="utf-8-sig",
                    index_col=False,
                    keep_default_na=False,
                    low_memory=False,
                )
    except (OSError, ValueError, pd.errors.ParserWarning, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    frame.columns = frame.columns.astype("str").str.strip()
    _need(path, list(frame.columns), names, names)
    if frame.empty:
        raise DataError(f"{path}: has no rows")
    return frame.assign(**{name: _text(frame[name]) for name in names})


def numeric(path: Path, frame: pd.DataFrame, problems: list[str]) -> np.ndarray:
    """Turn columns into [rows, columns] float32; cells that are no finite number are problems."""
    if frame.columns.empty:
        problems.append(f"{path}: no columns beside bag, label and patient")
    columns = [np.empty((len(frame), 0), np.float32)]
    for name in frame.columns:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            columns.append(values.astype(np.float32)[:, None])
        wrong = np.flatnonzero(~np.isfinite(columns[-1]))
        if len(wrong):
            cell = frame[name].iloc[wrong[0]]
            problems.append(
                f"{path}: column {name!r}: {len(wrong)} cells are no finite number, the first is "
                f"{str(cell)!r} in row {wrong[0] + 1}"
            )
    return np.concatenate(columns, axis=1)


def _read_csv(
    path: Path, problems: list[str]
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        lines = list(_lines(path))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path}: has no rows below its header")
    header = lines[0][1]
    if len(set(header)) < len(header):
        raise DataError(f"{path}: a column name occurs twice in {tables.joined(header)}")
    rows = []
    for line, cells in lines[1:]:
        if "\0" in "".join(cells):
            problems.append(f"{path}:{line}: a cell holds a NUL character")
        elif len(cells) == len(header):
            rows.append((line, dict(zip(header, cells, strict=True))))
        else:
            problems.append(f"{path}:{line}: {len(cells)} cells, the header has {len(header)}")
    return header, rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]


def _need(path: Path, header: Sequence[str], needed: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a table without the needed columns; suggest what may be meant."""
    strange = [name for name in header if name not in known]
    lines = []
    for name in needed:
        if name not in header:
            found = get_close_matches(name, [text.casefold() for text in strange], 1, 0.6)
            meant = [text for text in strange if text.casefold() in found]
            hint = f"; is it {meant[0]!r}?" if meant else f"; there are {tables.joined(header[:9])}"
            lines.append(f"{path}: no column {name!r}{hint}")
    if lines:
        raise DataError("\n".join(lines), hint="rename the column in the file")


def _cases(
    path: Path,
    rows: Sequence[tuple[int, dict[str, str]]],
    names: Sequence[str],
    problems: list[str],
) -> pd.DataFrame:
    """Take a patient's values from all their rows; an empty cell says nothing."""
    cases = dict[str, dict[str, str]]()
    for line, row in rows:
        patient = row["patient"]
        if not patient:
            continue
        case = cases.setdefault(patient, {"patient": patient, **dict.fromkeys(names, "")})
        for name in names:
            if row[name] and case[name] not in ("", row[name]):
                problems.append(
                    f"{path}:{line}: {name} of patient {patient!r} is {row[name]!r}, and "
                    f"{case[name]!r} in an earlier line"
                )
            case[name] = case[name] or row[name]
    return pd.DataFrame(cases.values(), columns=["patient", *names])


def _with_routine(scans: pd.DataFrame) -> pd.DataFrame:
    """Make the first scan the routine one where none is marked."""
    marked = scans.groupby("slide")["routine"].transform("any")
    first = scans.index.isin(scans[scans["source_scan"] == ""].drop_duplicates("slide").index)
    return scans.assign(routine=scans["routine"] | (first & ~marked))


def _numbering(path: Path, folds: pd.DataFrame) -> list[str]:
    lines = []
    repetitions = sorted(set(folds["repetition"]))
    if repetitions != list(range(len(repetitions))):
        lines.append(f"{path}: repetitions are {repetitions}, expected 0 to n - 1")
    for repetition, group in folds.groupby("repetition"):
        found = sorted(set(group["fold"]))
        if found != list(range(len(found))):
            lines.append(f"{path}: repetition {repetition} has folds {found}, expected 0 to n - 1")
    return lines


def _text(column: "pd.Series[str]") -> "pd.Series[str]":
    """Write values as text; a whole number has no decimal point."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        return column.astype("Int64").astype("str").where(column.notna(), "")
    return column.astype("str").where(column.notna(), "").str.strip()
