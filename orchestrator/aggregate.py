"""From the results of trials to the table of cells; pure but for `write`.

A cell's value is the mean over folds of the mean over seeds of a trial's metric, as `measure`
defines it (design, section 5); predictions are never pooled over folds. A fold in which a metric is
not defined (AUROC where one class is held out) is left out of that metric's mean; `auroc_folds`
says how many are in. A cell with holes has no value unless they are allowed. The order of the rows
in the results never changes a bit of the table. Survival tasks have metrics of their own
(`measure_survival`); the columns are those of the tasks of the sweep.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import external, guards, measure_tasks
from orchestrator.errors import StoreError
from orchestrator.folder import folder_mode, write_file
from orchestrator.measure_tasks import METRICS as METRICS
from orchestrator.measure_tasks import Measured
from training.config import TrialConfig, unseen_scanners

COUNTS = ("trials", "missing", "failed", "retired", "versions")
"""Columns of a cell that count; `retired` only where the plan has searches."""

SPREADS = ("accuracy", "auroc", "concordance")
"""Metrics whose SD over the folds' values is given too, as <metric>_sd."""

_NOT_AXES = frozenset(
    (
        "cell", "trial", "encoder", "arm", "fold", "seed", "config", "fingerprint", "pack_family",
        "priority", "search", "bracket",
    )
)  # fmt: skip

_OF_A_ROW = ("cell", "fold", "seed", "trial")

_MEND = "launch the spec again: it plans anew, and trains what cannot be read"


def axes(plan: pd.DataFrame) -> list[str]:
    """Name the grid axes of a plan that have more than one value, in the plan's order."""
    names = [str(name) for name in plan.columns if name not in _NOT_AXES]
    return [name for name in names if plan[name].nunique(dropna=False) > 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A plan with the results of its trials.

    Attributes:
        rows: cell, fold, seed, trial, state, version and `guards.COLUMNS`; one per cell and trial,
            in that order.
        cells: encoder, arm, axes and the counts of `table`, by cell.
        marks: what is wrong with each cell (`guards.marks`).
        holes: cells that have no value, since something is wrong with them.
        allow_missing: whether such cells have values all the same, unless a search retired trials.
        known: the rows of `trials` of trials that are done, by trial.
        tasks: these trials as they are measured, apart for classes and survival.
        measured: the metrics of the main table, by trial.
        settings: the configurations, by trial.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    marks: pd.Series
    holes: pd.Index
    allow_missing: bool
    known: pd.DataFrame
    tasks: tuple[Measured, ...]
    measured: pd.DataFrame
    settings: pd.Series

    def averaged(self, measured: pd.DataFrame) -> pd.DataFrame:
        """Average metrics of trials, by trial: over seeds, a row per cell and fold."""
        rows = self.rows[["cell", "fold", "trial"]].join(measured, on="trial")
        names = list(measured.columns)
        rows.loc[rows["cell"].isin(self.holes), names] = np.nan
        return rows.groupby(["cell", "fold"])[names].mean()


def join(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    allow_missing: bool = False,
) -> Joined:
    """Join plan and results, and measure each trial on each scanner; see `table`."""
    planned = _require_readable(plan, trials, predictions)
    known = _known(trials, plan)
    done = known[known["state"] == "done"]
    config = plan.drop_duplicates("trial").set_index("trial")["config"].loc[done.index]
    settings = config.map(planned.__getitem__)
    rows = plan.reindex(columns=[*_OF_A_ROW, "fingerprint"]).sort_values(list(_OF_A_ROW))
    rows = rows.join(known[["state", "version", "commit", "versions", "device"]], on="trial")
    counts, marks = _counts(rows), guards.marks(rows)
    searched = ["search"] if "search" in plan.columns else []
    own = ["encoder", "arm", *axes, *searched]
    names = plan.drop_duplicates("cell").set_index("cell")[own].sort_index()
    for name in axes:
        names[name] = names[name].map(plain)
    survives, mine = (
        {is_survival(each) for each in planned.values()},
        settings.map(is_survival).to_numpy(bool),
    )
    away = settings.map(unseen_of).to_list()
    tasks = measure_tasks.trials(
        done["threshold"], predictions, unseen=away, survives=mine.tolist()
    )
    measured = measure_tasks.main(tasks, survives).reindex(done.index)
    if any(each.get("external_cohorts") for each in planned.values()):
        locked = np.array([bool(each.get("external_cohorts")) for each in settings], bool)
        for survival in sorted(survives):
            asked = done.loc[locked & (mine == survival), "threshold"]
            measured = measured.join(external.trials(asked, predictions, survival=survival))
    holes = counts["retired"] > 0 if allow_missing else marks != ""
    return Joined(
        rows=rows,
        cells=pd.concat([names, counts if searched else counts.drop(columns="retired")], axis=1),
        marks=marks,
        holes=counts.index[holes],
        allow_missing=allow_missing,
        known=done,
        tasks=tasks,
        measured=measured,
        settings=settings,
    )


def table(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    allow_missing: bool = False,
) -> pd.DataFrame:
    """Make the main table, a row per cell in the plan's order.

    Args:
        plan: a row per cell and trial, as in `plan.parquet`; a trial may stand in several cells.
        trials: a row per trial with a result.
        predictions: a row per trial and scan; augmented views must not be here.
        axes: columns of `plan` that tell cells apart, JSON scalars; shown after `arm`.
        allow_missing: average what there is in cells with which something is wrong
            (`guards.marks`). Without it they have no value. Counts are shown in either case.

    Returns:
        encoder, arm, axes; `trials` planned, `missing`, `failed`, `versions` (distinct commits and
        library versions); where the plan has searches, `search` (the kind, empty for cells that no
        search made) and `retired` trials, with which a cell has no value; the metrics, NaN where
        one does not apply (those of `external` only where a trial has external cohorts), and their
        SD over the folds' values; `folds`, and `auroc_folds` that count in `auroc`
        (`concordance_folds` likewise).

    Raises:
        StoreError: A trial has two results, or its predictions are damaged (`measure.trials`).
    """
    return main(join(plan, trials, predictions, axes=axes, allow_missing=allow_missing))


def main(joined: Joined) -> pd.DataFrame:
    """Make the main table, see `table`."""
    folds = joined.averaged(joined.measured).groupby("cell")
    values = folds.mean()
    there = set(joined.measured.columns)
    for name in SPREADS:
        if name in there:
            values[f"{name}_sd"] = folds[name].std()
    values["folds"] = folds.size()
    for name in ("auroc", "concordance"):
        if name in there:
            values[f"{name}_folds"] = folds[name].count()
    return pd.concat([joined.cells, values], axis=1).reset_index(drop=True)


def write(table: pd.DataFrame, folder: Path, name: str = "main") -> list[Path]:
    """Write `<name>.csv` (RFC 4180, floats with six digits) and `<name>.parquet` (all digits).

    Equal tables give equal bytes. Both files are replaced in one step each.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(folder_mode(folder.parent))
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\r\n")
    binary = io.BytesIO()
    table.to_parquet(binary, index=False)
    paths = [folder / f"{name}.csv", folder / f"{name}.parquet"]
    write_file(paths[0], text.encode())
    write_file(paths[1], binary.getvalue())
    return paths


def _require_readable(
    plan: pd.DataFrame, trials: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Refuse tables without what is read of them; those of a sweep without results are empty.

    Returns:
        The different configurations, by their text.
    """
    needed = {
        "plan.parquet": (plan, ("cell", "trial", "encoder", "arm", "fold", "seed", "config")),
        "trials.parquet": (trials, ("trial", "state", "threshold")),
        "predictions.parquet": (predictions, ("trial", "view", "scanner", "label", "score")),
    }
    for name, (frame, columns) in needed.items():
        absent = [column for column in columns if column not in frame.columns]
        if absent and (len(frame) or name == "plan.parquet"):
            raise StoreError(f"{name}: no column {', '.join(absent)}", hint=_MEND)
    if plan.empty:
        raise StoreError("plan.parquet: has no rows", hint=_MEND)
    scores = predictions["score"] if len(predictions) else pd.Series(dtype="float64")
    if scores.dtype.kind != "f":
        wrong = [score for score in scores if score is None or isinstance(score, str)]
        if wrong:
            raise StoreError(f"predictions.parquet: score is {wrong[0]!r}, no number", hint=_MEND)
    try:
        return {text: dict(json.loads(text)) for text in plan["config"].drop_duplicates()}
    except (TypeError, ValueError) as error:
        raise StoreError(f"plan.parquet: a config is no JSON mapping: {error}") from error


def is_survival(config: Mapping[str, Any]) -> bool:
    """Say whether a trial is of a survival task."""
    task = config.get("task")
    return isinstance(task, dict) and task.get("kind") == "survival"


def _known(trials: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
    """Index the planned trials that have a result: state, threshold, version of the code."""
    needed = ["trial", "state", "threshold", "commit", "versions", "device"]
    known = trials.reindex(columns=list(dict.fromkeys([*needed, *trials.columns])))
    known = known[known["trial"].isin(plan["trial"])].sort_values("trial")
    twice = known.loc[known["trial"].duplicated(), "trial"]
    if len(twice):
        raise StoreError(f"trial {twice.iloc[0]} has more than one result")
    known["version"] = known["commit"].astype(str) + " " + known["versions"].astype(str)
    return known.set_index("trial")


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Count the trials of each cell, and the versions of the code that they come from."""
    cells = rows.groupby("cell")
    return pd.DataFrame(
        {
            "trials": cells.size(),
            "missing": cells.size() - cells["state"].count(),
            "failed": rows["state"].eq("failed").groupby(rows["cell"]).sum(),
            "retired": rows["state"].eq("retired").groupby(rows["cell"]).sum(),
            "versions": cells["version"].nunique(),
        }
    )


def unseen_of(settings: Mapping[str, Any]) -> Sequence[str]:
    """Name the scanners that a trial did not train on; settings of earlier versions lack fields."""
    if settings.get("folds", {}).get("kind") == "leave_one_out":
        return unseen_scanners(TrialConfig.model_validate(settings))
    names: Sequence[str] = settings.get("unseen_scanners", ())
    return names


def plain(value: object) -> str:
    """Show a JSON scalar as a person would write it; empty where the cell has no such setting."""
    decoded = json.loads(value) if isinstance(value, str) and value else None
    if decoded is None:
        return ""
    return decoded if isinstance(decoded, str) else str(value)
