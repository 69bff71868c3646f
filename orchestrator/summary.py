"""What a sweep's status says: counts, rate, pilots, cost and failures; pure.

Derived from the events, the folded state and SLURM's answer. Nothing is read or printed here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cluster.slurm_text import Job
from orchestrator import roster
from orchestrator.events import Event, Progress
from orchestrator.fleet import Record
from orchestrator.history import Cause, History

RATE_PACKS = 20
"""At least so many of the last accepted packs make the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """A pilot that has not ended.

    Args:
        job: its SLURM job id.
        size: "normal" or "large".
        state: queued, starting, idle, training, draining, ending, or SLURM's own in small letters.
        node: where it runs; empty before.
        lanes: trials that it trains now.
        done: trials with a result that counts, from it.
        time_left_s: to its time limit; None where SLURM does not say.
        start: when SLURM expects it to begin; None where it has no estimate or it runs.
        reason: why it waits; empty where it does not.
    """

    job: str
    size: str
    state: str
    node: str
    lanes: int
    done: int
    time_left_s: int | None
    start: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The status of a sweep.

    Args:
        trials: of the plan.
        cells: of the plan.
        done: trials with a result.
        training: trials in packs that train.
        waiting: trials that neither have a result nor train nor were given up.
        failed: trials that were given up.
        running: whether a driver, or a launch that will start one, works on it.
        reachable: whether SLURM answered, where it was asked.
        started: when the last launch began to train; None before.
        launched: when the last launch was planned; None before the first.
        rate_per_min: trials that ended per minute, lately; NaN where unknown.
        left_s: until all is trained at this rate, seconds; NaN where unknown.
        first_start: when the first pilot is expected, where all are queued; None elsewhere.
        driver: the driver's job as SLURM sees it; None where it has none.
        pilots: that have not ended, in the order of submission.
        left: pilots that ended, by why.
        used: GPU-hours since the last launch.
        most: cap on GPU-hours; None without.
        price: predicted at the last launch; None where it was not.
        causes: failures, the most frequent first.
    """

    trials: int
    cells: int
    done: int
    training: int
    waiting: int
    failed: int
    running: bool
    reachable: bool
    started: datetime | None
    launched: datetime | None
    rate_per_min: float
    left_s: float
    first_start: datetime | None
    driver: Job | None
    pilots: tuple[Pilot, ...]
    left: Mapping[str, int]
    used: float
    most: float | None
    price: Mapping[str, float | str] | None
    causes: tuple[Cause, ...]


def make(
    events: Iterable[Event],
    state: Progress,
    queue: Mapping[str, Job] | None,
    *,
    running: bool,
    now: datetime,
) -> Summary:
    """Sum up a sweep.

    Args:
        events: all, in time order.
        state: what they fold to.
        queue: SLURM's answer by job id; None where it could not be asked.
        running: whether a driver or a launch works on it.
        now: the present time, aware.
    """
    history = History()
    for event in events:
        history.take(event, state.packs)
    for job in roster.untracked(state.untracked, queue, "pilot"):
        history.records.setdefault(job.id, Record(job=job.id))
    trials, done, failed = len(state.trials), len(state.done), len(state.given_up)
    training = sum(trial in state.training for trial in state.trials) if running else 0
    waiting = trials - done - failed - training
    rate = _rate(history, now) if running else math.nan
    pilots = tuple(_pilots(history, state, queue, running=running))
    starts = [pilot.start for pilot in pilots if pilot.start]
    all_queued = bool(pilots) and all(pilot.state == "queued" for pilot in pilots)
    return Summary(
        trials=trials,
        cells=state.cells,
        done=done,
        training=training,
        waiting=waiting,
        failed=failed,
        running=running,
        reachable=queue is not None,
        started=_time(history.began),
        launched=_time(history.launched),
        rate_per_min=rate,
        left_s=60 * (waiting + training) / rate if rate > 0 else math.nan,
        first_start=min(starts, default=None) if all_queued else None,
        driver=_driver(state, queue),
        pilots=pilots,
        left=_left(history),
        used=state.gpu_hours(now.isoformat()),
        most=state.max_gpu_hours,
        price=_price(state),
        causes=tuple(_causes(history, state)),
    )


def _price(state: Progress) -> Mapping[str, float | str] | None:
    """Return the prediction of the last launch; None where it had none."""
    amount = (state.price or {}).get("gpu_hours")
    known = isinstance(amount, float | int) and math.isfinite(amount)
    return state.price if known else None


def _rate(history: History, now: datetime) -> float:
    """Count trials per minute over the last packs; it falls while no pack ends."""
    workers = {history.places[attempt][0] for attempt in history.open if attempt in history.places}
    window = history.ended[-max(RATE_PACKS, 3 * len(workers)) :]
    if not window:
        return math.nan
    before = history.ended[: -len(window)]
    began = datetime.fromisoformat(before[-1][0] if before else history.driven or window[0][0])
    seconds = (now - began).total_seconds()
    return 60 * sum(number for _, number in window) / seconds if seconds > 0 else math.nan


def _pilots(
    history: History, state: Progress, queue: Mapping[str, Job] | None, *, running: bool
) -> Iterable[Pilot]:
    lanes, done = _work(history, state)
    for job, record in history.records.items():
        known = queue.get(job) if queue else None
        if (record.phase == "over" and known is None) or (queue is not None and known is None):
            continue
        words = _state(record, known, lanes=lanes[job] if running else 0)
        yield Pilot(
            job=job,
            size=record.size,
            state=words,
            node=(known.node if known else "") or record.node,
            lanes=lanes[job] if running else 0,
            done=done[job],
            time_left_s=known.time_left_s if known and words != "queued" else None,
            start=known.start if known and words == "queued" else None,
            reason=_reason(known) if words == "queued" else "",
        )


def _work(history: History, state: Progress) -> tuple[Counter[str], Counter[str]]:
    """Count by pilot the trials that it trains and those that it has done."""
    pilots = {attempt: pilot for attempt, (_, pilot, _) in history.places.items()}
    lanes: Counter[str] = Counter()
    for attempt in history.open:
        lanes[pilots.get(attempt, "")] += len(state.packs.get(attempt[0], ()))
    done = Counter(pilots.get(state.accepted[trial], "") for trial in state.done)
    return lanes, done


def _state(record: Record, known: Job | None, *, lanes: int) -> str:
    if known and known.state == "PENDING":
        return "queued"
    if (known and known.state == "COMPLETING") or record.phase == "over":
        return "ending"
    if known and known.state not in ("RUNNING", "CONFIGURING"):
        return known.state.lower()
    if record.phase == "leaving":
        return "draining"
    if record.phase == "serving":
        return "training" if lanes else "idle"
    return "queued" if known is None and record.phase == "queued" else "starting"


def _reason(known: Job | None) -> str:
    return known.reason if known and known.reason != "None" else ""


def _driver(state: Progress, queue: Mapping[str, Job] | None) -> Job | None:
    jobs = [event["job"] for event in state.submitted if event["role"] == "driver"]
    jobs += [job.id for job in roster.untracked(state.untracked, queue, "driver")]
    return next((queue[job] for job in reversed(jobs) if queue and job in queue), None)


def _left(history: History) -> dict[str, int]:
    """Count the pilots that ended: by SLURM's state where it says more than they did."""
    over = [record for record in history.records.values() if record.phase == "over"]
    said = Counter("not needed" if one.ours else one.reason or one.state.lower() for one in over)
    return dict(said.most_common())


def _causes(history: History, state: Progress) -> list[Cause]:
    found = dict(history.causes)
    for kind, trials in Counter(state.failed[trial] for trial in state.given_up).items():
        found.setdefault(kind, Cause(kind=kind)).trials = trials
    return sorted(found.values(), key=lambda one: (-one.trials, -one.attempts, one.kind))


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
