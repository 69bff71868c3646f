"""Rows of a table of evidence: groups of cells, and their values under every draw; pure.

A row's value is the mean over its cells, of the mean over folds, of the mean over seeds; a fold or
seed in which it is not defined is left out, draw by draw. A row lacks a value where one cell does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator import aggregate, conditions
from orchestrator.aggregate import Joined
from orchestrator.errors import SweepError
from orchestrator.measure_cases import Cases
from orchestrator.resampling import Draws

ORIGINS = ("commit", "versions", "device")
"""What trials come from: those of two rows that differ in it are not quite comparable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells that a table does not tell apart.

    Attributes:
        cell: number of the row, that of its first cell.
        cells: all of them.
        names: encoder, arm and axes as the table shows them.
    """

    cell: int
    cells: tuple[int, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Metrics of trials that are measured on the same patients, under every draw.

    Attributes:
        found: what they are measured on.
        draws: of their patients.
        values: by metric, [trial, column].
    """

    found: Cases
    draws: Draws
    values: Mapping[str, np.ndarray]


def rows(cells: pd.DataFrame, by: Sequence[str]) -> list[Row]:
    """Group cells by these columns, in the order of their first ones.

    Args:
        cells: encoder, arm and axes by cell.
        by: some of the columns.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    named = cells[list(by)].astype(str)
    for cell, *names in named.itertuples():
        groups.setdefault(tuple(names), []).append(int(cell))
    return [
        Row(cell=members[0], cells=tuple(members), names=dict(zip(by, names, strict=True)))
        for names, members in groups.items()
    ]


def where(plan: pd.DataFrame, axes: Sequence[str], wanted: Mapping[str, str]) -> pd.DataFrame:
    """Keep the cells whose columns have these values, as people write them.

    Raises:
        SweepError: There is no such column, or no such cell.
    """
    keys = ["encoder", "arm", *axes]
    keep = pd.Series(True, index=plan.index)
    for key, value in wanted.items():
        conditions.known(key, keys, what="column of the plan")
        values = plan[key] if key in ("encoder", "arm") else plan[key].map(aggregate.plain)
        fits = {each: conditions.equal(each, str(value)) for each in values.unique()}
        keep &= values.map(fits).astype(bool)
    if not keep.any():
        asked = " and ".join(f"{key}={value}" for key, value in wanted.items())
        shown = plan.assign(**{key: plan[key].map(aggregate.plain) for key in axes})
        rows = [{str(k): v for k, v in row.items()} for row in shown[keys].to_dict("records")]
        raise SweepError(f"no cell has {asked}", hint=conditions.values(rows, list(wanted)))
    return plan[keep]


class Averages:
    """Averages metrics of trials to rows.

    Args:
        joined: plan and results.
        drawn: metrics under draws, each trial in one of them for each metric.
    """

    def __init__(self, joined: Joined, drawn: Sequence[Drawn]) -> None:
        rows = joined.rows
        counts = rows["trial"].isin(joined.known.index) & ~rows["cell"].isin(joined.holes)
        self._counted = rows.loc[counts, ["cell", "fold", "seed", "trial"]]
        self._origins = {
            name: rows.loc[counts].dropna(subset=[name]).groupby("cell")[name].unique().to_dict()
            for name in ORIGINS
        }
        self._trials = {
            int(str(cell)): own[["fold", "seed", "trial"]]
            for cell, own in self._counted.groupby("cell")
        }
        self._drawn = drawn
        self._none = pd.DataFrame({"fold": [], "seed": [], "trial": []})

    def places(self, row: Row) -> frozenset[tuple[int, int]]:
        """Give fold and seed of the trials that count in a row."""
        return frozenset(
            (int(fold), int(seed))
            for cell in row.cells
            for fold, seed, _ in self._of(cell).itertuples(index=False)
        )

    def origins(self, row: Row, name: str) -> set[str]:
        """Give what the trials that count in a row come from, one of `ORIGINS`."""
        return {str(each) for cell in row.cells for each in self._origins[name].get(cell, ())}

    def under_draws(
        self, row: Row, metric: str, places: frozenset[tuple[int, int]] | None = None
    ) -> tuple[Draws, np.ndarray] | None:
        """Average a metric under every draw; None where a cell has no trial, or draws of its own.

        Args:
            row: of the table.
            metric: name.
            places: only trials of these folds and seeds.
        """
        frames = self._frames(row, places)
        part = self._part(metric, [trial for own in frames for trial in own["trial"]])
        if part is None or metric not in part.values or not all(map(len, frames)):
            return None
        ids, values = part.found.ids, part.values[metric]
        cells = [_nested(values, ids, own) for own in frames]
        return part.draws, np.stack(cells).mean(0)

    def patients(
        self, row: Row, metric: str, places: frozenset[tuple[int, int]] | None = None
    ) -> int:
        """Count the patients that a metric of a row is measured on; see `under_draws`."""
        frames = self._frames(row, places)
        part = self._part(metric, [trial for own in frames for trial in own["trial"]])
        if part is None:
            return 0
        # All seeds of a fold hold out the same patients: one of its trials tells them.
        first = [trial for own in frames for trial in own.drop_duplicates("fold")["trial"]]
        case, place = part.found.patient, part.found.ids.get_indexer(pd.Index(first))
        start, stop = (np.searchsorted(case.trial, place + more) for more in (0, 1))
        members = [case.member[slice(*ends)] for ends in zip(start, stop, strict=True)]
        return len(np.unique(np.concatenate(members)))

    def spreads(
        self, rows: Sequence[Row], by_trial: pd.Series, draw_seed: pd.Series | None
    ) -> pd.DataFrame:
        """Give the SD over seeds inside folds, over draw seeds, and over folds, of estimates.

        Args:
            rows: of the table.
            by_trial: the metric, by trial.
            draw_seed: of each cell, where the table does not tell these apart.
        """
        owner = {cell: row.cell for row in rows for cell in row.cells}
        value = by_trial.reindex(self._counted["trial"]).to_numpy(np.float64)
        counted = self._counted.assign(value=value)
        folds = counted.groupby(["cell", "fold"])["value"].agg(["mean", "var"])
        cells = folds["mean"].groupby("cell").agg(["mean", "var"])
        of_fold = folds.index.get_level_values("cell").map(owner)
        found = pd.DataFrame(index=pd.Index([row.cell for row in rows]))
        found["seed_sd"] = np.sqrt(folds["var"].groupby(of_fold).mean())
        found["draw_sd"] = np.nan
        if draw_seed is not None:
            keys = [cells.index.map(owner), draw_seed.loc[cells.index].to_numpy()]
            found["draw_sd"] = cells["mean"].groupby(keys).mean().groupby(level=0).std()
        found["fold_sd"] = np.sqrt(cells["var"].groupby(cells.index.map(owner)).mean())
        return found.reset_index(drop=True)

    def _part(self, metric: str, trials: Sequence[str]) -> Drawn | None:
        """Find what all of these trials are measured on; for a metric without draws, the folds."""
        for part in self._drawn:
            has = metric in part.values or not any(metric in each.values for each in self._drawn)
            if trials and has and (part.found.ids.get_indexer(pd.Index(trials)) >= 0).all():
                return part
        return None

    def _of(self, cell: int) -> pd.DataFrame:
        return self._trials.get(cell, self._none)

    def _frames(
        self, row: Row, places: frozenset[tuple[int, int]] | None = None
    ) -> list[pd.DataFrame]:
        """Give the trials of each cell of a row that count, of these folds and seeds."""
        frames = [self._of(cell) for cell in row.cells]
        if places is None:
            return frames
        pairs = [zip(own["fold"], own["seed"], strict=True) for own in frames]
        return [
            own[np.array([pair in places for pair in each], dtype=bool)]
            for own, each in zip(frames, pairs, strict=True)
        ]


def _nested(values: np.ndarray, ids: pd.Index, own: pd.DataFrame) -> np.ndarray:
    """Average trials of a cell over seeds, then over folds."""
    place, fold = ids.get_indexer(pd.Index(own["trial"])), own["fold"].to_numpy()
    return _mean(np.stack([_mean(values[place[fold == each]]) for each in np.unique(fold)]))


def _mean(values: np.ndarray) -> np.ndarray:
    """Average over the first axis what is defined."""
    there = ~np.isnan(values)
    if there.all():
        return np.asarray(values.mean(0, dtype=np.float64))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return np.asarray(np.where(there, values, 0).sum(0, dtype=np.float64) / there.sum(0))
