"""The scores that trials are measured on: means of patients and slides on scanners; pure.

Only held-out patients are here. The score of a member, a patient or a slide, on a scanner is the
mean over its scans there. A scan whose scanner is not known (an empty name) is left out where other
scans of the trial name theirs, as in validation. The order of the rows never changes a bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator.errors import StoreError

OUTCOME = ("time", "event", "uno_weight")
"""Columns of predictions that tell what became of a patient, see `training.evaluation`."""

_SPARSE = 64
"""Bytes a row that a mark of each possible row may take; it is quicker than a hash table."""

_ROWS = 2**17
"""Rows measured at once, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Mean score of a member, a patient or a slide, on a scanner; a row each.

    Rows are in the order of trial, member and scanner.
    """

    trial: np.ndarray
    member: np.ndarray
    scanner: np.ndarray
    label: np.ndarray
    score: np.ndarray  # [row, column]: one logit or risk, or one per class
    told: np.ndarray  # [row, OUTCOME] of a survival task; of classes [row, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """What all tables are measured on.

    Attributes:
        ids: trials; in `Means` they are numbers, places in it.
        scanners: names; in `Means` they are numbers, places in it.
        seen: [trial, scanner], whether the trial trained on the scanner.
        patient: scores of patients.
        slide: scores of slides.
        predicted: class of each row of `patient`; None of a survival task, whose risks have none.
        patients: names; in `patient` they are numbers, places in it.
        owner: number of the patient of each row of `slide`.
    """

    ids: pd.Index
    scanners: pd.Index
    seen: np.ndarray
    patient: Means
    slide: Means
    predicted: np.ndarray | None
    patients: pd.Index
    owner: np.ndarray


def cases(
    threshold: pd.Series,
    predictions: pd.DataFrame,
    *,
    unseen: Sequence[Sequence[str]],
    survival: bool = False,
) -> Cases:
    """Average scores and decide on classes.

    Args:
        threshold: decision threshold of each trial to measure, at least one, on the score; indexed
            by trial id. Not used where scores are per class, or risks.
        predictions: a row per trial and scan, also of other trials; no augmented views.
        unseen: for each trial, in the order of `threshold`, the scanners kept out of training.
        survival: whether the trials are of a survival task; then `OUTCOME` is read.

    Raises:
        StoreError: A scan is predicted twice, a trial has no held-out predictions, no threshold or
            no outcome, or a score is not finite.
    """
    ids = pd.Index(threshold.index)
    rows = _read(predictions, ids, OUTCOME if survival else ())
    case, _ = _averaged(rows, rows.patient)
    slide, first = _averaged(rows, rows.slide)
    predicted = None if survival else _classes(case, threshold)
    return Cases(
        ids=ids,
        scanners=rows.scanners,
        seen=np.array([[name not in names for name in rows.scanners] for names in unseen]),
        patient=case,
        slide=slide,
        predicted=predicted,
        patients=rows.patients,
        owner=rows.patient[first],
    )


def alike(ids: pd.Index, predictions: pd.DataFrame) -> list[np.ndarray]:
    """Part trials by how many scores a scan has of them: the tasks of a sweep may differ in that.

    Args:
        ids: of trials.
        predictions: a row per trial and scan, also of other trials.

    Returns:
        Places in `ids`, by rising number of scores; a trial without predictions is with the first.
    """
    if predictions.empty or predictions["score"].dtype != object:
        return [np.arange(len(ids))]
    first = predictions.drop_duplicates("trial")
    width = pd.Series(first["score"].map(np.size).to_numpy(), index=first["trial"].astype("str"))
    own = width.reindex(ids.astype("str")).fillna(width.min()).to_numpy()
    return [np.flatnonzero(own == each) for each in np.unique(own)]


def _classes(case: Means, threshold: pd.Series) -> np.ndarray:
    """Decide on the class of each patient on a scanner."""
    classes: np.ndarray
    if case.score.shape[1] > 1:
        classes = case.score.argmax(1)
        return classes
    if threshold.isna().any():
        raise StoreError(f"trial {threshold.index[threshold.isna()][0]} has no threshold")
    cut = threshold.to_numpy(np.float64)[case.trial]
    classes = (case.score[:, 0] >= cut).astype(np.int64)
    return classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Patients of some trials; `group` numbers trial and scanner, from 0 to `num_groups` - 1."""

    trials: slice
    group: np.ndarray
    num_groups: int
    label: np.ndarray
    score: np.ndarray
    told: np.ndarray
    predicted: np.ndarray  # empty of a survival task

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return max(2, int(self.score.shape[1]))


def parts(found: Cases) -> Iterator[Part]:
    """Part the patients by trials: arrays then stay in a cache."""
    case, num_scanners, start = found.patient, len(found.scanners), 0
    while start < len(case.trial):
        last = int(case.trial[min(start + _ROWS, len(case.trial)) - 1])
        rows = slice(start, int(np.searchsorted(case.trial, last, side="right")))
        trials = slice(int(case.trial[start]), last + 1)
        yield Part(
            trials=trials,
            group=(case.trial[rows] - trials.start) * num_scanners + case.scanner[rows],
            num_groups=(trials.stop - trials.start) * num_scanners,
            label=case.label[rows],
            score=case.score[rows],
            told=case.told[rows],
            predicted=np.empty(0, np.int64) if found.predicted is None else found.predicted[rows],
        )
        start = rows.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Held-out predictions; names are replaced by numbers in sorted order."""

    trial: np.ndarray
    patient: np.ndarray
    slide: np.ndarray
    view: np.ndarray
    scanner: np.ndarray
    label: np.ndarray
    score: np.ndarray  # [row, column]: one logit or risk, or one per class
    told: np.ndarray  # [row, column]
    scanners: pd.Index
    patients: pd.Index


def _read(predictions: pd.DataFrame, ids: pd.Index, told: Sequence[str]) -> _Rows:
    names = ["trial", "patient", "slide", "view", "scanner"]
    absent = [name for name in told if name not in predictions.columns]
    if absent:
        raise StoreError(f"predictions.parquet: no column {', '.join(absent)} of a survival task")
    rows = predictions.reindex(columns=[*names, "held_out", "label", "score", *told])
    rows = rows[rows["held_out"].eq(True) & rows["trial"].isin(ids)]
    if (unknown := rows["scanner"].eq("")).any():
        rows = rows[~unknown | ~rows["trial"].isin(rows.loc[~unknown, "trial"])]
    code = {name: _codes(rows[name]) for name in names}
    trial = ids.get_indexer(code["trial"][1])[code["trial"][0]]
    found = np.bincount(trial, minlength=len(ids)) > 0
    if not found.all():
        raise StoreError(f"trial {ids[~found][0]} is done but has no held-out predictions")
    view, views = code["view"]
    twice = _repeated(trial * len(views) + view, len(ids) * len(views))
    if len(twice):
        row = rows.iloc[twice[0]]
        raise StoreError(f"trial {row['trial']}: view {row['view']!r} is predicted twice")
    score = _matrix(rows["score"])
    finite = np.isfinite(score).all(1)
    if not finite.all():
        raise StoreError(
            f"trial {rows['trial'].iloc[np.argmin(finite)]} has a score that is not finite"
        )
    outcome = rows[list(told)].to_numpy(np.float64)
    known = ~np.isnan(outcome).any(1)
    if not known.all():
        raise StoreError(
            f"trial {rows['trial'].iloc[np.argmin(known)]} has a prediction without an outcome"
        )
    return _Rows(
        trial=trial,
        patient=code["patient"][0],
        slide=code["slide"][0],
        view=view,
        scanner=code["scanner"][0],
        label=rows["label"].to_numpy(np.int64),
        score=score,
        told=outcome,
        scanners=code["scanner"][1],
        patients=code["patient"][1],
    )


def _repeated(keys: np.ndarray, number: int) -> np.ndarray:
    """Give the places of keys, from 0 to `number` - 1, that stood before."""
    if number <= _SPARSE * len(keys):
        there = np.zeros(number, dtype=bool)
        there[keys] = True
        if np.count_nonzero(there) == len(keys):
            return np.empty(0, dtype=np.int64)
    return np.flatnonzero(pd.Series(keys).duplicated())


def _codes(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Number the values of a column in sorted order: each row's number, and the values."""
    category = column.astype("category").cat
    order = category.categories.argsort()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[category.codes.to_numpy()], category.categories[order]


def _matrix(scores: pd.Series) -> np.ndarray:
    """Stack scores to [row, column]: one column for plain numbers, else one per class."""
    if scores.dtype != object or np.ndim(scores.iloc[0]) == 0:
        return scores.to_numpy(np.float64)[:, None]
    width = len(scores.iloc[0])
    if (scores.map(len) != width).any():
        raise StoreError("predictions.parquet: scans of one trial differ in their number of scores")
    return np.concatenate(scores.to_list(), dtype=np.float64).reshape(-1, width)


def _averaged(rows: _Rows, member: np.ndarray) -> tuple[Means, np.ndarray]:
    """Average the scores of each trial, member and scanner; and give a row of each."""
    num_members, num_scanners = int(member.max()) + 1, len(rows.scanners)
    key = (rows.trial * num_members + member) * num_scanners + rows.scanner
    # Views are in order too: sums then do not depend on the order of rows in the segments.
    place = key * (int(rows.view.max()) + 1) + rows.view
    if (np.diff(place) >= 0).all():
        order = np.arange(len(key))
    else:
        order = np.argsort(place, kind="stable")
        key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(starts, append=len(key))
    first = order[starts]
    score = rows.score[order]
    if len(starts) < len(key):
        score = np.add.reduceat(score, starts, axis=0) / counts[:, None]
    means = Means(
        trial=rows.trial[first],
        member=member[first],
        scanner=rows.scanner[first],
        label=rows.label[first],
        told=rows.told[first],
        score=score,
    )
    return means, first
