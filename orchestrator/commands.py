"""What `launch`, `resume` and `aggregate` do and show."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.profile import LocalProfile
from orchestrator import events, provenance, render, watch
from orchestrator import launch as launches
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.launch import Prepared
from orchestrator.render import Mode

if TYPE_CHECKING:
    import pandas as pd


def launch(
    path: Path,
    *,
    results: Path,
    cluster: str | None,
    dry_run: bool,
    yes: bool,
    retry: Iterable[str] = (),
    mode: Mode,
) -> int:
    """Plan a sweep, show the plan, and start it unless this is a dry run."""
    prepared = launches.prepare(
        path, results=results, cluster=cluster, retry=retry, write=not dry_run
    )
    code = provenance.code()
    for warning in [*prepared.warnings, *_code_changed(prepared.folder, code)]:
        render.note(warning, kind="warning")
    if dry_run or mode == "text":
        _show_plan(prepared, mode, dry_run=dry_run)
    if dry_run:
        if mode == "text":
            render.note("Nothing submitted. Drop --dry-run to start.")
        return 0
    local = isinstance(prepared.profile, LocalProfile)
    if not local and prepared.plan.packs and not yes and not _agreed(mode):
        return 2
    with render.progress(mode) as report:
        jobs = launches.start(prepared, code=code, on_progress=report)
    return _finished(prepared, mode) if local else _submitted(prepared, jobs, mode)


def require_own_spec(folder: Folder) -> None:
    """Refuse to resume a folder whose stored spec names another sweep.

    Raises:
        SweepError: There is no sweep here, or the folder was renamed.
    """
    from orchestrator import spec

    folder.require()
    if (name := spec.read(folder.spec).name) != folder.name:
        raise SweepError(
            f"{folder.root}: the stored spec is of sweep {name!r}",
            hint=f"rename the folder back, or set name: {folder.name} in {folder.spec}",
        )


def last_cluster(folder: Folder) -> str | None:
    """Return the profile that the sweep was last launched with."""
    planned = [event for event in events.read_events(folder) if event["event"] == "planned"]
    return planned[-1]["cluster"] if planned else None


def aggregate(folder: Folder, *, allow_missing: bool, mode: Mode) -> int:
    """Write the tables of a sweep and show the main one; 1 where a cell is incomplete."""
    from orchestrator import aggregate as tables
    from orchestrator import store

    plan = store.read_plan(folder)
    results = store.read_results(folder)
    made = tables.table(
        plan, results["trials"], results["predictions"], axes=tables.axes(plan),
        allow_missing=allow_missing,
    )  # fmt: skip
    paths = tables.write(made, folder.tables)
    incomplete = int((made["missing"] + made["failed"] > 0).sum())
    if mode == "json":
        render.value(
            {"sweep": folder.name, "cells": _records(made), "files": [str(p) for p in paths]}
        )
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        _show_table(made)
        render.note(f"wrote {', '.join(str(path) for path in paths)}")
        if incomplete:
            render.note(
                f"{incomplete} of {len(made)} cells miss trials",
                hint=f"sweep resume {folder.name}; or --allow-missing",
                kind="warning",
            )
    return 1 if incomplete and not allow_missing else 0


def _show_plan(prepared: Prepared, mode: Mode, *, dry_run: bool) -> None:
    plan, profile = prepared.plan, prepared.profile
    if mode == "json":
        render.value(_plan_value(prepared))
        return
    if mode == "quiet":
        render.lines([trial.id for pack in plan.packs for trial in pack.trials])
        return
    lanes = max((len(pack.trials) for pack in plan.packs), default=0)
    rows = [
        (
            prepared.spec.name,
            f"{len(plan.trials):,} trials in {plan.num_cells:,} cells; {len(plan.done):,} done, "
            f"{plan.num_to_train:,} to train in {len(plan.packs):,} packs of up to {lanes} lanes",
        ),
        ("data", str(prepared.data)),
        ("price", _price(prepared)),
        ("cluster", f"{prepared.cluster}: {_places(profile)}"),
    ]
    if plan.missing:
        lines = [f"{name}: {count:,} trials" for name, count in plan.missing.items()]
        rows.append(("missing", "\n".join([f"embeddings of {len(lines)} encoders", *lines])))
    if dry_run:
        render.facts(rows)
    else:
        for label, text in rows:
            render.note(f"{label:<{max(len(r[0]) for r in rows)}}  {text}")


def _plan_value(prepared: Prepared) -> dict[str, Any]:
    plan = prepared.plan
    return {
        "sweep": prepared.spec.name,
        "trials": len(plan.trials),
        "cells": plan.num_cells,
        "done": len(plan.done),
        "to_train": plan.num_to_train,
        "packs": len(plan.packs),
        "missing": sum(plan.missing.values()),
        "missing_encoders": dict(plan.missing),
        "cluster": prepared.cluster,
        "seconds_per_trial": prepared.seconds_per_trial,
        "at_most_gpu_hours": _most_gpu_hours(prepared),
    }


def _price(prepared: Prepared) -> str:
    most = _most_gpu_hours(prepared)
    limit = f"at most {most:g} GPU-h" if most else "no GPU time"
    if prepared.seconds_per_trial is None:
        return f"{limit}; unknown before the first trials of this sweep are done"
    seconds = prepared.seconds_per_trial * prepared.plan.num_to_train
    return (
        f"{limit}; about {render.duration(seconds)} of worker time "
        f"({prepared.seconds_per_trial:.2g} s per trial, mean of {len(prepared.state.accepted)})"
    )


def _most_gpu_hours(prepared: Prepared) -> float:
    profile = prepared.profile
    if isinstance(profile, LocalProfile) or not prepared.plan.packs:
        return 0.0
    return profile.pilots * profile.gpus * profile.walltime_min / 60


def _places(profile: Any) -> str:
    if isinstance(profile, LocalProfile):
        return f"this machine, {launches.places(profile)} workers"
    return (
        f"partition {profile.partition or 'default'}; 1 driver ({profile.driver.cpus} cores, "
        f"{profile.driver.walltime_min / 60:g} h) + {profile.pilots} pilots × {profile.gpus} GPU "
        f"× {profile.walltime_min / 60:g} h"
    )


def _agreed(mode: Mode) -> bool:
    if mode == "text" and sys.stdin.isatty() and sys.stderr.isatty():
        return render.confirm("Submit?")
    render.error(mode, kind="usage", message="this spends GPU time", hint="add --yes to submit")
    return False


def _finished(prepared: Prepared, mode: Mode) -> int:
    """Report on a local sweep that has just ended."""
    state = events.progress(prepared.folder)
    if mode == "json":
        render.value(watch.value(prepared.folder, state, {}, alive=False))
    elif mode == "quiet":
        render.lines(state.done)
    else:
        done, failed = len(state.done), len(state.given_up)
        render.note(f"{done} of {len(state.trials)} trials done, {failed} failed")
        command = "aggregate" if done else "logs"
        render.next_command(f"sweep {command} {prepared.folder.name}")
    return 0 if len(state.done) == len(state.trials) else 1


def _submitted(prepared: Prepared, jobs: list[str], mode: Mode) -> int:
    name = prepared.folder.name
    if mode == "json":
        render.value({**_plan_value(prepared), "jobs": jobs})
    elif mode == "quiet":
        render.lines(jobs)
    elif jobs:
        pilots = f"pilots {', '.join(jobs[1:])}" if jobs[1:] else "to pilots that wait already"
        render.facts([("submitted", f"driver {jobs[0]}, {pilots}")])
        render.next_command(f"sweep status {name}")
    else:
        render.facts([("submitted", "nothing: every trial is done")])
        render.next_command(f"sweep aggregate {name}")
    return 0


def _code_changed(folder: Folder, code: Mapping[str, Any]) -> list[str]:
    if not folder.code.is_file():
        return []
    try:
        before = json.loads(folder.code.read_text(encoding="utf-8"))
        known = before["commit"], before["clean"]
    except (ValueError, KeyError, TypeError):
        return [f"{folder.code}: not readable; it is written anew"]
    if known == (code["commit"], code["clean"]):
        return []
    return [
        f"code is {code['commit'][:7]}{'' if code['clean'] else ' with changes'}; the sweep was "
        f"last launched at {before['commit'][:7]}{'' if before['clean'] else ' with changes'}"
    ]


def _records(made: "pd.DataFrame") -> list[dict[str, Any]]:
    return [
        {str(k): (None if v != v else v) for k, v in row.items()} for row in made.to_dict("records")
    ]


def _show_table(made: "pd.DataFrame") -> None:
    """Show what most readers want; the files have every column."""
    hidden = {"folds", *(name for name in made.columns if str(name).endswith("_sd"))}
    if (made["auroc_folds"] == made["folds"]).all():
        hidden.add("auroc_folds")
    if (made["versions"] <= 1).all():
        hidden.add("versions")
    if not (made["missing"] + made["failed"]).any():
        hidden |= {"missing", "failed"}
    shown = [str(c) for c in made.columns if c not in hidden and not made[c].isna().all()]
    metrics = [name for name in shown if made[name].dtype.kind == "f"]
    left = [name for name in shown if name not in metrics]
    rows = [
        [str(row[name]) for name in left] + [render.number(row[name]) for name in metrics]
        for _, row in made.iterrows()
    ]
    render.table([*left, *metrics], rows, numeric=len(metrics))
