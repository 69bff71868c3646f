"""What a sweep is evidence for: estimates with intervals, paired differences, and what they mean.

A row of a table is a group of cells that `Request.by` does not tell apart; its value is the mean
over these cells, of the mean over folds, of the mean over seeds (design, section 5). Intervals
resample patients: all scans, slides and seeds of a patient together, the same draws for all arms
and encoders, so that differences are paired. Nothing is said of retraining: the spread over seeds
and folds stands beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pandas as pd

from orchestrator import (
    aggregate,
    conditions,
    differences,
    evidence_notes,
    evidence_rows,
    evidence_table,
    licences,
    representation,
    spec,
    store,
)
from orchestrator.aggregate import Joined
from orchestrator.evidence_notes import Notes
from orchestrator.evidence_table import Made
from orchestrator.folder import Folder
from orchestrator.resampling import Method
from orchestrator.spec_analysis import Analysis
from orchestrator.spec_select import Select
from orchestrator.statistics import LOWER_IS_BETTER


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
        trials: cell, encoder, arm, fold, seed, trial, state, device, commit of every trial.
        notes: what must stand under the tables.
        lower_is_better: of the metrics of both tables, those that are better when lower.
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
        analysis: the declared primary analysis; None where the spec has none.
        select: the rule of the spec; None where it has none.
    """

    plan: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    licences: Mapping[str, tuple[str, ...]]
    analysis: Analysis | None = None
    select: Select | None = None


def read(folder: Folder) -> Results:
    """Read the results of a sweep that count.

    Raises:
        StoreError: A segment that counts cannot be read.
    """
    plan, results = store.read_plan(folder), store.read_compact(folder)
    found = licences.read(folder, set(plan["encoder"]) if "encoder" in plan else ())
    return Results(
        plan=plan,
        trials=results["trials"],
        predictions=results["predictions"],
        licences={encoder: tuple(names) for encoder, names in found.items()},
        analysis=spec.analysis(folder.spec),
        select=spec.selection(folder.spec),
    )


def of(results: Results, request: Request, *, joined: Joined | None = None) -> Evidence:
    """Answer a request; `joined`, what `aggregate.join` made of the results, saves that time.

    Raises:
        SweepError: The request names an arm, axis or metric that is not there.
        StoreError: The results are damaged.
    """
    made = _made(results, request, joined)
    against, remarks = reference(results, request.against), list(made.remarks)
    compared = pd.DataFrame()
    if against and "arm" in made.by:
        found, why = differences.pairs(made.rows, made.averages, made.marks, against=against)
        remarks += why
        compared = differences.table(found, made.averages, made.metrics, level=request.level)
    elif request.against:
        remarks.append(f"nothing is compared with {against}: rows do not tell arms apart")
    parts = [differences.explore(compared)] if len(compared) else []
    untested = ""
    if results.analysis is not None:
        declared, untested = _primary(results, results.analysis, request)
        parts.insert(0, declared)
    columns = ["cell", *made.by, *differences.COLUMNS]
    every = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    # The primary analysis has no column of an axis in which its cells do not differ.
    every = every.reindex(columns=columns).fillna(dict.fromkeys(made.by, ""))
    return Evidence(
        cells=evidence_table.cells(made, level=request.level),
        differences=every,
        trials=evidence_table.trials(made),
        notes=evidence_notes.make(
            results.analysis,
            results.licences,
            level=request.level,
            method=request.method,
            draws=request.draws,
            selection=made.selection,
            untested=untested,
            remarks=remarks,
        ),
        lower_is_better=LOWER_IS_BETTER & {*made.metrics, *every["metric"]},
    )


def _made(results: Results, request: Request, joined: Joined | None = None) -> Made:
    if request.where or (joined and joined.allow_missing != request.allow_missing):
        joined = None
    axes = aggregate.axes(results.plan)
    return evidence_table.make(
        evidence_rows.where(results.plan, axes, request.where),
        results.trials,
        results.predictions,
        axes=axes,
        metrics=request.metrics,
        by=request.by,
        select=request.select,
        allow_missing=request.allow_missing,
        num_draws=request.draws,
        method=request.method,
        seed=request.seed,
        joined=joined,
    )


def reference(results: Results, against: str | None = None) -> str:
    """Settle the arm that others are compared with, see `Request`; empty for none.

    Raises:
        SweepError: There is no such arm.
    """
    arms = list(dict.fromkeys(results.plan["arm"]))
    if against:
        return conditions.known(against, arms, what="arm of this sweep")
    if against is None:
        declared = results.analysis.against if results.analysis else ""
        return declared if declared in arms else representation.reference_arm(results.plan)
    return ""


def _primary(results: Results, analysis: Analysis, request: Request) -> tuple[pd.DataFrame, str]:
    """Make the rows of the primary analysis, of its metric first; and say what has none, and why.

    An encoder of the family that has no result still counts in Holm's method.
    """
    if not request.draws:
        return pd.DataFrame(), "the primary analysis is not tested: no intervals were made"
    plan = results.plan
    family = analysis.family or list(dict.fromkeys(plan["encoder"]))
    mine = plan[plan["arm"].isin([analysis.arm, analysis.against]) & plan["encoder"].isin(family)]
    if mine["arm"].nunique() < 2:
        return pd.DataFrame(), "the primary analysis has no result: the sweep lacks one of its arms"
    axes = aggregate.axes(plan)
    where = {key: str(aggregate.plain(json.dumps(value))) for key, value in analysis.where.items()}
    arm = evidence_rows.where(mine[mine["arm"] == analysis.arm], axes, where)
    mine = pd.concat([arm, mine[mine["arm"] == analysis.against]]).sort_values(
        "cell", kind="stable"
    )
    several = mine.groupby(["encoder", "arm"])["cell"].nunique().max() > 1
    margin_metric = analysis.margin_metric or analysis.metric
    asked = replace(
        request,
        metrics=tuple(dict.fromkeys((analysis.metric, margin_metric))),
        by=(), where={}, select=results.select if several else None,
    )  # fmt: skip
    made, untested = _made(replace(results, plan=mine), asked), ""
    found, _ = differences.pairs(made.rows, made.averages, made.marks, against=analysis.against)
    compared = differences.table(found, made.averages, made.metrics, level=request.level)
    told = {*zip(compared.get("encoder", ()), compared.get("metric", ()), strict=True)}
    wanted = {each: [(each, metric) for metric in asked.metrics] for each in family}
    if without := [each for each, pairs in wanted.items() if not told.issuperset(pairs)]:
        untested = f"the primary analysis lacks a result on {', '.join(without)}: its cells there "
        untested += "are incomplete, or a metric is not defined"
    if len(compared):
        compared = differences.declare(
            compared, metric=analysis.metric, margin=analysis.margin, margin_metric=margin_metric,
            family=len(family),
        )  # fmt: skip
    return compared, untested
