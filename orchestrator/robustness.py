"""The tables of robustness: how far scanners agree in a cell, and how it does on each; pure.

Values are averaged as in the main table (`aggregate`). What a segment's `trials` table says of
attention and of gradients beside the state of a trial is averaged along with them.
"""

import numpy as np
import pandas as pd

from orchestrator import measure_agreement, measure_scanners
from orchestrator.aggregate import COUNTS, Joined
from orchestrator.measure_cases import Cases

ARTEFACTS = (
    "attention_spearman",
    "attention_overlap",
    "gradient_energy",
    "gradient_chance",
    "gradient_subspace",
)
"""Columns of `trials` that a trial has where the spec asked for them (`training.artefacts`)."""

SHARED = ("inconsistency", "flip_rate")
"""Metrics that the main table has too."""

METRICS = (*measure_agreement.METRICS, *measure_scanners.GAPS, *ARTEFACTS)
"""What is measured of trials for this table."""


def cells(joined: Joined) -> pd.DataFrame | None:
    """Make the table of robustness, a row per cell; None where no trial has two scanners.

    Returns:
        encoder, arm, axes and counts as in the main table; `SHARED`, `measure_agreement.METRICS`,
        `measure_scanners.GAPS` and `ARTEFACTS`, NaN where one does not apply.
    """
    measured = trials(joined)
    if measured is None:
        return None
    folds = joined.averaged(joined.measured[list(SHARED)].join(measured))
    return joined.cells.join(folds.groupby("cell").mean()).reset_index(drop=True)


def trials(joined: Joined) -> pd.DataFrame | None:
    """Measure trials of classes, `METRICS`; None where none has two scanners."""
    found = joined.cases
    if found is None or not _several_scanners(found):
        return None
    measured = [
        measure_agreement.trials(found),
        measure_scanners.gaps(found, joined.on_scanner),
        joined.known.reindex(columns=list(ARTEFACTS)).astype(np.float64),
    ]
    return pd.concat(measured, axis=1)


def scanners(joined: Joined) -> pd.DataFrame | None:
    """Make the table of scanners, a row per cell and scanner; None where no trial has two scanners.

    Returns:
        encoder, arm, axes; scanner; `seen`, whether the trials trained on it (both rows where some
        did); `patients`, held out and scanned on it, over all folds; the other
        `measure_scanners.COLUMNS`.
    """
    found = joined.cases
    if found is None or not _several_scanners(found):
        return None
    trial, scanner = np.nonzero(joined.on_scanner["patients"] > 0)
    metrics = [name for name in measure_scanners.COLUMNS if name != "patients"]
    long = pd.DataFrame(
        {
            "trial": found.ids[trial],
            "scanner": found.scanners[scanner],
            "seen": found.seen[trial, scanner],
            **{name: joined.on_scanner[name][trial, scanner] for name in metrics},
        }
    )
    rows = joined.rows[["cell", "fold", "trial"]].merge(long, on="trial", how="inner")
    rows.loc[rows["cell"].isin(joined.holes), metrics] = np.nan
    by = ["cell", "scanner", "seen"]
    values = rows.groupby([*by, "fold"])[metrics].mean().groupby(by).mean()
    values.insert(0, "patients", _patients(joined, found))
    names = joined.cells.drop(columns=list(COUNTS), errors="ignore")
    return names.join(values.reset_index(["scanner", "seen"]), how="inner").reset_index(drop=True)


def _several_scanners(found: Cases) -> bool:
    scanner = pd.Series(found.patient.scanner).groupby(found.patient.trial)
    return bool(scanner.nunique().max() > 1)


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
