"""From results to rows of evidence: what counts in each, and the table of estimates; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator import (
    aggregate,
    conditions,
    evidence_draws,
    evidence_rows,
    resampling,
    robustness,
    selected,
    selection,
    statistics,
)
from orchestrator.aggregate import Joined
from orchestrator.evidence_rows import Averages, Row
from orchestrator.resampling import Method
from orchestrator.spec_select import Select

OF_CLASSES = (
    "auroc", "balanced_accuracy", "inconsistency", "flip_rate", "worst_scanner_auroc",
    "unseen_scanner_auroc", "external_auroc",
)  # fmt: skip
OF_SURVIVAL = (
    "concordance", "inconsistency", "worst_scanner_concordance", "unseen_scanner_concordance",
    "external_concordance",
)  # fmt: skip
"""What is shown where no metric is asked for, as far as it is defined."""

_CHUNK = 500
"""Rows whose intervals are made at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Rows of evidence.

    Attributes:
        joined: plan and results; with a rule of selection, of the chosen settings.
        rows: of the table.
        by: names of the columns that tell them apart.
        metrics: of the table.
        measured: these metrics of trials, by trial.
        averages: over seeds, folds and cells.
        marks: what is wrong with each row, by its cell.
        chosen_on: with a rule of selection, values of rows on the patients they were chosen by,
            by metric and cell.
        draw_seed: of each cell, where rows do not tell them apart.
        selection: how settings were chosen, in a sentence.
        remarks: what else a reader must know.
    """

    joined: Joined
    rows: Sequence[Row]
    by: Sequence[str]
    metrics: Sequence[str]
    measured: pd.DataFrame
    averages: Averages
    marks: Mapping[int, str]
    chosen_on: Mapping[str, pd.Series]
    draw_seed: pd.Series | None
    selection: str
    remarks: Sequence[str]


def make(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    metrics: Sequence[str],
    by: Sequence[str],
    select: Select | None,
    allow_missing: bool,
    num_draws: int,
    method: Method,
    seed: int,
    joined: Joined | None = None,
) -> Made:
    """Join unless that is done, choose, group and draw; see `evidence.Request`.

    Raises:
        SweepError: A metric or a column is not there.
        StoreError: The results are damaged.
    """
    chosen_on: Mapping[str, pd.Series] = {}
    told = "no setting was chosen: each is a row, and the best of many rows is better than it is"
    if select is not None:
        plan, chosen_on = _choose(plan, trials, predictions, axes, select, allow_missing)
        axes = selection.questions(axes)
        told = f"settings: chosen by {select} on the validation patients of each fold (nested)"
    elif not axes:
        told = ""
    if joined is None or select is not None:
        joined = aggregate.join(plan, trials, predictions, axes=axes, allow_missing=allow_missing)
    columns = ["encoder", "arm", *axes]
    for name in by:
        conditions.known(name, columns, what="column to tell rows apart by")
    by = [name for name in columns if name in by] or columns
    measured = _measured(joined, metrics)
    rows = evidence_rows.rows(joined.cells, by)
    drawn = evidence_draws.of(
        joined, predictions,
        metrics=list(measured.columns), num_draws=num_draws, method=method, seed=seed,
    )  # fmt: skip
    without = [name for name in measured.columns if name not in evidence_draws.METRICS]
    remarks = [f"no interval is made of {', '.join(without)}"] if without and num_draws else []
    merged = "draw_seed" in axes and "draw_seed" not in by
    return Made(
        joined=joined,
        rows=rows,
        by=by,
        metrics=list(measured.columns),
        measured=measured,
        averages=Averages(joined, drawn),
        marks={row.cell: _marks(row, joined.marks) for row in rows},
        chosen_on=chosen_on,
        draw_seed=joined.cells["draw_seed"] if merged else None,
        selection=told,
        remarks=remarks,
    )


def cells(made: Made, *, level: float) -> pd.DataFrame:
    """Make the table of estimates, see `evidence.Evidence.cells`."""
    averaged = made.joined.averaged(made.measured).groupby("cell")
    values, folds = averaged.mean(), averaged.count()
    owner = _owner(made)
    parts = []
    for metric in made.metrics:
        frame = pd.DataFrame([{"cell": row.cell, **row.names} for row in made.rows])
        frame["metric"] = metric
        own = values[metric].groupby(values.index.map(owner))
        frame["estimate"] = frame["cell"].map(own.mean().where(own.count() == own.size()))
        frame = frame.join(_spreads(made, metric, level))
        frame.loc[frame["estimate"].isna(), ["seed_sd", "draw_sd", "fold_sd"]] = np.nan
        most = folds[metric].groupby(folds.index.map(owner)).max()
        frame["folds"] = frame["cell"].map(most).astype(int)
        parts.append(frame.join(_counts(made)))
        if made.chosen_on:
            parts[-1]["optimism"] = _optimism(made, metric, frame["estimate"])
    return pd.concat(parts, ignore_index=True)


def _owner(made: Made) -> dict[int, int]:
    """Give the row of each cell."""
    return {cell: row.cell for row in made.rows for cell in row.cells}


def trials(made: Made) -> pd.DataFrame:
    """List the trials behind each row."""
    cells = made.joined.cells[["encoder", "arm"]]
    rows = made.joined.rows.join(cells, on="cell")
    rows = rows.assign(cell=rows["cell"].map(_owner(made)))
    names = ["cell", "encoder", "arm", "fold", "seed", "trial", "state", "device", "commit"]
    return rows[names].reset_index(drop=True)


def _choose(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    axes: Sequence[str],
    rule: Select,
    allow_missing: bool,
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Choose settings: their plan, and their values on the patients they were chosen by."""
    known = trials.reindex(columns=list(dict.fromkeys([*trials.columns, "state", "threshold"])))
    choices = selection.choose(
        plan, known, predictions, axes=axes, rule=rule, allow_missing=allow_missing
    )
    numbers = selection.rows(plan, axes)
    values = [
        {"cell": each.row, "metric": name, "value": value}
        for each in choices
        if each.chosen is not None
        for name, value in (
            (each.metric, each.chosen.value),
            ("inconsistency", each.chosen.inconsistency),
        )
    ]
    long = pd.DataFrame(values, columns=["cell", "metric", "value"])
    means = {str(name): own.groupby("cell")["value"].mean() for name, own in long.groupby("metric")}
    return selected.chosen(plan, numbers, choices), means


def _measured(joined: Joined, metrics: Sequence[str]) -> pd.DataFrame:
    """Give the asked metrics of trials; those of the task where none is asked for."""
    measured = joined.measured
    if not metrics:
        usual = dict.fromkeys((*OF_CLASSES, *OF_SURVIVAL))
        there = [name for name in usual if name in measured and measured[name].notna().any()]
        return measured[there or [measured.columns[0]]]
    if set(metrics) - set(measured.columns):
        more = robustness.trials(joined)
        measured = measured.join(more[more.columns.difference(measured.columns, sort=False)])
    names = [str(name) for name in measured.columns]
    for metric in metrics:
        conditions.known(metric, names, what="metric of this sweep")
    return measured[list(dict.fromkeys(metrics))]


def _spreads(made: Made, metric: str, level: float) -> pd.DataFrame:
    """Give intervals and SDs of each row."""
    found = made.averages.spreads(made.rows, made.measured[metric], made.draw_seed)
    limits = {name: np.full(len(made.rows), np.nan) for name in ("low", "high", "sampling_sd")}
    method = np.full(len(made.rows), "", dtype=object)
    for start in range(0, len(made.rows), _CHUNK):
        under = {
            place: drawn
            for place, row in enumerate(made.rows[start : start + _CHUNK], start)
            if (drawn := made.averages.under_draws(row, metric)) is not None
        }
        for draws in {id(draws): draws for draws, _ in under.values()}.values():
            if not draws.num_draws:
                continue
            places = [place for place, drawn in under.items() if drawn[0] is draws]
            values = np.stack([under[place][1] for place in places])
            low, high = resampling.intervals(values, draws, level=level)
            limits["low"][places], limits["high"][places] = low, high
            limits["sampling_sd"][places] = resampling.spread(values, draws)
            method[[place for place, each in zip(places, low, strict=True) if each == each]] = (
                draws.method
            )
    ends = pd.DataFrame({"low": limits["low"], "high": limits["high"], "method": method})
    found["sampling_sd"] = limits["sampling_sd"]
    found["patients"] = [made.averages.patients(row, metric) for row in made.rows]
    return ends.join(found)


def _counts(made: Made) -> pd.DataFrame:
    """Count trials, and say what is wrong with each row."""
    cells, owner = made.joined.cells, _owner(made)
    by_row = cells[["trials", "missing", "failed", "versions"]].groupby(cells.index.map(owner))
    counts = by_row.sum().assign(versions=by_row["versions"].max()).astype(int)
    counts = counts.loc[[row.cell for row in made.rows]].reset_index(drop=True)
    return counts.assign(marks=[made.marks[row.cell] for row in made.rows])


def _marks(row: Row, marks: pd.Series) -> str:
    found = [text for text in marks.loc[list(row.cells)] if text]
    if len(row.cells) == 1 or not found:
        return "".join(found)
    return f"{len(found)} of {len(row.cells)} cells: " + "; ".join(dict.fromkeys(found))


def _optimism(made: Made, metric: str, estimate: pd.Series) -> pd.Series:
    """Say how much better rows are on the patients that they were chosen by."""
    if metric not in made.chosen_on or len(made.rows) != len(made.joined.cells):
        return pd.Series(np.nan, index=estimate.index)
    on = made.chosen_on[metric].reindex([row.cell for row in made.rows]).to_numpy()
    sign = -1.0 if metric in statistics.LOWER_IS_BETTER else 1.0
    return pd.Series(sign * (on - estimate.to_numpy()), index=estimate.index)
