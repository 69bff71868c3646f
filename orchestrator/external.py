"""The metrics of trials on their external cohorts, apart from those of the folds; pure.

A row of part `external` counts here and nowhere else. There is no fold behind it: all folds and
seeds of a cell are measured on the same patients, all scanners alike.

    external_auroc   mean over the scanners of the external cohorts
"""

import pandas as pd

from orchestrator import measure
from orchestrator.errors import StoreError

METRICS = ("external_auroc",)


def trials(threshold: pd.Series, predictions: pd.DataFrame) -> pd.DataFrame:
    """Measure trials on the patients of their external cohorts.

    Args:
        threshold: of the trials that have external cohorts, as in `measure.trials`.
        predictions: as there.

    Returns:
        A row per trial, columns `METRICS`; NaN where a metric does not apply.

    Raises:
        StoreError: A trial has no predictions of these patients, or as in `measure.trials`.
    """
    rows = predictions.reindex(columns=[*predictions.columns.union(["part"], sort=False)])
    rows = rows[rows["part"].eq("external")].assign(held_out=True)
    without = threshold.index.difference(pd.Index(rows["trial"].astype("str").unique()))
    if len(without):
        raise StoreError(f"trial {without[0]} is done but has no predictions of external cohorts")
    found = measure.trials(threshold, rows, unseen=[()] * len(threshold))
    return found[["auroc"]].rename(columns={"auroc": "external_auroc"})
