"""Read and check a spec, its data and its profile, and plan what is left to train.

Nothing is submitted here, and without `write` nothing is written.
"""

import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cluster import allocation, doctor
from cluster import profile as profiles
from cluster.errors import ClusterError, ProfileError
from cluster.profile import LocalProfile, SlurmProfile
from orchestrator import (
    confounding,
    events,
    failures,
    inputs,
    jobs,
    matching,
    plan,
    rounds,
    spec,
    store,
)
from orchestrator.errors import PlanError
from orchestrator.folder import Folder, Share
from orchestrator.plan import Plan
from orchestrator.spec import Row
from orchestrator.spec_model import Spec
from orchestrator.spec_search import Setting

if TYPE_CHECKING:
    from training.data.index import Dataset

RESERVED = ("data", "bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How and how much to train; nothing here changes a result.

    Attributes:
        retry: failure classes that are trained again although they are left alone otherwise;
            `damaged`: results that cannot be read.
        probe: train one pack of each kind whose price is not known, with one pilot.
        foreground: drive in the allocation that this process runs in.
        max_gpu_hours: the driver stops at this many.
    """

    retry: tuple[str, ...] = ()
    probe: bool = False
    foreground: bool = False
    max_gpu_hours: float | None = None


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
        mode: `all`: a new driver gets all packs; `added`: the driver that runs gets these too.
        removed: trials in packs of the running driver that the spec has no longer.
        views: rows of predictions of a trial, by encoder.
        suggested: by group of a search, the settings that followed from results.
        options: how and how much to train.
    """

    spec: Spec
    folder: Folder
    data: Path
    plan: Plan
    profile: LocalProfile | SlurmProfile
    cluster: str
    state: events.Progress
    warnings: tuple[str, ...]
    mode: Literal["all", "added"]
    removed: tuple[str, ...]
    views: Mapping[str, int]
    suggested: Mapping[str, Sequence[Setting]]
    options: Options

    @property
    def submits(self) -> bool:
        """Whether starting it submits jobs, or gives work to jobs that were submitted."""
        slurm = isinstance(self.profile, SlurmProfile) and not self.options.foreground
        return slurm and bool(self.plan.packs)


def prepare(
    path: Path, *, results: Path, cluster: str | None = None, options: Options | None = None,
    site: Literal["require", "warn", "skip"] = "skip", write: bool,
) -> Prepared:  # fmt: skip
    """Read and check a spec, its data and its profile, and plan what is left to train.

    Args:
        path: the spec.
        results: the folder of all sweeps.
        cluster: profile name; default: the spec's, else the user's default.
        options: how and how much to train.
        site: whether SLURM is asked if it can serve the profile, and must answer.
        write: whether simulated data may be written and what a dead driver left may be judged.

    Raises:
        SpecError: The spec is wrong; all problems at once.
        DataError: The data are wrong; all problems at once.
        ProfileError: The profile is wrong, or the site cannot serve it; all problems at once.
        ClusterError: SLURM does not answer.
    """
    options, sweep = options or Options(), _spec(path)
    state = progress(folder := Folder(results / sweep.name))
    running = runs(state)
    name = cluster or (running and last_cluster(folder)) or sweep.cluster or profiles.default()
    profile = _limited(profiles.load(name), options, folder)
    asked = site != "skip" and not (running or options.foreground)
    notes = _notes(profile, name, must=site == "require") if asked else ()
    if write and not running:
        state = _settled(folder, state)
    mends = "damaged" in options.retry and not running
    damaged = _damaged(folder, state, write=write) if mends else set()
    busy = live(state) if running else frozenset()
    data, rows = inputs.path(sweep, results), spec.expand(sweep, state.suggested)
    dataset = _data(sweep, data, rows, share=share(profile), write=write)
    left = failures.left_alone(
        state.failed, planned=state.trials, retry=options.retry, running=running
    )
    make = partial(
        plan.make, dataset=dataset, done=state.accepted.keys() - damaged, retired=state.retired_in,
        elsewhere=busy, failed=left, begun={} if running else _begun(folder, state),
        lanes_max=profile.lanes_max, packs_min=places(profile),
    )  # fmt: skip
    made, suggested = _grown(sweep, folder, make, make(rows), state.suggested)
    if options.probe:
        made = plan.probe(made, {o.kind for o in state.observations})
    return Prepared(
        spec=sweep,
        folder=folder,
        data=data,
        plan=made,
        profile=profile,
        cluster=str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name,
        state=state,
        warnings=(*sweep.warnings, *notes, *_of_data(dataset, made)),
        mode="added" if running else "all",
        removed=tuple(sorted(busy - set(made.trial_ids))),
        views=Counter() if dataset is None else Counter(dataset.index["encoder"].tolist()),
        suggested=suggested,
        options=options,
    )


def _grown(
    sweep: Spec, folder: Folder, make: Callable[[Sequence[Row]], Plan], made: Plan,
    suggested: Mapping[str, Sequence[Setting]],
) -> tuple[Plan, Mapping[str, Sequence[Setting]]]:  # fmt: skip
    """Add the settings of searches that follow from results, until some are left to train."""
    read = partial(store.read_validation, folder)
    while more := rounds.grow(made, suggested, values=read):
        suggested = more
        made = make(spec.expand(sweep, suggested))
    return made, suggested


def _spec(path: Path) -> Spec:
    if (sweep := spec.read(path)).name in RESERVED:
        raise PlanError(f"a sweep may not be called {sweep.name!r}", hint="set name: in the spec")
    return sweep


def _data(
    sweep: Spec, data: Path, rows: Sequence[Row], *, share: Share, write: bool
) -> "Dataset | None":
    """Read and check the data; a simulated cohort that may not be written is made elsewhere."""
    with tempfile.TemporaryDirectory() as scratch:
        place = data if write or not sweep.simulation else Path(scratch) / data.name
        inputs.simulate(sweep, place, share=share)
        return inputs.read(place, rows)


def _of_data(dataset: "Dataset | None", made: Plan) -> list[str]:
    return [*confounding.warnings(dataset, made), *matching.warnings(dataset, made)]


def last_cluster(folder: Folder) -> str | None:
    """Return the profile that the sweep was last launched with."""
    planned = [event for event in events.read_events(folder) if event["event"] == "planned"]
    return str(planned[-1]["cluster"]) if planned else None


def places(profile: LocalProfile | SlurmProfile) -> int:
    """Count the packs that train at once."""
    if isinstance(profile, SlurmProfile):
        return profile.pilots * profile.workers
    per_gpu = max(profile.gpus, 1) if profile.device == "cuda" else None
    return profile.workers or per_gpu or len(os.sched_getaffinity(0))


def share(profile: LocalProfile | SlurmProfile) -> Share:
    """Tell who may read the results."""
    return profile.share if isinstance(profile, SlurmProfile) else "private"


def progress(folder: Folder) -> events.Progress:
    """Fold what a folder holds, which need not exist."""
    return events.progress(folder) if folder.events.is_dir() else events.Progress()


def runs(state: events.Progress) -> bool:
    """Ask whether a driver, or a launch that will start one, works on a sweep."""
    return jobs.running(state, jobs.ask(state))


def _limited(
    profile: LocalProfile | SlurmProfile, options: Options, folder: Folder
) -> LocalProfile | SlurmProfile:
    """Apply the options to a profile that can serve a folder with them."""
    most = options.max_gpu_hours
    if most is not None and not (most > 0 and math.isfinite(most)):
        raise PlanError(f"--max-gpu-hours is {most:g}; expected more than 0")
    if not isinstance(profile, SlurmProfile):
        return profile
    if options.foreground and not allocation.own_job():
        raise PlanError(
            "--foreground trains inside an allocation, and this shell has none",
            hint="get one first: salloc …; or leave --foreground out to submit jobs",
        )
    if not options.foreground:
        folder.require_plain()
    if options.probe or options.foreground:
        return profile.model_copy(update={"pilots": 1})
    return profile


def _notes(profile: LocalProfile | SlurmProfile, name: str, *, must: bool) -> tuple[str, ...]:
    """Compare a profile with its site; return what the user should know."""
    if isinstance(profile, LocalProfile):
        return ()
    try:
        verdict = doctor.problems(profile)
    except ClusterError as error:
        if must:
            raise
        return (f"SLURM does not answer: {' '.join(error.message.split())}",)
    if verdict.problems:
        raise ProfileError(
            "\n".join(f"profile {name}: {line}" for line in verdict.problems),
            hint=f"what this site offers: sweep doctor --cluster {name}",
        )
    return tuple(f"profile {name}: {line}" for line in verdict.notes)


def _settled(folder: Folder, state: events.Progress) -> events.Progress:
    """Judge what a driver that died left."""
    if state.unjudged:
        store.adopt(folder, events.Journal(folder, "launch"))
    return progress(folder)


def _damaged(folder: Folder, state: events.Progress, *, write: bool) -> set[str]:
    """Find the trials whose results cannot be read; set these aside if that may be written."""
    names = store.damaged(folder) if state.accepted else {}
    if write and names:
        store.set_aside(folder, names)
    return {t for t, (pack, number) in state.accepted.items() if f"{pack}-{number}" in names}


def _begun(folder: Folder, state: events.Progress) -> dict[str, Sequence[str]]:
    """Find the packs that have a checkpoint or are parts of a larger one, the last launch's first.

    Those of earlier launches count too: the last one may have been a probe.
    """
    told = events.read_events(folder) if state.packs else []
    split = {event["pack"]: event["into"] for event in told if event["event"] == "split"}
    parts = {part for into in split.values() for part in into}
    begun = parts | {path.name for path in folder.checkpoints.glob("*")}
    return {
        pack: state.packs[pack]
        for pack in dict.fromkeys([*state.planned, *state.packs])
        if pack in begun and (pack in state.planned or pack not in split)
    }


def live(state: events.Progress) -> frozenset[str]:
    """Collect the trials that the running driver trains or will train."""
    ids = {trial for pack in state.planned for trial in state.packs[pack]}
    return frozenset(ids - state.accepted.keys() - state.failed.keys())
