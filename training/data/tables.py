"""The three tables of a data set: index.parquet, cases.parquet and folds.parquet.

Knows their columns, reads and writes them (by rename, same rows give the same bytes) and says where
they contradict themselves. Does not open shards.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import DataError

VIEW_STRINGS = (
    *("patient", "slide", "scan", "view", "source_scan"),
    *("scanner", "site", "lab", "stain", "cohort"),
)
"""Columns that describe a view, whatever the encoder; an empty string means not known."""

INDEX_TYPES: dict[str, str] = {
    **dict.fromkeys(VIEW_STRINGS, "str"),
    "encoder": "str",
    "routine": "bool",
    "shard": "str",
    "row_start": "int64",
    "num_tiles": "int32",
    "dim": "int32",
    "dtype": "str",
    "tile_um": "float64",
    "mpp_read": "float64",
    "encoder_revision": "str",
    "precision": "str",
    "licence": "str",
    "checksum": "str",
}
"""Columns of index.parquet and their types, in order."""

FOLD_TYPES: dict[str, str] = {"repetition": "int64", "fold": "int64", "patient": "str"}
"""Columns of folds.parquet: the patients held out."""


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Read index, cases and folds; the index comes sorted by encoder and view.

    Raises:
        DataError: A table is missing, unreadable or has wrong columns; all problems at once.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is no folder, expected that of a data set")
    problems: list[str] = []
    index = _read(root / "index.parquet", INDEX_TYPES, problems)
    cases = _read(root / "cases.parquet", {"patient": "str"}, problems)
    folds = None
    if (root / "folds.parquet").exists():
        folds = _read(root / "folds.parquet", FOLD_TYPES, problems)
    if not problems and index.empty:
        problems.append(f"{root / 'index.parquet'}: has no rows")
    if problems:
        raise DataError(
            "\n".join(problems), hint="make the data set with `sweep index`; see design, On disk"
        )
    return index.sort_values(["encoder", "view"], ignore_index=True), cases, folds


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table by rename; the bytes depend on the rows and the library only."""
    partial = path.with_name(f".{path.name}.partial")
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, partial, compression="zstd")
    publish(partial, path)


def publish(partial: Path, path: Path) -> None:
    """Bring a finished file to disk and give it its name."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)


def contradictions(index: pd.DataFrame, cases: pd.DataFrame) -> list[str]:
    """List, one line each, what cannot be true of these views and patients."""
    return [
        *_duplicates(index),
        *_empty(index),
        *_disagreeing(index),
        *_wrong_routine(index),
        *_wrong_sources(index),
        *(
            f"patient {patient!r}: no row in cases.parquet"
            for patient in sorted(set(index["patient"]) - set(cases["patient"]))
        ),
    ]


def repeated_patients(cases: pd.DataFrame) -> list[str]:
    """List patients with several rows."""
    twice = cases["patient"][cases["patient"].duplicated()]
    return [f"patient {patient!r}: more than one row of cases" for patient in sorted(set(twice))]


def ambiguous(frame: pd.DataFrame, key: str, value: str) -> dict[str, list[str]]:
    """Find keys with several values, and their values, sorted."""
    pairs = frame[[key, value]].drop_duplicates()
    several = pairs[pairs[key].duplicated(keep=False)]
    return {
        str(name): sorted(map(str, values))
        for name, values in several.groupby(key, sort=True)[value]
    }


def joined(values: Iterable[str]) -> str:
    """Name values in a message."""
    return ", ".join(map(repr, values))


def _read(path: Path, types: dict[str, str], problems: list[str]) -> pd.DataFrame:
    try:
        frame = pd.DataFrame(pq.read_table(path).to_pandas())
    except FileNotFoundError:
        problems.append(f"{path}: missing")
        return pd.DataFrame(columns=list(types))
    except (OSError, pa.ArrowException) as error:
        problems.append(f"{path}: not a readable Parquet file: {error}")
        return pd.DataFrame(columns=list(types))
    absent = [name for name in types if name not in frame.columns]
    if absent:
        problems.append(f"{path}: missing columns: {', '.join(absent)}")
    for name in [name for name in types if name in frame.columns]:
        found, wanted = _type(frame[name]), types[name]
        if len(frame) and found.rstrip("0123456789") != wanted.rstrip("0123456789"):
            problems.append(f"{path}: column {name!r} is {found}, expected {wanted}")
        elif wanted == "str" and frame[name].isna().any():
            row = int(np.flatnonzero(frame[name].isna())[0])
            problems.append(f"{path}: column {name!r} is null in row {row}; write '' instead")
    return frame if problems else frame.astype(types)


def _type(column: "pd.Series[str]") -> str:
    """Name a column's type; any kind of string is str, integers of any width will do."""
    is_string = pd.api.types.is_string_dtype(column.dtype)
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    return "str" if is_string or categorical else str(column.dtype)


def _duplicates(index: pd.DataFrame) -> list[str]:
    twice = index[index.duplicated(["encoder", "view"])][["encoder", "view"]].drop_duplicates()
    return [
        f"view {view!r}: more than once for encoder {encoder!r}"
        for encoder, view in twice.itertuples(index=False)
    ]


def _empty(index: pd.DataFrame) -> list[str]:
    nameless = {
        name: int((index[name] == "").sum()) for name in ("patient", "slide", "scan", "view")
    }
    return [
        *(f"{count} views have no {name}" for name, count in nameless.items() if count),
        *(f"view {view!r}: has no tiles" for view in index["view"][index["num_tiles"] < 1]),
    ]


def _disagreeing(index: pd.DataFrame) -> list[str]:
    """Find slides of two patients, views that differ between encoders, encoders of two widths."""
    lines = [
        f"slide {slide!r}: belongs to several patients: {joined(patients)}"
        for slide, patients in ambiguous(index, "slide", "patient").items()
    ]
    for name in (*VIEW_STRINGS, "routine"):
        if name != "view":
            lines += [
                f"view {view!r}: {name} differs between rows: {joined(values)}"
                for view, values in ambiguous(index, "view", name).items()
            ]
    lines += [
        f"encoder {encoder!r}: embeddings of several widths: {', '.join(widths)}"
        for encoder, widths in ambiguous(index, "encoder", "dim").items()
    ]
    return lines


def _wrong_routine(index: pd.DataFrame) -> list[str]:
    count = index.groupby(["encoder", "slide"])["routine"].sum().reset_index()
    wrong = count[count["routine"] != 1]
    return [
        f"slide {slide!r}: {number} routine scans for encoder {encoder!r}, expected 1"
        for encoder, slide, number in wrong.itertuples(index=False)
    ]


def _wrong_sources(index: pd.DataFrame) -> list[str]:
    plain = index["source_scan"] == ""
    views = index[["slide", "scan", "view", "source_scan", "routine"]]
    scans = set(views.loc[plain, ["slide", "scan"]].itertuples(index=False, name=None))
    lines = [
        f"view {view!r}: is a scan, so its view and scan names must be equal, scan is {scan!r}"
        for view, scan in views.loc[plain & (index["view"] != index["scan"]), ["view", "scan"]]
        .drop_duplicates()
        .itertuples(index=False)
    ]
    for row in views[~plain].drop_duplicates().itertuples(index=False):
        if (row.slide, row.source_scan) not in scans:
            lines.append(f"view {row.view!r}: source_scan {row.source_scan!r} does not exist")
        if row.routine:
            lines.append(f"view {row.view!r}: is augmented, so it cannot be the routine scan")
    return lines
