"""Start a prepared sweep: record the plan, then train here or submit.

`start` is the only call that spends money. Of all launches of a sweep at the same moment one goes
on. While a driver works on the sweep, it is handed the trials that are new.
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cluster import slurm
from cluster.profile import LocalProfile, SlurmProfile
from orchestrator import events, jobs, store, stored_folds, submission, worker
from orchestrator.errors import PlanError, StoreError
from orchestrator.folder import Folder, write_file
from orchestrator.preparation import Prepared, live, places, prepare, progress, share
from orchestrator.spec_search import OptunaSearch

if TYPE_CHECKING:
    import pandas as pd

REMOVED = -1
"""Cell, in `plan.parquet`, of a trial that the spec dropped and a driver may still train."""


def start(
    prepared: Prepared,
    *,
    code: dict[str, Any],
    quoted: Mapping[str, Any] | None = None,
    on_progress: Callable[[dict[str, Any]], None],
) -> list[str]:
    """Train what is planned: here, in the foreground, by SLURM jobs, or by the driver that runs.

    Args:
        prepared: what to train.
        code: of `provenance.code`.
        quoted: the price that was shown: `gpu_hours`, `low`, `high`, `source`.
        on_progress: called about once a second while training in the foreground.

    Returns:
        SLURM job ids that were submitted; none for a local sweep, which is over on return.

    Raises:
        PlanError: Embeddings are missing.
        StoreError: The sweep is training already and nothing is new, or another launch was quicker.
        ClusterError: SLURM refused a job; what was submitted is cancelled again.
    """
    require_startable(prepared)
    if prepared.options.probe and not prepared.plan.packs:
        return []  # an empty plan would take the place of the one that is trained
    folder = prepared.folder
    folder.create(share(prepared.profile))
    journal = events.Journal(folder, "launch")
    journal.write("launching", **jobs.identity())
    try:
        state = events.progress(folder)
        if not jobs.first(state, journal.writer) or _moved(prepared, state):
            raise _training_already(folder, state)
        _record(prepared, code)
        _write_planned(prepared, journal, quoted)
        if prepared.mode == "added" and not events.progress(folder).drivers:
            raise StoreError(f"{folder.root}: the driver ended meanwhile", hint="launch again")
        if prepared.mode == "added" or not prepared.plan.packs:
            return []
        return _train(prepared, journal, code=code, on_progress=on_progress)
    finally:
        journal.write("launched")


def grow(root: Path) -> bool:
    """Plan what follows from the results of a search; the driver calls it when it has no packs.

    Args:
        root: the folder of the sweep that the driver works on.

    Returns:
        Whether there are new packs.
    """
    folder = Folder(root)
    prepared = prepare(folder.spec, results=root.parent, write=True)
    if prepared.mode != "added" or not prepared.plan.packs:
        return False
    journal = events.Journal(folder, "launch")
    journal.write("launching", **jobs.identity())
    try:
        # Where another launch was quicker, it planned these settings too.
        if not _moved(prepared, events.progress(folder)):
            _record(prepared, {})
            _write_planned(prepared, journal, None)
    finally:
        journal.write("launched")
    return True


def require_startable(prepared: Prepared) -> None:
    """Refuse to start what lacks embeddings or would train twice.

    Raises:
        PlanError: Embeddings are missing.
        StoreError: The sweep is training already and nothing is new, its driver is ending, or it
            is held and would train here.
    """
    if prepared.plan.missing:
        lines = [f"{encoder}: no embeddings" for encoder in prepared.plan.missing]
        raise PlanError(
            "\n".join([f"embeddings are missing in {prepared.data}", *lines]),
            hint="import them: sweep index features …; or see what is missing: --dry-run",
        )
    state = progress(prepared.folder)
    queue = jobs.ask(state)
    if ending := jobs.ending(state, queue):
        raise StoreError(
            f"{prepared.folder.root}: the driver {ending[0]} is ending",
            hint="try again in a minute: what is done stays",
        )
    running = jobs.running(state, queue)
    if running and (not state.drivers or not changes(prepared)):
        raise _training_already(prepared.folder, state)
    if running != (prepared.mode == "added"):
        raise _training_already(prepared.folder, state)
    if state.held and prepared.mode == "all" and prepared.plan.packs and not prepared.submits:
        raise StoreError(
            f"{prepared.folder.root}: this sweep is held, so nothing would begin here",
            hint=f"let it go on: sweep hold {prepared.folder.name} --release",
        )


def changes(prepared: Prepared) -> bool:
    """Tell whether a launch would change what is planned already."""
    ids = set(prepared.plan.trial_ids)
    if prepared.plan.packs or ids != set(prepared.state.trials):
        return True
    known = prepared.folder.spec
    return not known.is_file() or known.read_text(encoding="utf-8") != _document(prepared)


def _gpus_per_worker(profile: LocalProfile | SlurmProfile) -> float:
    if profile.device == "cpu":
        return 0.0
    if isinstance(profile, SlurmProfile):
        return profile.gpus / profile.workers
    return max(profile.gpus, 1) / places(profile)


def _moved(prepared: Prepared, now: events.Progress) -> bool:
    """Tell whether another launch planned this sweep, or its trials, in the meantime."""
    before = prepared.state
    if (before.trials, before.launch_time) != (now.trials, now.launch_time):
        return True
    ours = {trial.id for pack in prepared.plan.packs for trial in pack.trials}
    return prepared.mode == "added" and not ours.isdisjoint(live(now))


def _training_already(folder: Folder, state: events.Progress) -> StoreError:
    own = (platform.node(), os.getpid())
    others = [one for one in state.launches.values() if (one["host"], one["pid"]) != own]
    if state.drivers or not others:
        return StoreError(
            f"{folder.root}: this sweep is training already",
            hint=f"watch it: sweep status {folder.name}; or end it: sweep cancel {folder.name}",
        )
    return StoreError(
        f"{folder.root}: this sweep is training already, in the foreground of process "
        f"{others[-1]['pid']} on {others[-1]['host']}, which takes no further trials",
        hint=f"end it with Ctrl-C or sweep cancel {folder.name}, and launch again: what is done "
        "stays",
    )


def _train(
    prepared: Prepared,
    journal: events.Journal,
    *,
    code: dict[str, Any],
    on_progress: Callable[[dict[str, Any]], None],
) -> list[str]:
    folder, profile = prepared.folder, prepared.profile
    setting = worker.Setting(
        folder=folder.root.resolve(),
        data=prepared.data.resolve(),
        device=profile.device,
        gpus=_gpus_per_worker(profile),
        artefacts=prepared.spec.artefacts,
        code=json.dumps(code, sort_keys=True),
        resident_gb=profile.resident_gb,
    )
    more = grow if _grows(prepared) else None
    if isinstance(profile, LocalProfile):
        submission.drive_here(setting, workers=places(profile), grow=more, on_progress=on_progress)
        return []
    if prepared.options.foreground:
        submission.drive_in_allocation(setting, profile, grow=more, on_progress=on_progress)
        return []
    # Pilots of a driver that was killed wait for the next one: they are paid for already.
    state = events.progress(folder)
    queue = jobs.ask(state)
    if held := jobs.stuck(state, queue):
        slurm.cancel(held)
    waiting = jobs.pilots(state, queue)
    count = max(0, profile.pilots - len(waiting))
    return submission.submit(folder, profile, setting, journal, pilots=count, grow=more)


def _grows(prepared: Prepared) -> bool:
    """Tell whether further trials follow from the results of this launch."""
    searches = (arm.search for arm in prepared.spec.arms.values())
    return not prepared.options.probe and any(isinstance(one, OptunaSearch) for one in searches)


def _write_planned(
    prepared: Prepared, journal: events.Journal, quoted: Mapping[str, Any] | None
) -> None:
    packs = {pack.id: [trial.id for trial in pack.trials] for pack in prepared.plan.packs}
    journal.write(
        "planned",
        trials=prepared.plan.trial_ids,
        cells=prepared.plan.num_cells,
        packs=packs,
        retried=sorted({trial for ids in packs.values() for trial in ids}),
        cluster=prepared.cluster,
        mode=prepared.mode,
        max_gpu_hours=prepared.options.max_gpu_hours,
        price=None if quoted is None else dict(quoted),
        **({"suggested": dict(prepared.suggested)} if prepared.suggested else {}),
    )


def _record(prepared: Prepared, code: dict[str, Any]) -> None:
    folder, frame = prepared.folder, prepared.plan.frame()
    if prepared.mode == "added":
        frame = _with_removed(frame, prepared)
    else:
        if not prepared.options.probe:  # which leaves most packs for a later launch
            _forget_checkpoints(prepared)
        write_file(folder.code, json.dumps({**code, "time": time.time()}, indent=1).encode())
    write_file(folder.spec, _document(prepared).encode())
    before = store.read_folds(folder) if prepared.mode == "added" else None
    store.write_folds(folder, stored_folds.frame(prepared.plan, before))
    store.write_plan(folder, frame)


def _forget_checkpoints(prepared: Prepared) -> None:
    """Remove the checkpoints that no planned pack will read."""
    kept = {pack.id for pack in prepared.plan.packs}
    for checkpoint in prepared.folder.checkpoints.iterdir():
        if checkpoint.name not in kept:
            shutil.rmtree(checkpoint, ignore_errors=True)


def _document(prepared: Prepared) -> str:
    return yaml.safe_dump(prepared.spec.document(), sort_keys=False, allow_unicode=True)


def _with_removed(frame: "pd.DataFrame", prepared: Prepared) -> "pd.DataFrame":
    """Keep the configurations of trials that packs of the running driver have and the spec dropped.

    Also of trials that are done or given up: the driver reads packs whole.
    """
    import pandas as pd

    before = store.read_plan(prepared.folder, whole=True).drop_duplicates("trial")
    ids = {trial for pack in prepared.state.planned for trial in prepared.state.packs[pack]}
    dropped = ids - set(prepared.plan.trial_ids)
    rows = before[before["trial"].isin(dropped)].assign(cell=REMOVED)
    joined = pd.concat([frame, rows.reindex(columns=frame.columns)], ignore_index=True)
    return joined.fillna("")
