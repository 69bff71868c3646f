"""Paired differences between the rows of a table of evidence and a reference arm; pure.

Two rows are compared on the folds and seeds that both have, under the same draws of patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import resampling, statistics
from orchestrator.evidence_rows import ORIGINS, Averages, Row

COLUMNS = (
    "against", "metric", "estimate", "low", "high", "p", "p_adjusted", "adjustment", "family",
    "primary", "effect_size", "patients", "margin", "noninferior", "marks",
)  # fmt: skip
"""Columns after cell, encoder, arm and axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A row and what it is compared with."""

    row: Row
    reference: Row
    marks: str


def pairs(
    rows: Sequence[Row], averages: Averages, marks: Mapping[int, str], *, against: str
) -> tuple[list[Pair], list[str]]:
    """Find the reference of each row: the row of arm `against` with the same encoder and axes.

    An axis that the reference does not have fits any value. Cells that are whole each may come of
    different code or devices; a comparison of such two is marked.

    Returns:
        The pairs, and why rows have none.
    """
    references = [row for row in rows if row.names.get("arm") == against]
    found, remarks = [], []
    for row in rows:
        if row.names.get("arm") == against:
            continue
        fits = [other for other in references if _fits(row, other)]
        if len(fits) == 1:
            wrong = _wrong(row, fits[0], averages, marks)
            found.append(Pair(row=row, reference=fits[0], marks=wrong))
            continue
        name = ", ".join(f"{key} {value}" for key, value in row.names.items() if value)
        count = "no row" if not fits else f"{len(fits)} rows"
        remarks.append(f"{name} is not compared: {count} of arm {against} to compare it with")
    return found, remarks


def table(
    pairs: Sequence[Pair], averages: Averages, metrics: Sequence[str], *, level: float
) -> pd.DataFrame:
    """Compare pairs: a row per pair and metric, `COLUMNS`; p-values are not adjusted yet.

    Metrics without draws, and pairs of which one has no value, have no row.
    """
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        for pair in pairs:
            common = averages.places(pair.row) & averages.places(pair.reference)
            first = averages.under_draws(pair.row, metric, common)
            second = averages.under_draws(pair.reference, metric, common)
            if first is None or second is None or first[0] is not second[0]:
                continue
            values = (first[1] - second[1])[None]
            if np.isnan(values[0, 0]):
                continue
            patients = averages.patients(pair.row, metric, common)
            rows.append(
                {
                    "cell": pair.row.cell, **pair.row.names, "metric": metric,
                    "against": pair.reference.names["arm"], "marks": pair.marks,
                    "patients": patients, **_tested(values, first[0], patients, level=level),
                }
            )  # fmt: skip
    made = pd.DataFrame(rows)
    for name, empty in (("primary", False), ("margin", np.nan), ("noninferior", None),
                        ("p_adjusted", np.nan), ("adjustment", ""), ("family", "")):  # fmt: skip
        made[name] = pd.Series([empty] * len(made), dtype=object if empty is None else None)
    return made


def explore(found: pd.DataFrame) -> pd.DataFrame:
    """Adjust by Benjamini and Hochberg, metric by metric."""
    made = found.copy()
    for metric, own in found.groupby("metric", sort=False):
        made.loc[own.index, "p_adjusted"] = statistics.adjust(own["p"].to_numpy(), "bh")
        made.loc[own.index, "family"] = f"exploratory: {metric}"
    made["adjustment"] = "bh"
    return made


def declare(
    found: pd.DataFrame, *, metric: str, margin: float | None, margin_metric: str, family: int
) -> pd.DataFrame:
    """Mark the primary analysis: Holm over its encoders, and the margin.

    Args:
        found: its rows.
        metric: whose rows come first.
        margin: that may be lost.
        margin_metric: of what.
        family: encoders that were declared; a test that could not be made counts as p = 1.
    """
    made = found.copy()
    made["primary"], made["adjustment"] = True, "holm"
    for name, own in found.groupby("metric", sort=False):
        p = own["p"].to_numpy()
        absent = np.ones(family - own["encoder"].nunique())
        every = np.append(np.where(np.isnan(p), 1.0, p), absent)
        adjusted = statistics.adjust(every, "holm")[: len(p)]
        made.loc[own.index, "p_adjusted"] = np.where(np.isnan(p), np.nan, adjusted)
        made.loc[own.index, "family"] = f"primary: {name}"
    if margin is not None:
        mine = made["metric"] == margin_metric
        made.loc[mine, "margin"] = margin
        low, high = (made.loc[mine, name].to_numpy(np.float64) for name in ("low", "high"))
        lower = np.full(int(mine.sum()), margin_metric in statistics.LOWER_IS_BETTER)
        told = statistics.noninferior(low, high, np.full(len(low), margin), lower_is_better=lower)
        made["noninferior"] = pd.Series([None] * len(made), dtype=object)
        made.loc[mine, "noninferior"] = pd.Series(told, index=made.index[mine], dtype=object)
    return made.sort_values("metric", key=lambda names: names != metric, kind="stable")


def _fits(row: Row, other: Row) -> bool:
    return all(
        value == other.names[name] or (not other.names[name] and name != "encoder")
        for name, value in row.names.items()
        if name != "arm"
    )


def _wrong(row: Row, other: Row, averages: Averages, marks: Mapping[int, str]) -> str:
    """Say what is wrong with a comparison."""
    texts = [
        f"{each.names['arm']}: {marks[each.cell]}" for each in (row, other) if marks[each.cell]
    ]
    first, second = averages.places(row), averages.places(other)
    if first != second and first and second:
        texts.append(f"{len(first & second)} folds and seeds in common")
    for name, word in zip(ORIGINS, ("commits", "packages", "devices"), strict=True):
        mine, its = averages.origins(row, name), averages.origins(other, name)
        if len(mine | its) > max(len(mine), len(its)):
            texts.append(f"different {word}")
    return "; ".join(texts)


def _tested(
    values: np.ndarray, draws: resampling.Draws, patients: int, *, level: float
) -> dict[str, float]:
    low, high = resampling.intervals(values, draws, level=level)
    error = resampling.spread(values, draws)
    size = statistics.effect_size(values[:, 0], error, np.array([patients]))
    return {
        "estimate": float(values[0, 0]),
        "low": float(low[0]),
        "high": float(high[0]),
        "p": float(resampling.p_values(values, draws)[0]),
        "effect_size": float(size[0]),
    }
