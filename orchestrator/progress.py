"""What a sweep's events and segments add up to: trials, packs, pilots; records without behaviour.

`orchestrator.events` fills them. No heavy import, so that `sweep status` stays quick.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a pack of a kind took, in its first attempt: trained in one go.

    Args:
        kind: see `orchestrator.price`.
        lanes: its trials.
        seconds: wall time of the attempt.
        device: cpu, or the name of the GPU.
    """

    kind: str
    lanes: int
    seconds: float
    device: str


@dataclass(slots=True, kw_only=True)
class Pilot:
    """What the events tell of a pilot, by its SLURM job id; times as the events have them.

    Args:
        job: its SLURM job id.
        size: normal or large.
        gpus: that are billed.
        node: where it runs; empty before it started.
        walltime_s: its time limit; NaN before it started.
        started: when its process began; empty before.
        joined: when it joined a driver; empty before.
        left: when it ended; empty before.
        reason: why it left, in its own words; empty if it had no time for words.
        state: SLURM's state where it did not say why it left.
        seconds: that it ran, once it ended.
        earlier: start and seconds of its earlier runs, where it was requeued (a driver inside).
    """

    job: str
    size: str = "normal"
    gpus: float = 0.0
    node: str = ""
    walltime_s: float = math.nan
    started: str = ""
    joined: str = ""
    left: str = ""
    reason: str = ""
    state: str = ""
    seconds: float = 0.0
    earlier: list[tuple[float, float]] = field(default_factory=list)

    def gpu_hours(self, since: str, until: str) -> float:
        """Count the GPU hours between two times; one whose end is not known ends by its limit."""
        if not self.started:
            return 0.0
        runs = [*self.earlier, (seconds_of(self.started), self.ran(until))]
        first = seconds_of(since) if since else -math.inf
        seconds = sum(max(0.0, began + ran - max(began, first)) for began, ran in runs)
        return seconds * self.gpus / 3600

    def ran(self, until: str) -> float:
        """Count the seconds of its last run up to a time."""
        if self.left:
            return self.seconds
        return min(seconds_of(until) - seconds_of(self.started), self.walltime_s)


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a sweep's events and segments add up to.

    Attributes:
        trials: ids of the trials of the last launched plan.
        cells: rows of the result table.
        packs: pack id to its trial ids, over all launches.
        planned: ids of the packs of the last launch, most urgent first; parts in place of a pack
            that was split.
        accepted: trial id to the (pack, attempt) whose result counts.
        suggested: by group of a search, the settings that followed from results.
        retired: accepted trials that a search ended before their time.
        rungs: what drivers decided about trials of a search, in order.
        failed: trial id to its failure class, for trials without a result that were given up.
        dead: trial id to the last (pack, attempt) in which its lane died.
        training: trial id to the worker that has it, as far as the last driver said.
        attempts: pack id to the highest attempt seen.
        failures: pack id to class and signature of its failures since the last launch.
        shares: pack id to the share of it that its checkpoint holds, 0 to 1.
        parents: pack id to the pack that it is a part of.
        moved: pack id to the event that asked for a larger pilot, or one without neighbours.
        unjudged: segments that count although no driver lived to say so.
        late: segments that arrived although another result counts.
        submitted: SLURM job ids with their role, in order.
        untracked: tags of submissions that nobody said the outcome of.
        driver: the last driver's `driving` event, empty before the first.
        launches: `launching` events of commands that did not say that they ended, by writer, with
            `seen`, when they last said that they train.
        drivers: SLURM job ids of drivers that did not say that they ended.
        pilots: by SLURM job id.
        excluded: node to why no pilot of this sweep goes there.
        held: nothing new begins until the user says so.
        cancelled: trials that the user cancelled.
        stopped: why the sweep was stopped before its end: `reason` and `message`; else empty.
        unsubmittable: why the driver cannot submit pilots; empty if it can.
        launch_time: of the last launch; GPU hours count from here.
        max_gpu_hours: most that may be used from there on; None without a cap.
        price: what was shown before the launch; empty if nothing was.
        observations: what packs took.
        seconds: training seconds of accepted packs, summed.
    """

    trials: tuple[str, ...] = ()
    cells: int = 0
    packs: dict[str, Sequence[str]] = field(default_factory=dict)
    planned: tuple[str, ...] = ()
    accepted: dict[str, tuple[str, int]] = field(default_factory=dict)
    suggested: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    rungs: list[Event] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    dead: dict[str, tuple[str, int]] = field(default_factory=dict)
    training: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    moved: dict[str, Event] = field(default_factory=dict)
    unjudged: list[tuple[str, int]] = field(default_factory=list)
    late: list[tuple[str, int]] = field(default_factory=list)
    submitted: list[Event] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    driver: Event = field(default_factory=dict)
    launches: dict[str, Event] = field(default_factory=dict)
    drivers: list[str] = field(default_factory=list)
    pilots: dict[str, Pilot] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    held: bool = False
    cancelled: set[str] = field(default_factory=set)
    stopped: Event = field(default_factory=dict)
    unsubmittable: str = ""
    launch_time: str = ""
    max_gpu_hours: float | None = None
    price: Event = field(default_factory=dict)
    observations: list[Observation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def done(self) -> list[str]:
        """Trials of the plan that have a result."""
        return [trial for trial in self.trials if trial in self.accepted]

    @property
    def given_up(self) -> list[str]:
        """Trials of the plan that failed for good."""
        return [trial for trial in self.trials if trial in self.failed]

    @property
    def to_train(self) -> list[str]:
        """Trials of the plan without a result, failed ones among them."""
        return [trial for trial in self.trials if trial not in self.accepted]

    @property
    def histories(self) -> dict[str, list[tuple[str, str]]]:
        """Failures by pack, before them those of the pack that it is a part of."""

        def of(pack: str) -> list[tuple[str, str]]:
            earlier = of(self.parents[pack]) if pack in self.parents else []
            return [*earlier, *self.failures.get(pack, ())]

        return {pack: found for pack in self.planned if (found := of(pack))}

    @property
    def retired_in(self) -> dict[str, str]:
        """Retired trials, with the text of the bracket in which each was."""
        said = {one: event["bracket"] for event in self.rungs for one in event["retired"]}
        return {trial: said.get(trial, "") for trial in self.retired}

    def gpu_hours(self, now: str) -> float:
        """Count the GPU hours that pilots used since the last launch, until a time like `now()`."""
        return sum(pilot.gpu_hours(self.launch_time, now) for pilot in self.pilots.values())


def see(launches: dict[str, Event], event: Event) -> None:
    """Note when a launch last showed itself: the newest of its process, as pids come again."""
    process = event["host"], event["pid"]
    for writer, launch in reversed(launches.items()):
        if (launch["host"], launch["pid"]) == process:
            launches[writer] = {**launch, "seen": event["time"]}
            return


def seconds_of(time: str) -> float:
    """Convert a time as the events have it to seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
