"""Keeps as many pilots as are useful while a driver runs: a look at everything every few seconds.

It passes on to the broker what commands wrote into the folder, tells it why workers vanished, and
submits, cancels and dismisses pilots as `fleet.decide` says.
"""

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.profile import SlurmProfile
from orchestrator import events, fleet, pool, vanished
from orchestrator.custody import Lost
from orchestrator.desk import Desk
from orchestrator.events import Event, Journal
from orchestrator.fleet import Record
from orchestrator.folder import Folder
from orchestrator.jobs_left import read_jobs
from orchestrator.roster import Roster

log = logging.getLogger(__name__)

ASK_S = 30.0
"""How often SLURM is asked about pilots when nothing is amiss."""
ALIVE_S = 60.0
"""How often training on one machine says that it lives: other hosts cannot see its process."""
LATER_S = 60.0
"""When a submission that met a limit is tried again."""
REFUSED_MAX = 3
"""Submissions in a row that may fail because SLURM does not answer."""
OOM_S = 60.0
"""A worker that vanishes this long after a kill for memory is its victim."""


class Supervisor:
    """Looks after a sweep's pilots.

    Args:
        folder: the sweep's.
        desk: the broker.
        journal: of its own; no other thread writes it.
        profile: how the cluster is used; None on one machine, where there are no pilots.
        submitter: submits pilots; None where none may be submitted.
        announce: tells the pilots which of them are dismissed.
        own: SLURM job id of the driver's allocation if it serves packs itself.
        packs: ids of all packs that were planned when the broker was made.
        grows: further packs may follow from the results of these.
    """

    def __init__(
        self,
        folder: Folder,
        desk: Desk,
        journal: Journal,
        *,
        profile: SlurmProfile | None = None,
        submitter: pool.Submitter | None = None,
        announce: Callable[[Iterable[str]], None] | None = None,
        own: str = "",
        packs: Iterable[str] = (),
        grows: bool = False,
    ) -> None:
        self._folder = folder
        self._desk = desk
        self._profile = profile
        self._submitter = submitter
        self._announce = announce
        self._own = own
        self._grows = grows
        self._roster = Roster(folder, journal, profile=profile, own=own)
        self._dismissed: set[str] = set()
        self._idle: dict[str, float] = {}
        self._unread: deque[Event] = deque()
        self._asked = -ASK_S
        self._said = -ALIVE_S
        self._submit_from = 0.0
        self._refused = 0
        self._obstacle = ""
        state = self._roster.progress()
        # Packs that a launch handed over while the Ray head started: their event was read above.
        self._add(set(state.planned) - set(packs))
        if state.held:
            desk.hold(True)
        if state.cancelled:
            desk.drop(sorted(state.cancelled))

    def beat(self, now: float) -> None:
        """Look once at everything and act; `now` is monotonic, seconds."""
        self._unread += self._roster.read()
        while self._unread:
            self._obey(self._unread[0])  # kept, where a full disk or SLURM is in the way
            self._unread.popleft()
        if self._profile is None:
            self._say_alive(now)
            return
        lost = self._desk.lost()
        if lost or self._roster.unclear() or now - self._asked >= ASK_S:
            self._asked = now
            self._roster.ask(now)
        for one in lost:
            self._judge(one, now)
        self._act(fleet.decide(self._view(self._profile, self._desk.state(), now)), now)

    def _say_alive(self, now: float) -> None:
        if now - self._said >= ALIVE_S:
            self._said = now
            self._roster.write("alive", host=platform.node(), pid=os.getpid())

    def late(self) -> bool:
        """Tell, after the last beat, whether a launch handed over packs since then."""
        return any(map(_hands_over, [*self._unread, *self._roster.read()]))

    def _obey(self, event: Event) -> None:
        match event["event"]:
            case "planned" if _hands_over(event):
                self._add(event["packs"])
            case "cancelled":
                self._desk.drop(event["trials"])
            case "held" | "unheld":
                self._desk.hold(event["event"] == "held")
            case "failed" if event.get("failure") == "sick_gpu" and event.get("node"):
                self._roster.exclude(event["node"], f"sick GPU: {event['message'][:200]}")

    def _add(self, packs: Collection[str]) -> None:
        """Hand packs of a launch to the broker, which passes over those that it has."""
        if packs:
            self._desk.add([job for job in read_jobs(self._folder) if job.pack in packs])

    def _judge(self, lost: Lost, now: float) -> None:
        record = self._roster.records.get(lost.pilot) or Record(job=lost.pilot)
        state = self._roster.state(lost.pilot)
        seconds = now - lost.since
        kind = vanished.verdict(
            state=state,
            reason=record.reason,
            out_of_memory=bool(record.oom) and _age_s(record.oom) < OOM_S + seconds,
            seconds=seconds,
        )
        if kind:
            where = f"pilot {lost.pilot} on {lost.node}: {state or 'unknown'}"
            self._desk.judge(lost.worker, kind, f"worker {lost.worker} vanished; {where}")

    def _view(self, profile: SlurmProfile, state: Mapping[str, Any], now: float) -> fleet.View:
        told = self._roster.progress()
        return fleet.View(
            waiting=state["waiting"],
            large=state["large"],
            lost=state["lost"],
            more=self._grows,
            held=bool(state["held"]),
            stopped=bool(state["stopped"]),
            pilots=tuple(self._seen(one, state["busy"], now) for one in self._roster.alive()),
            wanted=profile.pilots - self._roster.num_cancelled(),
            workers=profile.workers,
            queued_max=profile.queued_max,
            can_submit=self._submitter is not None and profile.replace and not self._obstacle,
            may_submit=now >= self._submit_from and not self._roster.unclear(),
            deaths=fleet.deaths(self._roster.records),
            spent=told.gpu_hours(events.now()),
            budget=told.max_gpu_hours,
            obstacle=self._obstacle,
        )

    def _seen(self, record: Record, busy: Mapping[str, int], now: float) -> fleet.Pilot:
        job, packs = record.job, busy.get(record.job, 0)
        phase = "leaving" if job in self._dismissed else self._roster.phase(record)
        if packs or phase != "serving":
            self._idle.pop(job, None)
        return fleet.Pilot(
            job=job,
            size=record.size,
            phase=phase,
            busy=packs,
            fixed=job == self._own,
            idle_s=now - self._idle.setdefault(job, now) if phase == "serving" else 0.0,
        )

    def _act(self, actions: fleet.Actions, now: float) -> None:
        if actions.stop:
            log.warning("stopped: %s: %s", *actions.stop)
            self._desk.stop(*actions.stop)
        if actions.dismiss and self._announce:
            self._dismissed.update(actions.dismiss)
            self._announce(self._dismissed)
        self._roster.cancel(actions.cancel)
        for size, count in actions.submit.items():
            self._submit(size, count, now)

    def _submit(self, size: str, count: int, now: float) -> None:
        assert self._submitter is not None
        taken = self._submitter.pilots(
            count,
            size=size,
            avoid=self._roster.progress().excluded,
            others=len(self._roster.alive()) + 1,
        )
        log.info("submitted=%s size=%s refused=%s", taken.jobs, size, taken.refused or "no")
        self._roster.read()
        hopeless = taken.limited and not taken.jobs and not self._roster.alive()
        if not taken.refused or (taken.limited and not hopeless):
            self._refused = 0
            self._submit_from = now + LATER_S if taken.refused else now
            return
        self._refused += 1
        self._submit_from = now + ASK_S
        if self._refused >= REFUSED_MAX or not (taken.silent or hopeless):
            self._obstacle = taken.refused
            self._roster.write("unsubmittable", message=taken.refused)


def _hands_over(event: Event) -> bool:
    return event["event"] == "planned" and event.get("mode") == "added"


def _age_s(time: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
