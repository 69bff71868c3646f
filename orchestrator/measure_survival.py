"""The metrics of every trial of a survival task; pure.

Patients, scores and scanners are as in `measure`; the score is the risk. Then

    concordance                  Harrell's; mean over the seen scanners
    uno_concordance              Uno's, weights and truncation from the training patients (the
                                 truncation time is their last event); mean over the seen scanners
    hazard_ratio                 per SD of the score on the scanner, of Cox's model with the score
                                 alone; geometric mean over the seen scanners
    inconsistency                as in `measure`
    flip_rate                    empty: a risk has no classes
    worst_scanner_concordance    the lowest of the seen scanners, where there are two
    unseen_scanner_concordance   mean over the scanners that are not seen

A scanner on which a metric is not defined (no comparable pair; scores that order the events without
fault have no hazard ratio) is left out of that trial's mean. The order of the rows never changes a
bit of the result.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from orchestrator import measure
from orchestrator.errors import StoreError
from training.metrics.concordance import grouped_concordance
from training.metrics.hazard import grouped_log_hazard_ratio

METRICS = (
    "concordance",
    "uno_concordance",
    "hazard_ratio",
    "inconsistency",
    "flip_rate",
    "worst_scanner_concordance",
    "unseen_scanner_concordance",
)

_TOLD = ("time", "event", "uno_weight")


def trials(
    threshold: pd.Series, predictions: pd.DataFrame, *, unseen: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Measure trials on their held-out patients.

    Args:
        threshold: not used but for its index, the trial ids.
        predictions: a row per trial and scan, also of other trials; no augmented views.
        unseen: for each trial, the scanners kept out of training.

    Returns:
        A row per trial, columns `METRICS`; NaN where a metric does not apply.

    Raises:
        StoreError: The predictions are damaged (`measure.trials`), or tell no outcomes.
    """
    ids = pd.Index(threshold.index)
    found = measure.trials(threshold, predictions, unseen=unseen)
    made = pd.DataFrame(index=ids, columns=list(METRICS), dtype=np.float64)
    if not len(ids):
        return made
    case, scanners = _cases(predictions, ids)
    group = (case["trial"] * len(scanners) + case["scanner"]).to_numpy()
    size, shape = len(ids) * len(scanners), (len(ids), len(scanners))
    time, event, weight, score = (case[name].to_numpy() for name in (*_TOLD, "score"))
    died = event > 0
    harrell, uno = grouped_concordance(time, died, score, group, size, died * 1.0, weight)
    ratio = grouped_log_hazard_ratio(time, died, score, group, size)
    harrell, uno, ratio = (each.reshape(shape) for each in (harrell, uno, ratio))
    away = np.array([[name in names for name in scanners] for names in unseen])
    made["concordance"] = measure.mean(harrell, ~away)
    made["uno_concordance"] = measure.mean(uno, ~away)
    made["hazard_ratio"] = np.exp(measure.mean(ratio, ~away))
    made["inconsistency"] = found["inconsistency"]
    made["worst_scanner_concordance"] = measure.worst(harrell, ~away)
    made["unseen_scanner_concordance"] = measure.mean(harrell, away)
    return made


def _cases(predictions: pd.DataFrame, ids: pd.Index) -> tuple[pd.DataFrame, list[str]]:
    """Average scores over a patient's slides on a scanner; and name the scanners."""
    absent = [name for name in _TOLD if name not in predictions.columns]
    if absent:
        raise StoreError(f"predictions.parquet: no column {', '.join(absent)} of a survival task")
    rows = predictions[predictions["held_out"].eq(True) & predictions["trial"].isin(ids)]
    named = rows["scanner"].astype("str") != ""
    # A scan of an unknown scanner is none of any scanner's, where others are known.
    rows = rows[named | ~named.groupby(rows["trial"].astype("str")).transform("any")]
    told = rows[list(_TOLD)].isna().any(axis=1)
    if told.any():
        raise StoreError(f"trial {rows['trial'][told].iloc[0]} has a prediction without an outcome")
    scanners = sorted(rows["scanner"].astype("str").unique())
    rows = rows.assign(
        trial=ids.get_indexer(pd.Index(rows["trial"].astype("str"))),
        scanner=pd.Index(scanners).get_indexer(pd.Index(rows["scanner"].astype("str"))),
        patient=rows["patient"].astype("str"),
        view=rows["view"].astype("str"),
        score=rows["score"].astype(np.float64),
    ).sort_values(["trial", "scanner", "patient", "view"])
    keys = rows[["trial", "scanner", "patient"]].to_numpy()
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(1)])
    counts = np.diff(np.append(starts, len(rows)))
    case = rows.iloc[starts][["trial", "scanner", *_TOLD]].reset_index(drop=True)
    return case.assign(score=np.add.reduceat(rows["score"].to_numpy(), starts) / counts), scanners
