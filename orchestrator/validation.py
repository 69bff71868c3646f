"""What the validation patients say of trials: the only rows of predictions that choices read; pure.

A validation patient belongs to the training part of the trial's own fold. A trial whose rows say
otherwise is refused: a patient that is held out or of an external cohort too, or a score on an
unseen scanner.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from orchestrator import measure, measure_survival
from orchestrator.errors import StoreError


def judged(
    known: pd.DataFrame,
    predictions: pd.DataFrame,
    unseen: Mapping[str, Collection[str]],
    survival: Collection[str] = (),
) -> pd.DataFrame:
    """Measure the trials that are done on their validation patients.

    Args:
        known: results of trials, by trial: `state` and `threshold`.
        predictions: a row per trial and scan.
        unseen: unseen scanners of each trial.
        survival: trials whose task is survival.

    Returns:
        A row per trial that has validation predictions: auroc, concordance and inconsistency as
        `measure` defines them, NaN where one does not apply; `paired`, how many slides have scans
        on several scanners.

    Raises:
        StoreError: Predictions are damaged or leak.
    """
    names = ["auroc", "concordance", "inconsistency", "paired"]
    done = known[known["state"] == "done"]
    if not {"part", "patient", "slide", "scanner", "held_out"} <= set(predictions.columns):
        return pd.DataFrame(index=done.index[:0], columns=names, dtype=np.float64)
    mine = predictions[predictions["trial"].isin(done.index)]
    rows = mine[mine["part"] == "validation"]
    _require_nested(mine, rows, unseen)
    named = rows["scanner"] != ""
    # A scan of an unknown scanner is none of any scanner's, where others are known; see
    # `training.evaluation.Validation`.
    rows = rows[named | ~named.groupby(rows["trial"], observed=True).transform("any")]
    threshold = done.loc[done.index.isin(rows["trial"].unique()), "threshold"]
    # The measures are of held-out patients, on scanners that are all seen: so these are called.
    rows = rows.assign(held_out=True)
    lives = threshold.index.isin(list(survival))
    parts = [
        trials(threshold[mine], rows, unseen=[()] * int(mine.sum()))
        for trials, mine in ((measure.trials, ~lives), (measure_survival.trials, lives))
        if mine.any()
    ]
    measured = pd.concat(parts).loc[threshold.index] if parts else threshold.to_frame()[[]]
    images = rows[["trial", "slide", "scanner"]].drop_duplicates()
    paired = images[images["scanner"] != ""].groupby(["trial", "slide"], observed=True).size() > 1
    measured["paired"] = paired.groupby("trial").sum().reindex(measured.index, fill_value=0)
    return measured.reindex(columns=names)


def _require_nested(
    predictions: pd.DataFrame, rows: pd.DataFrame, unseen: Mapping[str, Collection[str]]
) -> None:
    """Refuse validation rows that are not of the training part of their trial, on seen scanners.

    Args:
        predictions: all rows.
        rows: those of validation patients.
        unseen: unseen scanners of each trial.

    Raises:
        StoreError: Names a trial and a patient.
    """
    hint = "nothing is selected on such a trial: train it again with the present code"
    others = predictions.loc[predictions["part"] != "validation", ["trial", "patient"]]
    both = rows[["trial", "patient"]].merge(others.drop_duplicates(), how="inner")
    wrong = rows[rows["held_out"].ne(False)]
    for found in (both, wrong):
        if len(found):
            trial, patient = found.iloc[0][["trial", "patient"]]
            raise StoreError(
                f"trial {trial}: patient {patient!r} is a validation patient and held out",
                hint=hint,
            )
    pairs = rows[["trial", "scanner"]].drop_duplicates()
    for trial, scanner in pairs.itertuples(index=False):
        if scanner in unseen.get(trial, ()):
            raise StoreError(
                f"trial {trial}: a validation patient has a score on unseen scanner {scanner!r}",
                hint=hint,
            )
