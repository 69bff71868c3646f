"""What a sweep is evidence for: estimates with intervals, paired differences, and what they mean.

A row of a table is a group of cells that `Request.by` does not tell apart; its value is the mean
over these cells, of the mean over folds, of the mean over seeds (design, section 5). Intervals
resample patients: all scans, slides and seeds of a patient together, the same draws for all arms
and encoders, so that differences are paired. Nothing is said of retraining: the spread over seeds
and folds stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import pandas as pd

from orchestrator.folder import Folder
from orchestrator.spec_select import Select

Method = Literal["percentile", "bca", "expanded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a sweep.

    Attributes:
        metrics: names as in the main table, in the order of the tables; empty: those of the task.
        by: what tells rows apart, of encoder, arm and the axes of the plan; empty: all of them.
        against: arm that the others are compared with; None: that of the spec's primary analysis,
            else the first arm without losses; empty: no comparison.
        select: rule that chooses one setting per encoder, arm and fold on validation patients; None
            leaves every cell a row.
        where: columns to values: only these cells.
        draws: of the bootstrap; 0 for estimates without intervals.
        level: of the intervals.
        method: of the intervals.
        seed: of the draws.
        allow_missing: average what there is in incomplete and mixed cells.
    """

    metrics: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    against: str | None = None
    select: Select | None = None
    where: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    draws: int = 2000
    level: float = 0.95
    method: Method = "expanded"
    seed: int = 0
    allow_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What must stand under a table.

    Attributes:
        estimand: what the intervals are about.
        interval: level, method, unit and draws, in one sentence.
        selection: how settings were chosen, in one sentence.
        multiplicity: how p-values are adjusted.
        primary: the declared primary analysis in one sentence; empty where the spec has none.
        licences: encoder to the licences of its embeddings, where they are known.
        remarks: what else a reader must know, a sentence each.
    """

    estimand: str
    interval: str
    selection: str
    multiplicity: str
    primary: str
    licences: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]

    def lines(self) -> list[str]:
        """Write the notes as sentences, one a line."""
        return [
            line
            for line in (
                self.primary, self.estimand, self.interval, self.selection, self.multiplicity,
                *self.remarks,
            )
            if line
        ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Tidy tables, a row per row of the table and metric, in the order of the spec.

    Attributes:
        cells: `cell` (number of the row; traced by `trials`), encoder, arm and axes as asked by
            `by` (as people write them, empty where a cell has no such setting), `metric`,
            `estimate`, `low`, `high`, `method`; `seed_sd` (over seeds, within folds), `draw_sd`
            (over values of `draw_seed`), `fold_sd` (over the folds' means), `sampling_sd` (over the
            draws of patients); `patients` held out in all, `folds` in which the metric is defined,
            `trials` planned, `missing`, `failed`, `versions`; `marks`, what is wrong with the row,
            empty where nothing is; `optimism`, where settings are chosen: how much better the value
            is on the patients that it was chosen by, NaN for metrics that choose nothing. Values
            are NaN where a row is incomplete or mixed, unless that is allowed.
        differences: `cell`, encoder, arm, axes; `against`, `metric`, `estimate` (row minus
            reference), `low`, `high`, `p` (two-sided), `p_adjusted`, `adjustment` (holm or bh),
            `family` (what was adjusted together), `primary`, `effect_size` (difference over the SD
            of a patient's influence on it), `patients`, `margin`, `noninferior` (None without a
            margin), `marks`. Primary rows come first.
        trials: cell, encoder, arm, fold, seed, trial, state, device, version of every trial.
        notes: what must stand under the tables.
        lower_is_better: of the metrics, those that are better when lower.
    """

    cells: pd.DataFrame
    differences: pd.DataFrame
    trials: pd.DataFrame
    notes: Notes
    lower_is_better: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a sweep left, read once: the arguments of `aggregate.join`, and more.

    Attributes:
        plan: a row per cell and trial.
        trials: a row per trial with a result.
        predictions: a row per trial and scan.
        licences: encoder to the licences of its embeddings, where they are known.
    """

    plan: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    licences: Mapping[str, tuple[str, ...]]


def read(folder: Folder) -> Results:
    """Read the results of a sweep that count.

    Raises:
        StoreError: A segment that counts cannot be read.
    """
    raise NotImplementedError(folder)


def gather(folder: Folder, request: Request) -> Evidence:
    """Read a sweep and answer a request, see `of`."""
    return of(read(folder), request)


def of(results: Results, request: Request) -> Evidence:
    """Answer a request.

    Raises:
        SweepError: The request names an arm, axis or metric that is not there.
        StoreError: The results are damaged.
    """
    raise NotImplementedError(results, request)
