"""The tables of robustness: how far scanners agree in a cell, and how it does on each; pure.

Classes and survival have columns of their own; a sweep of both has both.
Values are averaged as in the main table (`aggregate`). What a segment's `trials` table says of
attention, gradients and views beside the state of a trial is averaged along with them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from orchestrator import measure_agreement
from orchestrator.aggregate import COUNTS, Joined
from orchestrator.measure_cases import Cases
from orchestrator.measure_tasks import Measured

ARTEFACTS = (
    "attention_spearman",
    "attention_overlap",
    "gradient_energy",
    "gradient_chance",
    "gradient_subspace",
    "view_shift",
)
"""Columns of `trials` that a trial has where the spec asked for them (`training.artefacts`)."""

SHARED = ("inconsistency", "flip_rate")
"""Metrics that the main table has too."""

_NAMED = ("trial", "scanner", "seen")


def cells(joined: Joined) -> pd.DataFrame | None:
    """Make the table of robustness, a row per cell; None where no trial has two scanners or views.

    Returns:
        encoder, arm, axes and counts as in the main table; `SHARED`, `measure_agreement.METRICS`,
        `measure_scanners.GAPS` or `measure_survival.GAPS`, and `ARTEFACTS`, NaN where one does not
        apply.
    """
    if not _several_scanners(joined.tasks) and "view_shift" not in joined.known:
        return None
    measured = joined.measured[list(SHARED)].join(trials(joined))
    folds = joined.averaged(measured)
    return joined.cells.join(folds.groupby("cell").mean()).reset_index(drop=True)


def trials(joined: Joined) -> pd.DataFrame:
    """Measure trials: what `cells` averages beside `SHARED`; no columns without any trial."""
    if not joined.tasks:
        return pd.DataFrame(index=joined.known.index)
    measured = [
        pd.concat([measure_agreement.trials(each.cases) for each in joined.tasks]),
        pd.concat([each.gaps() for each in joined.tasks]),
        joined.known.reindex(columns=list(ARTEFACTS)).astype(np.float64),
    ]
    return pd.concat(measured, axis=1)


def scanners(joined: Joined) -> pd.DataFrame | None:
    """Make the table of scanners, a row per cell and scanner; None where no trial has two scanners.

    Returns:
        encoder, arm, axes; scanner; `seen`, whether the trials trained on it (both rows where some
        did); `patients`, held out and scanned on it, over all folds; the other
        `measure_scanners.COLUMNS` or `measure_survival.COLUMNS`.
    """
    if not _several_scanners(joined.tasks):
        return None
    known = [name for each in joined.tasks for name in each.on_scanner_names]
    metrics = [name for name in dict.fromkeys(known) if name != "patients"]
    long = pd.concat([_long(each) for each in joined.tasks]).reindex(columns=[*_NAMED, *metrics])
    rows = joined.rows[["cell", "fold", "trial"]].merge(long, on="trial", how="inner")
    rows.loc[rows["cell"].isin(joined.holes), metrics] = np.nan
    by = ["cell", "scanner", "seen"]
    values = rows.groupby([*by, "fold"])[metrics].mean().groupby(by).mean()
    patients = [_patients(joined, each.cases) for each in joined.tasks]
    values.insert(0, "patients", pd.concat(patients).groupby(by).sum())
    own = joined.cells.drop(columns=list(COUNTS), errors="ignore")
    return own.join(values.reset_index(["scanner", "seen"]), how="inner").reset_index(drop=True)


def _several_scanners(tasks: Sequence[Measured]) -> bool:
    cases = [each.cases.patient for each in tasks]
    return any(pd.Series(each.scanner).groupby(each.trial).nunique().max() > 1 for each in cases)


def _long(task: Measured) -> pd.DataFrame:
    """Make a row per trial and scanner that has patients of it."""
    found = task.cases
    trial, scanner = np.nonzero(task.on_scanner["patients"] > 0)
    named = (found.ids[trial], found.scanners[scanner], found.seen[trial, scanner])
    metrics = {name: values[trial, scanner] for name, values in task.on_scanner.items()}
    return pd.DataFrame(dict(zip(_NAMED, named, strict=True)) | metrics)


def _patients(joined: Joined, found: Cases) -> pd.Series:
    """Count the patients of each cell on each scanner; all seeds of a fold have the same."""
    done = joined.rows[joined.rows["trial"].isin(found.ids)]
    first = done.drop_duplicates(["cell", "fold"])[["cell", "trial"]]
    first = first.assign(trial=found.ids.get_indexer(pd.Index(first["trial"])))
    case = found.patient
    rows = np.isin(case.trial, first["trial"])
    trial, scanner = case.trial[rows], case.scanner[rows]
    members = pd.DataFrame(
        {"trial": trial, "scanner": scanner, "seen": found.seen[trial, scanner]}
    ).assign(patient=case.member[rows])
    every = first.merge(members, on="trial").drop(columns="trial").drop_duplicates()
    every["scanner"] = found.scanners[every["scanner"]]
    return every.groupby(["cell", "scanner", "seen"]).size()
