"""The metrics of trials on their external cohorts, apart from those of the folds; pure.

A row of part `external` counts here and nowhere else. There is no fold behind it: all folds and
seeds of a cell are measured on the same patients, all scanners alike.

    external_auroc         mean over the scanners of the external cohorts
    external_concordance   of a survival task, Harrell's; likewise
"""

import pandas as pd

from orchestrator import measure, measure_survival
from orchestrator.errors import StoreError

METRICS = ("external_auroc", "external_concordance")


def trials(
    threshold: pd.Series, predictions: pd.DataFrame, *, survival: bool = False
) -> pd.DataFrame:
    """Measure trials on the patients of their external cohorts.

    Args:
        threshold: of the trials that have external cohorts, as in `measure.trials`.
        predictions: as there.
        survival: whether they are of survival tasks.

    Returns:
        A row per trial, the column of the task; NaN where a metric does not apply.

    Raises:
        StoreError: A trial has no predictions of these patients, or as in `measure.trials`.
    """
    rows = predictions.reindex(columns=[*predictions.columns.union(["part"], sort=False)])
    rows = rows[rows["part"].eq("external")].assign(held_out=True)
    without = threshold.index.difference(pd.Index(rows["trial"].astype("str").unique()))
    if len(without):
        raise StoreError(f"trial {without[0]} is done but has no predictions of external cohorts")
    measured, name = (
        (measure_survival.trials, "concordance") if survival else (measure.trials, "auroc")
    )
    found = measured(threshold, rows, unseen=[()] * len(threshold))
    return found[[name]].rename(columns={name: f"external_{name}"})
