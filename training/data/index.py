"""A data set as training sees it: its tables, what is wrong with it, and its classes."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from training.config import Task
from training.data import tables
from training.data.bags import Bag, BagReader, flaws
from training.data.outcomes import Outcome, read_outcomes
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """The tables of a data set.

    Args:
        root: its folder.
        index: one row per view and encoder, sorted by encoder and view; columns as in
            `tables.INDEX_TYPES`.
        cases: one row per patient: `patient`, labels, covariates.
        folds: held-out patients (`repetition`, `fold`, `patient`); None: the data came without.
    """

    root: Path
    index: pd.DataFrame
    cases: pd.DataFrame
    folds: pd.DataFrame | None


def read(root: Path) -> Dataset:
    """Read the tables of a data set; bags stay on disk.

    Raises:
        DataError: Tables are missing or malformed; all problems at once.
    """
    index, cases, folds = tables.read(root)
    return Dataset(root=root, index=index, cases=cases, folds=folds)


def missing_encoders(dataset: Dataset, encoders: Sequence[str]) -> list[str]:
    """Name the encoders that have no views at all, in the given order."""
    present = set(dataset.index["encoder"].unique())
    return [encoder for encoder in encoders if encoder not in present]


def scans(dataset: Dataset, encoder: str) -> pd.DataFrame:
    """Give the scans of an encoder, ordered by view id; augmented views are none."""
    table = dataset.index
    own = table[(table["encoder"] == encoder) & (table["source_scan"] == "")]
    return own.sort_values("view", kind="stable").reset_index(drop=True)


def check(
    dataset: Dataset, *, encoders: Sequence[str], task: Task, num_checksums: int = 8
) -> list[str]:
    """List every problem of the views, labels and shards that training would meet, one a line.

    An encoder that is wholly absent is not a problem here (`missing_encoders`), nor is an empty
    label: `folds.split` refuses it for a patient who takes part.

    Args:
        dataset: what to check.
        encoders: whose views.
        task: whose labels.
        num_checksums: bags per encoder that are read in full and compared with their checksum.
    """
    index = dataset.index[dataset.index["encoder"].isin(encoders)]
    lines = [
        *tables.repeated_patients(dataset.cases),
        *tables.contradictions(index, dataset.cases),
        *_label_problems(dataset, task),
    ]
    sound = []
    for shard, rows in index.groupby("shard", sort=True):
        found = _shard_problems(dataset.root / str(shard), rows)
        lines += found
        sound += [] if found else [str(shard)]
    for _, rows in index[index["shard"].isin(sound)].groupby("encoder", sort=True):
        drawn = np.unique(np.linspace(0, len(rows) - 1, min(num_checksums, len(rows))).round())
        lines += _bag_problems(dataset.root, rows.iloc[drawn.astype(int)])
    return lines


def classes(dataset: Dataset, task: Task) -> tuple[str, ...]:
    """Order the classes of a task: as configured, else the sorted labels of patients with views.

    Of a survival task: censored, event.

    Raises:
        DataError: There is no such label, or the number of classes does not fit the task.
    """
    if task.kind == "survival":
        return ("censored", "event")
    return _ordered(dataset, task, set(_labels(dataset, task).values()) - {""})


def class_numbers(dataset: Dataset, task: Task) -> dict[str, int]:
    """Give each patient with views and a label the number of their class, in order of patients.

    Of a survival task: 1 for an event and 0 for censored, so that splits keep the share of events;
    0 for all where nobody is censored.

    Raises:
        DataError: A label is not a class, or an outcome wrong; all patients at once.
    """
    if task.kind == "survival":
        known = outcomes(dataset, task)
        everyone = all(outcome.event for outcome in known.values())
        return {each: int(outcome.event and not everyone) for each, outcome in known.items()}
    labels = _labels(dataset, task)
    names = _ordered(dataset, task, set(labels.values()) - {""})
    wrong = _wrong_labels(labels, task, names)
    if wrong:
        raise DataError("\n".join(wrong))
    numbers = {name: number for number, name in enumerate(names)}
    return {patient: numbers[label] for patient, label in labels.items() if label}


def outcomes(dataset: Dataset, task: Task) -> dict[str, Outcome]:
    """Give the outcome of each patient with views and an outcome, in order of patients.

    Raises:
        DataError: A column is missing or an outcome wrong; all problems at once.
    """
    found, problems = _outcomes(dataset, task)
    if problems:
        raise DataError("\n".join(problems))
    return found


def columns(task: Task) -> str:
    """Name the columns that hold what is predicted."""
    both = f"{task.survival.time} and {task.survival.event}"
    return both if task.kind == "survival" else task.label


def facts(dataset: Dataset, task: Task, numbers: Mapping[str, int]) -> Mapping[str, object]:
    """Give what a trial is told of each patient: the class number, or the outcome as text."""
    if task.kind != "survival":
        return numbers
    return {
        patient: json.dumps([outcome.time, int(outcome.event), *outcome.stratum])
        for patient, outcome in outcomes(dataset, task).items()
    }


def _outcomes(dataset: Dataset, task: Task) -> tuple[dict[str, Outcome], list[str]]:
    present = set(dataset.index["patient"].unique().tolist())
    path = dataset.root / "cases.parquet"
    return read_outcomes(dataset.cases, present, task.survival, path=path)


def _labels(dataset: Dataset, task: Task) -> dict[str, str]:
    """Give the label of each patient that has views and a case, sorted by patient."""
    if task.label not in dataset.cases.columns:
        near = get_close_matches(task.label, list(dataset.cases.columns), n=1)
        raise DataError(
            f"{dataset.root / 'cases.parquet'}: no column {task.label!r}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    column = dataset.cases[task.label]
    labels = column.astype("str").where(column.notna(), "").tolist()
    seen = set(dataset.index["patient"].unique().tolist())
    pairs = zip(dataset.cases["patient"].tolist(), labels, strict=True)
    return dict(sorted(pair for pair in pairs if pair[0] in seen))


def _ordered(dataset: Dataset, task: Task, found: Set[str]) -> tuple[str, ...]:
    names = task.classes or tuple(sorted(found))
    if len(names) < 2 or (task.kind == "binary" and len(names) > 2):
        wanted = "2 classes" if task.kind == "binary" else "at least 2 classes"
        shown = tables.joined(names[:5]) + (", …" if len(names) > 5 else "")
        raise DataError(
            f"{dataset.root / 'cases.parquet'}: column {task.label!r} has {len(names)} classes "
            f"({shown}), expected {wanted} for a {task.kind} task"
        )
    return names


def _label_problems(dataset: Dataset, task: Task) -> list[str]:
    if task.kind == "survival":
        return _outcome_problems(dataset, task)
    try:
        names = classes(dataset, task)
    except DataError as error:
        return [error.message]
    labels = _labels(dataset, task)
    present = set(labels.values())
    return _wrong_labels(labels, task, names) + [
        f"class {name!r} of {task.label}: no patient has it"
        for name in names
        if name not in present
    ]


def _outcome_problems(dataset: Dataset, task: Task) -> list[str]:
    try:
        found, problems = _outcomes(dataset, task)
    except DataError as error:
        return [error.message]
    if not problems and not any(outcome.event for outcome in found.values()):
        return [f"{dataset.root / 'cases.parquet'}: no patient with views has an event"]
    return problems


def _wrong_labels(labels: Mapping[str, str], task: Task, names: Sequence[str]) -> list[str]:
    return [
        f"patient {patient!r}: {task.label} is {label!r}, expected one of {tables.joined(names)}"
        for patient, label in labels.items()
        if label and label not in names
    ]


def _shard_problems(path: Path, rows: pd.DataFrame) -> list[str]:
    """Compare a shard's datasets with the rows of the index that lie in it."""
    if not path.exists():
        return [f"{path}: missing"]
    try:
        with h5py.File(path, "r") as file:
            found = {
                name: (file[name].shape, file[name].dtype.name)
                for name in ("embeddings", "tile", "coords")
                if isinstance(file.get(name), h5py.Dataset)
            }
    except OSError as error:
        return [f"{path}: not a readable HDF5 file: {error}"]
    if len(found) < 3:
        absent = sorted({"embeddings", "tile", "coords"} - found.keys())
        return [f"{path}: no dataset {tables.joined(absent)}"]
    shape, dtype = found["embeddings"]
    if len(shape) != 2:
        return [f"{path}: embeddings are {shape}, expected [rows, dim]"]
    num_rows = shape[0]
    lines = [
        f"{path}: {name} is {found[name]}, expected {wanted}"
        for name, wanted in (
            ("tile", ((num_rows,), "int32")),
            ("coords", ((num_rows, 2), "int32")),
        )
        if found[name] != wanted
    ]
    start, stop = rows["row_start"], rows["row_start"] + rows["num_tiles"]
    for row in rows[(rows["dtype"] != dtype) | (rows["dim"] != shape[-1])].itertuples():
        lines.append(
            f"{path}: embeddings are {dtype} {shape}, view {row.view!r} expects {row.dtype} "
            f"of width {row.dim}"
        )
    for row in rows[(start < 0) | (stop > num_rows)].itertuples():
        lines.append(f"{path}: has {num_rows} rows, view {row.view!r} lies outside")
    return lines


def _bag_problems(root: Path, rows: pd.DataFrame) -> list[str]:
    """Read bags in full: finite, and as they were written."""
    reader = BagReader(root)
    lines = []
    for row in rows[rows["num_tiles"] > 0].itertuples(index=False):
        bag = Bag(
            embeddings=reader.embeddings(row), tile=reader.tiles(row), coords=reader.coords(row)
        )
        where = f"{root / str(row.shard)}: view {row.view!r}"
        lines += [f"{where}: {problem}" for problem in flaws(bag, str(row.checksum))]
    return lines
