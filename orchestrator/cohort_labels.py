"""Joins a table of `sweep predict` with the labels of its data, as rows of predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from orchestrator import applied, render
from orchestrator.errors import SweepError
from orchestrator.measure_cases import OUTCOME
from training.config import Task
from training.data import index
from training.data.index import Dataset
from training.metrics.concordance import inverse_weights

EXTERNAL = "external"
"""Part of rows that are in no fold."""


def join(
    frame: pd.DataFrame,
    tasks: Mapping[int, Task],
    classes: Mapping[str, Sequence[str] | None],
    data: Dataset,
) -> tuple[pd.DataFrame, list[str]]:
    """Make predictions of the rows whose patients have a label, and say how many have none.

    Args:
        frame: a table of `sweep predict`, names as categories.
        tasks: by cell.
        classes: by cell, names of the classes; None where they are not known.
        data: with the labels.

    Raises:
        SweepError: Classes have no names, or nobody has a label.
        DataError: Labels are wrong.
    """
    parts: list[pd.DataFrame] = []
    remarks: dict[str, None] = {}
    labels: dict[tuple[str, tuple[str, ...]], pd.DataFrame] = {}
    for cell, own in frame.groupby("cell", sort=False):
        task, names = tasks[int(str(cell))], classes[str(cell)]
        if names is None:
            raise SweepError(
                f"cell {cell}: the names of its classes are not known, so labels say nothing",
                hint="bring back the data that it was trained on, and run sweep predict again",
            )
        key = task.model_dump_json(), tuple(names)
        if key not in labels:
            labels[key] = _labels(data, task, names)
        place = labels[key].index.get_indexer(pd.Index(own["patient"].cat.categories))
        place = place[own["patient"].cat.codes]
        if lacking := own.loc[place < 0, "patient"].nunique():
            what = index.columns(task)
            remarks[f"{render.many(lacking, 'patient')} without {what} are left out"] = None
        known = labels[key].iloc[place[place >= 0]]
        kept = own.loc[place >= 0, ["trial", *applied.SCANS]].assign(
            **{str(name): known[name].to_numpy() for name in known},
            part=EXTERNAL, held_out=True,
            score=_score(own[place >= 0], names if task.kind == "multiclass" else ()),
        )  # fmt: skip
        parts.append(kept)
    if not parts or not any(map(len, parts)):
        raise SweepError(
            f"{data.root}: nobody can be judged",
            hint="cases.parquet needs labels of patients whom the sweep does not know",
        )
    every = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return every.drop_duplicates(["trial", "view"], ignore_index=True), list(remarks)


def _score(rows: pd.DataFrame, classes: Sequence[str]) -> pd.Series:
    """Give the score of each scan; several classes make a list."""
    columns = applied.score_columns(classes)
    if len(columns) == 1:
        return rows[columns[0]]
    return pd.Series(list(rows[columns].to_numpy(np.float64)), index=rows.index, dtype="object")


def _labels(data: Dataset, task: Task, names: Sequence[str]) -> pd.DataFrame:
    """Give the class, or the outcome, of each patient who has one, by patient.

    Uno's weights come of the cohort's own patients: censoring there is not that of training.
    """
    if task.kind != "survival":
        numbers = index.class_numbers(data, task.model_copy(update={"classes": tuple(names)}))
        return pd.DataFrame({"label": pd.Series(numbers, dtype="int32")})
    outcomes = index.outcomes(data, task)
    time = np.array([each.time for each in outcomes.values()], np.float64)
    event = np.array([each.event for each in outcomes.values()], np.bool_)
    horizon = float(time[event].max()) if event.any() else 0.0
    weight = inverse_weights(time, event, horizon=horizon)
    told = dict(zip(OUTCOME, (time, event.astype(np.int32), weight), strict=True))
    return pd.DataFrame({"label": event.astype(np.int32), **told}, index=pd.Index(outcomes))
