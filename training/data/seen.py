"""Which scans of a data set a trial may train on, and which of a slide is its routine scan.

A scan is not seen if its scanner is an unseen one or if it has the value that the fold leaves out.
"""

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.config import LeaveOneOutFolds, TrialConfig, left_out, unseen_scanners
from training.data import tables
from training.data.index import Dataset
from training.errors import DataError


def column(dataset: Dataset, views: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Give a column of the views; the cohort comes from the cases where no view says one."""
    found: pd.Series[str] = views[name]
    if name != "cohort" or "cohort" not in dataset.cases.columns or (found != "").any():
        return found
    cohort = dict(zip(dataset.cases["patient"], dataset.cases["cohort"], strict=True))
    return views["patient"].map(cohort).fillna("")


def is_left_out(
    dataset: Dataset, views: pd.DataFrame, config: TrialConfig
) -> npt.NDArray[np.bool_] | None:
    """Tell which views have the value that the fold leaves out; None where it leaves out none."""
    pair = left_out(config.folds, config.fold)
    if pair is None:
        return None
    return (column(dataset, views, pair[0]) == pair[1]).to_numpy(bool)


def is_seen(dataset: Dataset, views: pd.DataFrame, config: TrialConfig) -> npt.NDArray[np.bool_]:
    """Tell which scans may train and validate, if their patient does."""
    away = views["scanner"].isin(unseen_scanners(config)).to_numpy(bool)
    value = is_left_out(dataset, views, config)
    return ~away if value is None else ~(away | value)


def routine(dataset: Dataset, views: pd.DataFrame, config: TrialConfig) -> npt.NDArray[np.bool_]:
    """Tell which scans are routine.

    A slide whose routine scan is of the value that the fold leaves out has its first seen scan, in
    order of view ids, in place of it: a scanner that made all routine scans can be left out too.
    """
    marked: npt.NDArray[np.bool_] = views["routine"].to_numpy(bool)
    value = is_left_out(dataset, views, config)
    if value is None or not (marked & value).any():
        return marked
    scans = is_seen(dataset, views, config) & (views["source_scan"] == "").to_numpy(bool)
    slide = views["slide"].to_numpy(object)
    order = np.argsort(views["view"].to_numpy(object).astype(str), kind="stable")
    without = set(slide[marked & value])
    stands_in = np.zeros(len(views), bool)
    for row in order[scans[order]].tolist():
        if slide[row] in without:
            without.discard(slide[row])
            stands_in[row] = True
    return (marked & ~value) | stands_in


def require_known(dataset: Dataset, views: pd.DataFrame, config: TrialConfig) -> None:
    """Refuse the name of an unseen scanner, or of a value to leave out, that no scan has.

    Raises:
        DataError: All such names, with what there is.
    """
    where = f"encoder {config.encoder!r} has no scan"
    lines = list(
        unknown("unseen_scanners", f"{where} on", config.unseen_scanners, views["scanner"])
    )
    folds = config.folds
    if isinstance(folds, LeaveOneOutFolds):
        there = column(dataset, views, folds.column)
        what = f"{where} of {folds.column}"
        if not (there != "").any():
            lines.append(
                f"folds.column: no scan of encoder {config.encoder!r} has a "
                f"{folds.column}: the column is empty"
            )
        else:
            lines += unknown("folds.values", what, folds.values, there)
    if lines:
        raise DataError("\n".join(lines))


def unknown(key: str, lacks: str, names: Iterable[str], there: Iterable[str]) -> Iterable[str]:
    """Say which names are not there, and what may be meant."""
    names = list(names)
    known = sorted(set(there) - {""}) if names else []
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            yield f"{key}: {lacks} {name!r}; " + (
                f"did you mean {near[0]!r}?" if near else f"it has {_some(known)}"
            )


def _some(names: list[str]) -> str:
    return tables.joined(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
