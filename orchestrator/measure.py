"""The metrics of every trial, from predictions of thousands of trials in one pass; pure.

A trial is measured on its held-out patients. The score of a patient on a scanner is the mean over
the patient's slides there; a scanner is seen unless the trial kept it out of training. Then

    auroc, accuracy, balanced_accuracy   mean over the seen scanners. Classes by the threshold fixed
                                         in training (score >= threshold), or the largest logit;
                                         multi-class AUROC is macro one-against-the-rest
    worst_scanner_auroc                  the lowest of the seen scanners, where there are two
    unseen_scanner_auroc                 mean over the scanners that are not seen
    inconsistency                        over all scanners of a slide; with several classes the mean
                                         over class logits, centred over classes
    flip_rate                            over all scanners of a patient

A scanner on which a metric is not defined (AUROC of one class) is left out of that trial's mean.
The order of the rows never changes a bit of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator.errors import StoreError
from training.metrics import accuracy, robustness

METRICS = (
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "inconsistency",
    "flip_rate",
    "worst_scanner_auroc",
    "unseen_scanner_auroc",
)


def trials(
    threshold: pd.Series, predictions: pd.DataFrame, *, unseen: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Measure trials on their held-out patients.

    Args:
        threshold: decision threshold of each trial to measure, on the score; indexed by trial id.
            Not used where scores are per class.
        predictions: a row per trial and scan, also of other trials; no augmented views.
        unseen: for each trial, in the order of `threshold`, the scanners kept out of training.

    Returns:
        A row per trial, columns `METRICS`; NaN where a metric does not apply.

    Raises:
        StoreError: A scan is predicted twice, a trial has no held-out predictions or no threshold,
            or a score is not finite.
    """
    ids = pd.Index(threshold.index)
    if not len(ids):
        return pd.DataFrame(index=ids, columns=list(METRICS), dtype=np.float64)
    rows = _read(predictions, ids)
    num_classes = rows.score.shape[1]
    if num_classes == 1 and threshold.isna().any():
        raise StoreError(f"trial {ids[threshold.isna()][0]} has no threshold")
    case = _averaged(rows, rows.patient)
    if num_classes == 1:
        cut = threshold.to_numpy(np.float64)[case.trial]
        predicted = (case.score[:, 0] >= cut).astype(np.int64)
    else:
        predicted = case.score.argmax(1)
    away = np.array([[name in names for name in rows.scanners] for names in unseen])
    flips = robustness.grouped_flip_rate(predicted, case.member, case.trial, len(ids))
    measured = {
        **_by_scanner(case, predicted, away),
        "inconsistency": _inconsistency(_averaged(rows, rows.slide), len(ids)),
        "flip_rate": flips,
    }
    return pd.DataFrame(measured, index=ids, columns=list(METRICS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Held-out predictions; names are replaced by numbers in sorted order."""

    trial: np.ndarray
    patient: np.ndarray
    slide: np.ndarray
    view: np.ndarray
    scanner: np.ndarray
    label: np.ndarray
    score: np.ndarray  # [row, column]: one logit, or one per class
    scanners: pd.Index


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """Mean score of a member, a patient or a slide, on a scanner; a row each."""

    trial: np.ndarray
    member: np.ndarray
    scanner: np.ndarray
    label: np.ndarray
    score: np.ndarray  # [row, column]


def _read(predictions: pd.DataFrame, ids: pd.Index) -> _Rows:
    names = ["trial", "patient", "slide", "view", "scanner"]
    rows = predictions.reindex(columns=[*names, "held_out", "label", "score"])
    rows = rows[rows["held_out"].eq(True) & rows["trial"].isin(ids)]
    code = {name: _codes(rows[name]) for name in names}
    trial = ids.get_indexer(code["trial"][1])[code["trial"][0]]
    found = np.bincount(trial, minlength=len(ids)) > 0
    if not found.all():
        raise StoreError(f"trial {ids[~found][0]} is done but has no held-out predictions")
    view, views = code["view"]
    twice = np.flatnonzero(pd.Series(trial * len(views) + view).duplicated())
    if len(twice):
        row = rows.iloc[twice[0]]
        raise StoreError(f"trial {row['trial']}: view {row['view']!r} is predicted twice")
    score = _matrix(rows["score"])
    finite = np.isfinite(score).all(1)
    if not finite.all():
        raise StoreError(
            f"trial {rows['trial'].iloc[np.argmin(finite)]} has a score that is not finite"
        )
    return _Rows(
        trial=trial,
        patient=code["patient"][0],
        slide=code["slide"][0],
        view=view,
        scanner=code["scanner"][0],
        label=rows["label"].to_numpy(np.int64),
        score=score,
        scanners=code["scanner"][1],
    )


def _codes(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Number the values of a column in sorted order: each row's number, and the values."""
    category = column.astype("category").cat
    order = category.categories.argsort()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[category.codes.to_numpy()], category.categories[order]


def _matrix(scores: pd.Series) -> np.ndarray:
    """Stack scores to [row, column]: one column for plain numbers, else one per class."""
    if scores.dtype != object:
        return scores.to_numpy(np.float64)[:, None]
    return np.concatenate(scores.to_list(), dtype=np.float64).reshape(len(scores), -1)


def _averaged(rows: _Rows, member: np.ndarray) -> _Means:
    """Average the scores of each trial, member and scanner."""
    num_members, num_scanners = int(member.max()) + 1, len(rows.scanners)
    key = (rows.trial * num_members + member) * num_scanners + rows.scanner
    # Views are in order too: sums then do not depend on the order of rows in the segments.
    order = np.argsort(key * (int(rows.view.max()) + 1) + rows.view, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(starts, append=len(key))
    first = order[starts]
    return _Means(
        trial=rows.trial[first],
        member=member[first],
        scanner=rows.scanner[first],
        label=rows.label[first],
        score=np.add.reduceat(rows.score[order], starts, axis=0) / counts[:, None],
    )


def _by_scanner(case: _Means, predicted: np.ndarray, unseen: np.ndarray) -> dict[str, np.ndarray]:
    """Measure each trial on each scanner, and average; `unseen` is [trial, scanner]."""
    num_columns, shape, size = case.score.shape[1], unseen.shape, unseen.size
    group = case.trial * shape[1] + case.scanner
    if num_columns == 1:
        area = accuracy.grouped_auroc(case.label, case.score[:, 0], group, size)
    else:
        area = accuracy.grouped_multiclass_auroc(case.label, case.score, group, size)
    plain, balanced = accuracy.grouped_accuracy(
        case.label, predicted, group, size, num_classes=max(2, num_columns)
    )
    area = area.reshape(shape)
    return {
        "accuracy": _mean(plain.reshape(shape), ~unseen),
        "balanced_accuracy": _mean(balanced.reshape(shape), ~unseen),
        "auroc": _mean(area, ~unseen),
        "worst_scanner_auroc": _worst(area, ~unseen),
        "unseen_scanner_auroc": _mean(area, unseen),
    }


def _inconsistency(slide: _Means, num_trials: int) -> np.ndarray:
    score = slide.score
    if score.shape[1] > 1:
        score = score - score.mean(1, keepdims=True)
    columns = [
        robustness.grouped_inconsistency(column, slide.member, slide.trial, num_trials)
        for column in score.T
    ]
    mean: np.ndarray = np.stack(columns).mean(0)
    return mean


def _mean(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Average each row over the columns to use where it is defined; NaN where there is none."""
    use = use & ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        mean: np.ndarray = np.where(use, values, 0).sum(1) / use.sum(1)
    return mean


def _worst(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Find each row's lowest value among the columns to use; NaN with fewer than two."""
    use = use & ~np.isnan(values)
    lowest = np.where(use, values, np.inf).min(1)
    return np.where(use.sum(1) > 1, lowest, np.nan)
