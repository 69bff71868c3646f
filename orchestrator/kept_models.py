"""The trained models of a sweep whose weights are kept: which, of what cells, and what is wrong."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import aggregate, conditions, evidence_rows, guards, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import Folder
from training.config import TrialConfig

KEEP = "artefacts: {weights: all}"
"""What keeps weights, in a spec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Models of the chosen cells.

    Attributes:
        models: a row per cell and trial with weights, in the plan's order: cell, encoder, arm, axes
            as people write them, fold, seed, trial, fingerprint (of the data it was trained on),
            threshold, commit, versions, device, and `weights`, their file.
        axes: names of the axes.
        configs: by trial.
        marks: what is wrong with a cell, empty where nothing is: see `guards`, and weights that
            were not kept.
    """

    models: pd.DataFrame
    axes: list[str]
    configs: Mapping[str, TrialConfig]
    marks: Mapping[int, str]


def choose(folder: Folder, *, where: Sequence[str] = (), cells: Sequence[int] = ()) -> Chosen:
    """Choose cells, and find the weights of their trials.

    Args:
        folder: the sweep.
        where: conditions `KEY=VALUE` on cells.
        cells: their numbers, as in the plan; none: all.

    Raises:
        SweepError: There is no such cell, or no weights were kept of any trial of these.
        StoreError: Results cannot be read.
    """
    plan = store.read_plan(folder)
    axes = aggregate.axes(plan)
    keys = ["encoder", "arm", *axes]
    wanted = dict(conditions.condition(text, keys) for text in where)
    plan = _numbered(evidence_rows.where(plan, axes, wanted), cells)
    trials = store.read_results(folder, ("trials",))["trials"]
    columns = ["state", "threshold", "commit", "versions", "device"]
    known = trials.set_index("trial").reindex(columns=columns)
    rows = plan[["cell", *keys, "fold", "seed", "trial", "fingerprint"]].join(known, on="trial")
    rows = rows.assign(**{name: rows[name].map(aggregate.plain) for name in axes})
    rows["weights"] = rows["trial"].map(_files(folder))
    done = rows["state"].eq("done")
    if not (done & rows["weights"].notna()).any():
        raise _nothing(folder, num_done=int(done.sum()), num_trials=len(rows))
    found = rows[done & rows["weights"].notna()].drop(columns="state").reset_index(drop=True)
    config = plan.drop_duplicates("trial").set_index("trial")["config"]
    return Chosen(
        models=found,
        axes=axes,
        configs={
            trial: TrialConfig.model_validate_json(config[trial])
            for trial in found["trial"].unique()
        },
        marks=_marks(rows),
    )


def _numbered(plan: pd.DataFrame, cells: Sequence[int]) -> pd.DataFrame:
    unknown = sorted(set(cells) - set(plan["cell"]))
    if unknown:
        numbers = ", ".join(str(each) for each in sorted(set(plan["cell"]))[: conditions.SHOWN])
        more = ", …" if plan["cell"].nunique() > conditions.SHOWN else ""
        raise SweepError(f"no cell {unknown[0]}", hint=f"cells are numbered {numbers}{more}")
    return plan[plan["cell"].isin(list(cells))] if cells else plan


def _files(folder: Folder) -> dict[str, Path]:
    """Find the weights that are kept, by trial."""
    found = {}
    for segment, ids in store.counting(folder).items():
        for path in (segment / "artefacts").glob("weights-*.safetensors"):
            trial = path.stem.removeprefix("weights-")
            if trial in ids:
                found[trial] = path
    return found


def _nothing(folder: Folder, *, num_done: int, num_trials: int) -> SweepError:
    if not num_done:
        return SweepError(
            f"none of the {num_trials:,} chosen trials is done", hint=f"sweep status {folder.name}"
        )
    return SweepError(
        f"{folder.root}: no weights were kept of the {num_done:,} chosen trials that are done",
        hint=f"a sweep keeps them with {KEEP} in its spec, from its launch on: launch it under "
        "another name; archives have none",
    )


def _marks(rows: pd.DataFrame) -> dict[int, str]:
    """Say what is wrong with each cell."""
    told = guards.marks(rows)
    lost = (rows["state"].eq("done") & rows["weights"].isna()).groupby(rows["cell"]).sum()
    return {
        int(cell): "; ".join(
            part
            for part in (told[cell], f"{lost[cell]} without weights" * bool(lost[cell]))
            if part
        )
        for cell in told.index
    }


def trained_by(models: pd.DataFrame) -> list[dict[str, Any]]:
    """Say which code trained these models, and on what."""
    found = models.drop_duplicates("trial").groupby(
        ["commit", "versions", "device"], dropna=False, sort=True
    )
    return [
        {"commit": commit, "device": device, "trials": len(own), "versions": _json(versions)}
        for (commit, versions, device), own in found
    ]


def _json(text: object) -> Any:
    try:
        return json.loads(str(text))
    except ValueError:
        return str(text)


def read_weights(path: Path) -> dict[str, Any]:
    """Read kept weights by name.

    Raises:
        StoreError: They cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}", hint="bring back a sound copy of the file"
        ) from error
    return found
