"""A sweep as tidy tables, for notebooks: what `orchestrator.load` gives.

Nothing is measured here: tables and evidence come from the functions that `sweep aggregate` uses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import aggregate, conditions, evidence, guards, licences, robustness, store
from orchestrator import tables as standing
from orchestrator.aggregate import COUNTS, Joined
from orchestrator.errors import SweepError
from orchestrator.evidence import Evidence, Request, Results
from orchestrator.folder import Folder


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep that was read; tables are made when they are first asked for.

    Attributes:
        folder: where it lies.
        results: plan, trials, predictions, as they lie there.
        allow_missing: whether incomplete and mixed cells have values.
    """

    folder: Folder
    results: Results
    allow_missing: bool = False

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that `sweep aggregate` writes without draws, by name, a row per cell.

        `main`, `tradeoff`, and where trials have two scanners `robustness` and `scanners`; for
        columns see `aggregate.table`, `tradeoff.table`, `robustness.cells`, `robustness.scanners`.
        """
        return standing.by_name(self._joined, reference=evidence.reference(self.results))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per cell and planned trial.

        `cell`, encoder, arm and axes; `fold`, `seed`, `trial`; `state` (done, failed, retired; NaN
        without a result); what the trainer told (`epoch` chosen from 1, `epochs_trained`,
        `threshold` on the logit, `validation`, `seconds` of a lane, `device`, `commit`, `failure`
        and more); the metrics of `main` and `robustness` of this trial, NaN unless it is done.
        """
        joined = self._joined
        own = joined.cells.drop(columns=list(COUNTS), errors="ignore")
        told = self.results.trials.set_index("trial").drop(columns="state", errors="ignore")
        more = robustness.trials(joined)
        more = more.drop(columns=[*told.columns, *joined.measured.columns], errors="ignore")
        rows = joined.rows[["cell", "fold", "seed", "trial", "state"]]
        for table, key in ((own, "cell"), (told, "trial"), (joined.measured, "trial"),
                           (more, "trial")):  # fmt: skip
            rows = rows.join(table, on=key)
        first = ["cell", *own.columns]
        return rows[[*first, *(name for name in rows.columns if name not in first)]].reset_index(
            drop=True
        )

    @property
    def predictions(self) -> pd.DataFrame:
        """A row per trial and scan: see `training.trainer.LaneResult.predictions`, and `trial`."""
        return self.results.predictions

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Training curves: `trial`, `epoch` from 1, `quantity`, `value`."""
        return store.read_results(self.folder, ["curves"])["curves"]

    @cached_property
    def remarks(self) -> list[str]:
        """What a reader of the tables must know: holes and mixtures, searches, licences."""
        wrong = guards.faults(self._joined.marks)
        return [
            *(f"cell {cell}: {text}" for cell, text in wrong.items()),
            *guards.remarks(self.tables["main"]),
            *licences.remarks(self.results.licences),
        ]

    def evidence(self, **asked: Any) -> Evidence:
        """Give estimates with intervals, and paired differences.

        Args:
            asked: fields of `evidence.Request`; one metric, axis or condition needs no tuple.

        Raises:
            SweepError: Such a field, arm, axis or metric is not there.
        """
        unknown = sorted(set(asked) - set(Request.__dataclass_fields__))
        if unknown:
            known = ", ".join(Request.__dataclass_fields__)
            raise SweepError(f"nothing is called {unknown[0]!r}", hint=f"one of {known}")
        for name in ("metrics", "by"):
            if name in asked:
                given = asked[name]
                asked[name] = (given,) if isinstance(given, str) else tuple(given)
        if "where" in asked:
            asked["where"] = self._conditions(asked["where"])
        request = replace(Request(allow_missing=self.allow_missing), **asked)
        return evidence.of(self.results, request, joined=self._joined)

    @cached_property
    def _joined(self) -> Joined:
        plan, trials = self.results.plan, self.results.trials
        return aggregate.join(
            plan,
            trials,
            self.results.predictions,
            axes=aggregate.axes(plan),
            allow_missing=self.allow_missing,
        )

    def _conditions(self, where: Mapping[str, object]) -> dict[str, str]:
        keys = ["encoder", "arm", *aggregate.axes(self.results.plan)]
        return {
            conditions.known(key, keys, what="column of the plan"): (
                value if isinstance(value, str) else json.dumps(value)
            )
            for key, value in where.items()
        }


def load(path: str | Path, *, allow_missing: bool = False) -> Sweep:
    """Read a sweep, see `orchestrator.load`."""
    folder = Folder(Path(path))
    return Sweep(folder=folder, results=evidence.read(folder), allow_missing=allow_missing)
