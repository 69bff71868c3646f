"""What follows from the answers of SLURM and the broker for a sweep's pilots; pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NORMAL, LARGE = "normal", "large"
DEATHS_MAX = 3
"""Pilots in a row that may end before they joined."""
IDLE_S = 120.0
"""An idle pilot of a search waits this long for the next round: a new one waits in the queue."""

Phase = Literal["queued", "starting", "serving", "leaving", "over"]


@dataclass(slots=True, kw_only=True)
class Record:
    """What the events say of one pilot.

    Args:
        job: its SLURM job id.
        size: "normal" or "large".
        phase: the last that is known.
        node: where it ran; empty before it started.
        joined: whether it ever was part of a driver's cluster.
        reason: why it left, as it said itself.
        state: SLURM's state, once it ended.
        ours: the driver cancelled it while it was queued.
        oom: its last event about a process killed for memory; empty before the first.
    """

    job: str
    size: str = NORMAL
    phase: Phase = "queued"
    node: str = ""
    joined: bool = False
    reason: str = ""
    state: str = ""
    ours: bool = False
    oom: str = ""


def note(records: dict[str, Record], event: Mapping[str, Any]) -> None:
    """Take one event into the records of pilots, which stay in the order of submission."""
    name = event["event"]
    if name == "submitted" and event["role"] == "pilot":
        size = event.get("size", NORMAL)
        records.setdefault(event["job"], Record(job=event["job"])).size = size
    if name not in ("started", "joined", "draining", "oom", "left", "gone"):
        return
    record = records.setdefault(event["job"], Record(job=event["job"]))
    match name:
        case "started":
            # Again after "over": the driver's own allocation, requeued.
            record.phase, record.node, record.size = "starting", event["node"], event["size"]
        case "joined":
            record.phase, record.joined = "serving", True
        case "draining":
            record.phase = "leaving"
        case "oom":
            record.oom = event["time"]
        case "left":
            record.phase, record.reason = "over", event["reason"]
        case "gone":
            record.phase, record.state = "over", event["state"]
            record.ours = event.get("by") == "driver"


def deaths(records: Mapping[str, Record]) -> int:
    """Count the last pilots in a row that ended by themselves before they joined."""
    count = 0
    for record in records.values():
        if record.joined:
            count = 0
        elif record.phase == "over" and _died(record):
            count += 1
    return count


def _died(record: Record) -> bool:
    if record.reason in ("dismissed", "the driver ended") or record.reason.startswith("signal"):
        return False
    return record.state not in ("CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """A pilot that has not ended.

    Args:
        job: its SLURM job id.
        size: "normal" or "large".
        phase: queued in SLURM; starting, with an allocation; serving the driver; leaving.
        busy: packs that train on it.
        fixed: it is the driver's own allocation, which is neither cancelled nor dismissed.
        idle_s: how long it has served without anything to train.
    """

    job: str
    size: str
    phase: Phase
    busy: int = 0
    fixed: bool = False
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a decision about pilots depends on.

    Args:
        waiting: packs that wait, of either size.
        large: those of them that need a large pilot.
        lost: packs whose worker vanished and that nobody judged yet.
        more: further packs may follow from results of those in training.
        held: the user holds the sweep.
        stopped: the broker hands out nothing more.
        pilots: those that have not ended.
        wanted: the profile's pilots, less those that the user cancelled.
        workers: packs trained at once on a pilot.
        queued_max: most pilots pending at once.
        can_submit: whether this driver may ever submit a pilot.
        may_submit: whether it may just now.
        deaths: pilots in a row that ended before they joined.
        spent: GPU-hours since the launch.
        budget: most GPU-hours; None without a cap.
        obstacle: why pilots cannot be submitted, where SLURM refused.
    """

    waiting: int
    large: int = 0
    lost: int = 0
    more: bool = False
    held: bool = False
    stopped: bool = False
    pilots: tuple[Pilot, ...] = ()
    wanted: int
    workers: int = 1
    queued_max: int = 16
    can_submit: bool = True
    may_submit: bool = True
    deaths: int = 0
    spent: float = 0.0
    budget: float | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What the supervisor must do now; empty most of the time.

    Args:
        submit: pilots to submit, by size.
        cancel: SLURM job ids of queued pilots.
        dismiss: SLURM job ids of pilots that must leave.
        stop: reason and message with which the broker is stopped; None to go on.
    """

    submit: Mapping[str, int] = field(default_factory=dict)
    cancel: tuple[str, ...] = ()
    dismiss: tuple[str, ...] = ()
    stop: tuple[str, str] | None = None


def decide(view: View) -> Actions:
    """Decide about pilots: none without work or over the budget, else as many as are useful."""
    if view.stopped:
        return _clear(view)
    if view.budget is not None and view.spent >= view.budget:
        text = f"{view.spent:.2f} of at most {view.budget:g} GPU-hours are used"
        return _clear(view, stop=("budget", text))
    if view.held or view.waiting + view.lost == 0:
        return _between(view) if view.more and not view.held else _spare(view)
    submit = _submissions(view)
    if not view.pilots and not view.can_submit:
        return Actions(stop=_given_up(view))
    if not view.pilots and view.deaths >= DEATHS_MAX:
        text = f"{view.deaths} pilots in a row ended before they joined: sweep logs shows why"
        return Actions(stop=("no pilots", text))
    if not view.can_submit and _idle_for_good(view):
        return Actions(stop=_given_up(view))
    if not view.pilots and view.wanted <= 0:
        return Actions(stop=("no pilots", "every pilot was cancelled"))
    return Actions(submit=submit, cancel=_surplus(view), dismiss=_misfits(view))


def useful(packs: int, workers: int) -> int:
    """Count the pilots that so many packs keep busy."""
    return math.ceil(packs / workers)


def _idle_for_good(view: View) -> bool:
    """Tell whether only the driver's own pilot is left and all that waits is too large for it."""
    idle = view.pilots and all(pilot.fixed and not pilot.busy for pilot in view.pilots)
    return bool(idle) and view.large == view.waiting and not view.lost


def _submissions(view: View) -> dict[str, int]:
    if not (view.can_submit and view.may_submit) or view.deaths >= DEATHS_MAX:
        return {}
    room = view.queued_max - sum(pilot.phase == "queued" for pilot in view.pilots)
    room = min(room, view.wanted - len(_staying(view.pilots)))
    found = {}
    for size, packs in ((LARGE, view.large), (NORMAL, view.waiting + view.lost - view.large)):
        coming = [p for p in _staying(view.pilots) if p.size == size and p.phase != "serving"]
        free = sum(
            max(0, view.workers - pilot.busy)
            for pilot in view.pilots
            if pilot.phase == "serving" and pilot.size == size
        )
        count = min(room, useful(max(0, packs - free), view.workers) - len(coming))
        if count > 0:
            found[size] = count
            room -= count
    return found


def _surplus(view: View) -> tuple[str, ...]:
    """Choose queued pilots, the youngest first, that would find nothing to do."""
    chosen: list[str] = []
    for size, packs in ((LARGE, view.large), (NORMAL, view.waiting + view.lost - view.large)):
        queued = [p.job for p in view.pilots if p.phase == "queued" and p.size == size]
        chosen += queued[useful(packs, view.workers) :]
    return tuple(chosen)


def _misfits(view: View) -> tuple[str, ...]:
    """Choose idle pilots of a size that no waiting pack needs."""
    normal = view.waiting + view.lost - view.large
    idle = [p for p in view.pilots if p.phase == "serving" and not p.busy and not p.fixed]
    return tuple(p.job for p in idle if not (view.large if p.size == LARGE else normal))


def _spare(view: View) -> Actions:
    """Let go of every pilot that trains nothing."""
    idle = [p.job for p in view.pilots if p.phase in ("starting", "serving") and not p.busy]
    return Actions(cancel=_queued(view), dismiss=_dismissable(view, idle))


def _between(view: View) -> Actions:
    """Keep pilots for the next round of a search, but those that have idled for too long."""
    idle = [p.job for p in view.pilots if p.phase == "serving" and p.idle_s >= IDLE_S]
    return Actions(dismiss=_dismissable(view, idle))


def _clear(view: View, *, stop: tuple[str, str] | None = None) -> Actions:
    """Let go of every pilot; those that train leave checkpoints."""
    jobs = [pilot.job for pilot in view.pilots if pilot.phase in ("starting", "serving")]
    return Actions(cancel=_queued(view), dismiss=_dismissable(view, jobs), stop=stop)


def _dismissable(view: View, jobs: list[str]) -> tuple[str, ...]:
    fixed = {pilot.job for pilot in view.pilots if pilot.fixed}
    return tuple(job for job in jobs if job not in fixed)


def _queued(view: View) -> tuple[str, ...]:
    return tuple(pilot.job for pilot in view.pilots if pilot.phase == "queued")


def _staying(pilots: tuple[Pilot, ...]) -> list[Pilot]:
    return [pilot for pilot in pilots if pilot.phase != "leaving"]


def _given_up(view: View) -> tuple[str, str]:
    if view.obstacle:
        return "cannot submit", view.obstacle
    return "no pilots", "no pilot is left and the profile does not replace them"
