"""A cohort that no selection has seen, in the form of a sweep's results; pure but for `read`.

It is an external cohort of the spec, or a table of `sweep predict` with the labels of its data.
What comes out has the plan of the sweep, the cohort's patients in place of those that folds hold
out, and validation rows as they were: so a rule may choose settings on validation patients, and no
rule can read the cohort. A patient whom one of the models knows is left out.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import acquaintance, applied, cohort_labels, render
from orchestrator.cohort_labels import EXTERNAL
from orchestrator.errors import StoreError, SweepError
from orchestrator.evidence import Evidence, Results
from training.config import TrialConfig
from training.data import index
from training.data.index import Dataset
from training.errors import DataError

_NEVER = "which no training, threshold, epoch or choice of a setting has seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """A cohort and what the models of a sweep say of it.

    Attributes:
        results: as those of a sweep, the cohort's patients held out.
        name: of the cohort.
        ensembles: whether ensembles are judged, not models.
        remarks: what a reader must know.
    """

    results: Results
    name: str
    ensembles: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Start the names of its files."""
        return "cohort-" + re.sub(r"[^\w=.-]+", "_", self.name)

    @property
    def estimand(self) -> str:
        """Say what is estimated."""
        what = "the ensembles of these fitted models" if self.ensembles else "these fitted models"
        how = "" if self.ensembles else ", mean over folds of the mean over seeds"
        return (
            f"estimated: the performance of {what} on new patients like those of cohort "
            f"{self.name}, {_NEVER}{how}; training again is not covered by an interval"
        )

    def told(self, found: Evidence) -> Evidence:
        """Put what must be known of the cohort under tables of evidence."""
        remarks = (*self.remarks, *found.notes.remarks)
        notes = dataclasses.replace(found.notes, estimand=self.estimand, remarks=remarks)
        return dataclasses.replace(found, notes=notes)


def read(results: Results, wanted: str) -> Cohort:
    """Find a cohort by its name, or by the file of a table of `sweep predict`.

    Raises:
        SweepError: There is no such cohort, or nobody in it can be judged.
        StoreError: The table cannot be read, or is of another sweep.
        DataError: The data of the table are gone, changed or have wrong labels.
    """
    locked = {
        str(trial): json.loads(config).get("external_cohorts", ())
        for trial, config in results.plan[["trial", "config"]].itertuples(index=False)
    }
    names = sorted({name for own in locked.values() for name in own})
    if wanted in names:
        return _of_spec(results, wanted, locked)
    path = Path(wanted)
    if path.suffix in (".parquet", ".csv", ".json"):
        return _of_table(results, path, *applied.read(path))
    known = f"external cohorts of this sweep: {', '.join(names)}" if names else ""
    raise SweepError(
        f"{wanted!r} is no external cohort of this sweep and no table of predictions",
        hint=known or "give the file that sweep predict wrote, or set external_cohorts",
    )


def _of_spec(results: Results, wanted: str, locked: Mapping[str, Sequence[str]]) -> Cohort:
    """Take the rows of an external cohort: all external ones, where a trial has no other."""
    rows, plan = results.predictions, results.plan
    alone = [trial for trial, names in locked.items() if list(names) == [wanted]]
    mine = _part(rows).eq(EXTERNAL) & (rows["cohort"].eq(wanted) | rows["trial"].isin(alone))
    having = [trial for trial, names in locked.items() if wanted in names]
    cells = plan.loc[plan["trial"].isin(having), "cell"]
    return _made(
        results, wanted, plan=plan[plan["cell"].isin(cells)], trials=results.trials,
        rows=rows[mine].assign(held_out=True), remarks=[],
    )  # fmt: skip


def _made(
    results: Results,
    name: str,
    *,
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    rows: pd.DataFrame,
    remarks: Sequence[str],
    ensembles: bool = False,
    licences: Mapping[str, Sequence[str]] | None = None,
) -> Cohort:
    """Put the cohort in the place of held-out patients; validation rows stay as they were."""
    config = {text: _without_scanners(text) for text in plan["config"].unique()}
    before = results.predictions
    judges = before[_part(before).eq("validation") & before["trial"].isin(rows["trial"].unique())]
    every = pd.concat([judges, rows], ignore_index=True) if len(judges) else rows
    told = list(remarks)
    if results.analysis is not None:
        told.append("the primary analysis of the spec is of patients that folds hold out: all here "
                    "is exploratory")  # fmt: skip
    terms = {encoder: tuple(names) for encoder, names in results.licences.items()}
    for encoder, names in (licences or {}).items():
        terms[encoder] = tuple(dict.fromkeys([*terms.get(encoder, ()), *names]))
    return Cohort(
        results=dataclasses.replace(
            results,
            plan=plan.assign(config=plan["config"].map(config)),
            trials=trials,
            predictions=every,
            licences=terms,
            analysis=None,
            reference=results.analysis.against if results.analysis else "",
        ),
        name=name,
        ensembles=ensembles,
        remarks=tuple(told),
    )


def _part(rows: pd.DataFrame) -> pd.Series:
    return rows["part"] if "part" in rows else pd.Series("", index=rows.index)


def _without_scanners(config: str) -> str:
    """Forget which scanners a trial did not see: those of a cohort are all alike."""
    settings = json.loads(config)
    for key in ("unseen_scanners", "external_cohorts", "folds"):
        settings.pop(key, None)
    return json.dumps(settings)


def _of_table(
    results: Results, path: Path, frame: pd.DataFrame, about: Mapping[str, Any]
) -> Cohort:
    """Join a table of predictions with the labels of its data."""
    ensembles = about["kind"] == applied.ENSEMBLE
    members = {each["cell"]: each["trials"] for each in about["cells"]}
    pairs = set(results.plan[["cell", "trial"]].itertuples(index=False, name=None))
    if any((cell, trial) not in pairs for cell, own in members.items() for trial in own):
        raise StoreError(
            f"{path}: was made with trials that this sweep does not have (any more)",
            hint="sweep predict makes the table anew",
        )
    data = _data(about)
    seen = set(frame.loc[frame["seen"].isin(acquaintance.KNOWN), "patient"])
    remarks = []
    if seen:
        remarks.append(f"{render.many(len(seen), 'patient')} whom the models know are left out")
    plan = results.plan[results.plan["cell"].isin(list(members))]
    tasks = {
        int(cell): TrialConfig.model_validate_json(config).task
        for cell, config in plan.drop_duplicates("cell")[["cell", "config"]].itertuples(index=False)
    }
    frame, trials = frame[~frame["patient"].isin(seen)], results.trials
    if ensembles:
        plan, trials = _as_trials(plan, trials, frame, members)
        frame = frame.assign(trial=[_ensemble(cell) for cell in frame["cell"]])
        remarks += _incomplete(about)
    rows, more = cohort_labels.join(frame, tasks, about["classes"], data)
    told = trials["trial"].isin(rows["trial"].unique()) | trials["state"].ne("done")
    return _made(
        results, path.stem, plan=plan, trials=trials[told], rows=rows, remarks=[*remarks, *more],
        ensembles=ensembles, licences=about["licences"]["applied_to"],
    )  # fmt: skip


def _data(about: Mapping[str, Any]) -> Dataset:
    data = index.read(Path(about["data"]))
    scans = {encoder: index.scans(data, encoder) for encoder in about["scans"]}
    if applied.fingerprint(scans) != about["data_fingerprint"]:
        raise DataError(
            f"{data.root}: the scans changed since models were applied to them",
            hint="sweep predict makes the table anew",
        )
    return data


def _incomplete(about: Mapping[str, Any]) -> list[str]:
    """Say which cells have no ensemble, or one of fewer or mixed models."""
    marked = {each["cell"]: each["marks"] for each in about["cells"] if each["marks"]}
    return [
        *(f"cell {cell} has no ensemble: {mark}" for cell, mark in about["left_out"].items()),
        *(f"ensemble of cell {cell}: {mark}" for cell, mark in marked.items()),
    ]


def _ensemble(cell: int) -> str:
    return f"{applied.ENSEMBLE}-{cell}"


def _as_trials(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    frame: pd.DataFrame,
    members: Mapping[int, Sequence[str]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make each ensemble a trial, of one fold and seed."""
    cells = plan.drop_duplicates("cell")
    plan = cells.assign(fold=0, seed=0, trial=[_ensemble(cell) for cell in cells["cell"]])
    first = frame.drop_duplicates("cell").set_index("cell").reindex(columns=["threshold"])
    known = trials.set_index("trial").loc[[members[cell][0] for cell in plan["cell"]]]
    made = known.assign(
        trial=plan["trial"].to_numpy(),
        threshold=first["threshold"].fillna(0.0).loc[plan["cell"]].to_numpy(),
    )
    return plan, made.reset_index(drop=True)
