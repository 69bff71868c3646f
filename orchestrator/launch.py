"""From a spec to a running sweep: read, check, plan, record, train here or submit.

`prepare` reads and checks everything; `start` is the only call that spends money. Launching again
subtracts what is done.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster import profile as profiles
from cluster import ray_node, slurm
from cluster.profile import LocalProfile, SlurmProfile
from orchestrator import broker, events, failures, inputs, jobs, plan, spec, store, worker
from orchestrator.errors import PlanError, StoreError
from orchestrator.folder import Folder, write_file
from orchestrator.plan import Plan
from orchestrator.spec_model import Spec

TUNE_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
RESERVED = ("data", "bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A checked sweep, ready to start.

    Attributes:
        spec: the validated spec.
        folder: `results/<sweep>`.
        data: the data folder.
        plan: rows, packs and what is missing.
        profile: how the cluster is used.
        cluster: the profile's name.
        state: what the folder holds already.
        warnings: what the user may want to act on.
        seconds_per_trial: mean over accepted packs of this sweep; None before the first.
    """

    spec: Spec
    folder: Folder
    data: Path
    plan: Plan
    profile: LocalProfile | SlurmProfile
    cluster: str
    state: events.Progress
    warnings: tuple[str, ...]
    seconds_per_trial: float | None


def prepare(
    path: Path,
    *,
    results: Path,
    cluster: str | None,
    retry: Iterable[str] = (),
    write: bool,
) -> Prepared:
    """Read and check a spec, its data and its profile, and plan what is left to train.

    Args:
        path: the spec.
        results: the folder of all sweeps.
        cluster: profile name; default: the spec's, else `local`.
        retry: failure classes that are trained again although they are permanent.
        write: whether simulated data may be written below `results`, and results of a driver that
            died may be judged; without, nothing is changed.

    Raises:
        SpecError: The spec is wrong; all problems at once.
        DataError: The data are wrong; all problems at once.
        ClusterError: The profile is wrong.
    """
    sweep = spec.read(path)
    if sweep.name in RESERVED:
        raise PlanError(f"a sweep may not be called {sweep.name!r}", hint="set name: in the spec")
    name = cluster or sweep.cluster or "local"
    profile = profiles.load(name)
    folder = Folder(results / sweep.name)
    data = inputs.path(sweep, results)
    state = _progress(folder)
    if write and state.unjudged and not jobs.running(state, jobs.ask(state)):
        store.adopt(folder, events.Journal(folder, "launch"))
        state = _progress(folder)
    with tempfile.TemporaryDirectory() as scratch:
        place = data if write or not sweep.simulation else Path(scratch) / data.name
        inputs.simulate(sweep, place)
        rows = spec.expand(sweep)
        dataset = inputs.read(place, rows)
        made = plan.make(
            rows,
            dataset=dataset,
            done=set(state.accepted),
            failed=_left_alone(state, retry),
            lanes_max=profile.lanes_max,
            packs_min=places(profile),
        )
    return Prepared(
        spec=sweep,
        folder=folder,
        data=data,
        plan=made,
        profile=profile,
        cluster=str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name,
        state=state,
        warnings=tuple(sweep.warnings),
        seconds_per_trial=_seconds_per_trial(state),
    )


def start(
    prepared: Prepared,
    *,
    code: dict[str, Any],
    on_progress: Callable[[dict[str, Any]], None],
) -> list[str]:
    """Train what is planned: here, in the foreground, or by SLURM jobs.

    Returns:
        SLURM job ids; empty for a local sweep, which is over when this returns.

    Raises:
        PlanError: Embeddings are missing.
        StoreError: The sweep is training already.
        ClusterError: SLURM refused a job; what was submitted is cancelled again.
    """
    _require_startable(prepared)
    folder = prepared.folder
    folder.create()
    journal = events.Journal(folder, "launch")
    journal.write("launching", **jobs.identity())
    try:
        if not jobs.first(events.progress(folder), journal.writer):
            raise _training_already(folder)
        return _start(prepared, journal, code=code, on_progress=on_progress)
    finally:
        journal.write("launched")


def _start(
    prepared: Prepared,
    journal: events.Journal,
    *,
    code: dict[str, Any],
    on_progress: Callable[[dict[str, Any]], None],
) -> list[str]:
    folder, profile = prepared.folder, prepared.profile
    _record(prepared, code)
    packs = {pack.id: [trial.id for trial in pack.trials] for pack in prepared.plan.packs}
    journal.write(
        "planned",
        trials=prepared.plan.trial_ids,
        cells=prepared.plan.num_cells,
        packs=packs,
        retried=sorted({trial for ids in packs.values() for trial in ids}),
        cluster=prepared.cluster,
    )
    if not packs:
        return []
    setting = worker.Setting(
        folder=folder.root.resolve(),
        data=prepared.data.resolve(),
        device=profile.device,
        gpus=_gpus_per_worker(profile),
        weights=prepared.spec.artefacts.weights,
        code=json.dumps(code, sort_keys=True),
    )
    if isinstance(profile, LocalProfile):
        _drive_here(setting, workers=places(profile), on_progress=on_progress)
        return []
    return _submit(folder, profile, setting, journal)


def drive_on_cluster(setting: worker.Setting, *, workers: int, node_ip: str | None) -> None:
    """Be the driver job; imports Ray there and not on the login node."""
    folder = Folder(setting.folder)
    with _ray_environment(folder):
        from orchestrator import driver

        driver.drive_on_cluster(broker.read_jobs(folder), setting, workers=workers, node_ip=node_ip)


def _drive_here(
    setting: worker.Setting, *, workers: int, on_progress: Callable[[dict[str, Any]], None]
) -> None:
    folder = Folder(setting.folder)
    with _ray_environment(folder):
        from orchestrator import driver

        driver.drive_here(
            broker.read_jobs(folder), setting, workers=workers, on_progress=on_progress
        )


def _ray_environment(folder: Folder) -> contextlib.AbstractContextManager[None]:
    """Set what Ray and Tune read when they are imported."""
    token = (folder.pool / "token").resolve()
    ray_node.make_token(token)
    return ray_node.variables({**ray_node.environment(token), **TUNE_VARIABLES})


def _submit(
    folder: Folder, profile: SlurmProfile, setting: worker.Setting, journal: events.Journal
) -> list[str]:
    from orchestrator import pool

    state = events.progress(folder)
    waiting = jobs.pilots(state, jobs.ask(state))
    places = profile.pilots * profile.workers
    arguments = {"setting": setting, "workers": places, "node_ip": profile.node_ip}
    with contextlib.ExitStack() as undo:
        ids = [pool.submit_driver(folder, profile, drive_on_cluster, **arguments)]
        undo.callback(slurm.cancel, ids)
        journal.write("submitted", role="driver", job=ids[0])
        # Pilots of a driver that was killed wait for the next one: they are paid for already.
        if (count := profile.pilots - len(waiting)) > 0:
            ids += pool.submit_pilots(folder, profile, count=count)
        for job in ids[1:]:
            journal.write("submitted", role="pilot", job=job)
        undo.pop_all()
    return ids


def _progress(folder: Folder) -> events.Progress:
    return events.progress(folder) if folder.events.is_dir() else events.Progress()


def _left_alone(state: events.Progress, retry: Iterable[str]) -> set[str]:
    kinds = set(failures.PERMANENT) - set(retry)
    return {trial for trial, kind in state.failed.items() if kind in kinds}


def places(profile: LocalProfile | SlurmProfile) -> int:
    """Count the packs that train at once."""
    if isinstance(profile, SlurmProfile):
        return profile.pilots * profile.workers
    return profile.workers or len(os.sched_getaffinity(0))


def _gpus_per_worker(profile: LocalProfile | SlurmProfile) -> float:
    if profile.device == "cpu":
        return 0.0
    return profile.gpus / profile.workers if isinstance(profile, SlurmProfile) else 1.0


def _seconds_per_trial(state: events.Progress) -> float | None:
    return state.seconds / len(state.accepted) if state.accepted and state.seconds else None


def _require_startable(prepared: Prepared) -> None:
    if prepared.plan.missing:
        lines = [f"{encoder}: no embeddings" for encoder in prepared.plan.missing]
        raise PlanError(
            "\n".join([f"embeddings are missing in {prepared.data}", *lines]),
            hint="import them: sweep index features …; or see what is missing: --dry-run",
        )
    state = _progress(prepared.folder)
    if jobs.running(state, jobs.ask(state)):
        raise _training_already(prepared.folder)


def _training_already(folder: Folder) -> StoreError:
    return StoreError(
        f"{folder.root}: this sweep is training already",
        hint=f"watch it: sweep status {folder.name}; or end it: sweep cancel {folder.name}",
    )


def _record(prepared: Prepared, code: dict[str, Any]) -> None:
    folder = prepared.folder
    document = prepared.spec.document()
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    for checkpoint in folder.checkpoints.iterdir():
        if checkpoint.name not in {pack.id for pack in prepared.plan.packs}:
            shutil.rmtree(checkpoint, ignore_errors=True)
    write_file(folder.spec, text.encode())
    write_file(folder.code, json.dumps({**code, "time": time.time()}, indent=1).encode())
    store.write_plan(folder, prepared.plan.frame())
