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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import measure, measure_survival
from orchestrator.errors import StoreError
from orchestrator.folder import folder_mode, write_file

SPREADS = ("accuracy", "auroc", "concordance")
"""Metrics whose SD over the folds' values is given too, as <metric>_sd."""

_NOT_AXES = frozenset(
    (
        "cell", "trial", "encoder", "arm", "fold", "seed", "config", "fingerprint", "pack_family",
        "priority",
    )
)  # fmt: skip

_MEND = "launch the spec again: it plans anew, and trains what cannot be read"


def axes(plan: pd.DataFrame) -> list[str]:
    """Name the grid axes of a plan that have more than one value, in the plan's order."""
    names = [str(name) for name in plan.columns if name not in _NOT_AXES]
    return [name for name in names if plan[name].nunique(dropna=False) > 1]


def table(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    allow_missing: bool = False,
) -> pd.DataFrame:
    """Make the table, a row per cell in the plan's order.

    Args:
        plan: a row per cell and trial, as in `plan.parquet`; a trial may stand in several cells.
        trials: a row per trial with a result.
        predictions: a row per trial and scan; augmented views must not be here.
        axes: columns of `plan` that tell cells apart, JSON scalars; shown after `arm`.
        allow_missing: average what there is in cells with missing or failed trials. Without it they
            have no value. Their counts are shown in either case.

    Returns:
        encoder, arm, axes; `trials` planned, `missing`, `failed`, `versions` (distinct commits and
        library versions); the metrics, NaN where one does not apply, and their SD over the folds'
        values; `folds`, and `auroc_folds` that count in `auroc` (`concordance_folds` likewise).

    Raises:
        StoreError: A trial has two results, or its predictions are damaged (`measure.trials`).
    """
    survives = _require_readable(plan, trials, predictions)
    known = _known(trials, plan)
    done = known.loc[known["state"] == "done", "threshold"]
    config = plan.drop_duplicates("trial").set_index("trial")["config"]
    measured = _measured(done, predictions, config.loc[done.index], survives)

    rows = plan[["cell", "fold", "seed", "trial"]].sort_values(["cell", "fold", "seed", "trial"])
    rows = rows.join(known[["state", "version"]], on="trial").join(measured, on="trial")
    counts = _counts(rows)
    if not allow_missing:
        holes = counts.index[counts["missing"] + counts["failed"] > 0]
        rows.loc[rows["cell"].isin(holes), list(measured.columns)] = np.nan
    names = plan.drop_duplicates("cell").set_index("cell")[["encoder", "arm", *axes]].sort_index()
    for name in axes:
        names[name] = names[name].map(_plain)
    values = _values(rows, list(measured.columns))
    return pd.concat([names, counts, values], axis=1).reset_index(drop=True)


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `main.csv` (RFC 4180, floats with six digits) and `main.parquet` (all digits).

    Equal tables give equal bytes. Both files are replaced in one step each.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(folder_mode(folder.parent))
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\r\n")
    binary = io.BytesIO()
    table.to_parquet(binary, index=False)
    paths = [folder / "main.csv", folder / "main.parquet"]
    write_file(paths[0], text.encode())
    write_file(paths[1], binary.getvalue())
    return paths


def _measured(
    done: pd.Series, predictions: pd.DataFrame, config: pd.Series, survives: dict[str, bool]
) -> pd.DataFrame:
    """Measure each trial as its task wants; columns of both kinds where the sweep has both."""
    unseen = [json.loads(text).get("unseen_scanners", []) for text in config]
    mine = config.map(survives).to_numpy(bool)
    found = []
    for kind, made in ((False, measure.trials), (True, measure_survival.trials)):
        if kind in survives.values():
            away = [names for names, is_mine in zip(unseen, mine == kind, strict=True) if is_mine]
            found.append(made(done[mine == kind], predictions, unseen=away))
    return found[0] if len(found) == 1 else pd.concat(found).loc[done.index]


def _require_readable(
    plan: pd.DataFrame, trials: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, bool]:
    """Refuse tables without what is read of them; those of a sweep without results are empty.

    Returns:
        Which configurations are of a survival task.
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
        told = {text: dict(json.loads(text)) for text in plan["config"].drop_duplicates()}
        return {text: _survives(config) for text, config in told.items()}
    except (TypeError, ValueError) as error:
        raise StoreError(f"plan.parquet: a config is no JSON mapping: {error}") from error


def _survives(config: Mapping[str, Any]) -> bool:
    task = config.get("task")
    return isinstance(task, dict) and task.get("kind") == "survival"


def _known(trials: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
    """Index the planned trials that have a result: state, threshold, version of the code."""
    known = trials.reindex(columns=["trial", "state", "threshold", "commit", "versions"])
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
            "versions": cells["version"].nunique(),
        }
    )


def _values(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Average the trials of each cell: over folds, of the mean over seeds."""
    folds = rows.groupby(["cell", "fold"])[metrics].mean().groupby("cell")
    values = folds.mean()
    for name in SPREADS:
        if name in metrics:
            values[f"{name}_sd"] = folds[name].std()
    values["folds"] = folds.size()
    for name in ("auroc", "concordance"):
        if name in metrics:
            values[f"{name}_folds"] = folds[name].count()
    return values


def _plain(value: object) -> str:
    """Show a JSON scalar as a person would write it; empty where the cell has no such setting."""
    decoded = json.loads(value) if isinstance(value, str) and value else None
    if decoded is None:
        return ""
    return decoded if isinstance(decoded, str) else str(value)
