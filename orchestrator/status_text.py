"""The text of `sweep status`: rows of facts, the table of pilots, and the likely next command."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orchestrator import render
from orchestrator.events import Progress
from orchestrator.history import Cause, words
from orchestrator.summary import Pilot, Summary

PILOTS_SHOWN = 40
MESSAGE_CHARS = 160
COLUMNS = ("Pilot", "SLURM id", "State", "Node", "Lanes", "Done", "Time left")

Rows = list[tuple[str, str]]


def show(name: str, found: Summary, state: Progress, *, code: str, now: datetime) -> None:
    """Print a sweep's status for people.

    Args:
        name: the sweep's.
        found: the numbers.
        state: the folded events.
        code: at what commit it was launched; empty where unknown.
        now: the present time, aware.
    """
    head = [*_head(name, found, code=code, now=now), *_driver(found, now=now)]
    tail = [*_cost(found), *_problems(found, state)]
    width = max(len(label) for label, _ in [*head, *tail])
    render.facts(head, width=width)
    if found.pilots:
        shown = found.pilots[:PILOTS_SHOWN]
        rows = [_pilot_row(place, pilot, now=now) for place, pilot in enumerate(shown, 1)]
        render.table(COLUMNS, rows, numeric=2, prose=True)
        if len(found.pilots) > len(shown):
            render.block(f"and {len(found.pilots) - len(shown)} further pilots")
    render.facts(tail, width=width)


def line(name: str, found: Summary, *, now: datetime) -> str:
    """Put a status on one line, for a log."""
    return f"{now:%Y-%m-%dT%H:%M:%SZ}  {render.clean(name)}  {_counts(found, apart='  ')}"


def next_command(name: str, found: Summary, state: Progress) -> str:
    """Choose the command that most likely helps now."""
    stopped = state.stopped.get("reason", "")
    if found.done == found.trials:
        command = f"aggregate {name}"
    elif state.held and (found.running or not found.failed):
        command = f"hold {name} --release"
    elif found.running:
        command = f"logs {name} --failed" if found.failed else f"status {name} --watch"
    elif stopped == "budget":
        command = f"resume {name} --max-gpu-hours {2 * (state.max_gpu_hours or 1):g}"
    elif stopped == "breaker" or (found.failed and not found.waiting):
        command = f"logs {name} --failed"
    else:
        command = f"resume {name}"
    return f"sweep {command}"


def _head(name: str, found: Summary, *, code: str, now: datetime) -> Rows:
    parts = [f"{found.trials:,} trials in {found.cells:,} cells"]
    if found.started:
        parts.append(f"started {_ago(found.started, now)}")
    elif found.launched:
        parts.append(f"launched {_ago(found.launched, now)}")
    if code:
        parts.append(f"code {code}")
    return [(render.clean(name), " · ".join(parts)), ("", _counts(found))]


def _counts(found: Summary, *, apart: str = "   ") -> str:
    numbers = {
        "done": found.done, "training": found.training, "waiting": found.waiting,
        "failed": found.failed,
    }  # fmt: skip
    parts = [f"{number:,} {label}" for label, number in numbers.items()]
    parts.append(f"{_percent(found.done, found.trials)} %")
    if not found.running:
        return apart.join([*parts, *(["nothing runs"] if found.done < found.trials else [])])
    if found.rate_per_min == found.rate_per_min:
        parts.append(f"{found.rate_per_min:.3g} trials/min")
    if found.left_s == found.left_s:
        parts.append(f"about {render.duration(found.left_s)} left")
    return apart.join(parts)


def _percent(done: int, trials: int) -> int:
    """Round down: 100 only where all is done."""
    return math.floor(100 * done / trials) if trials else 0


def _ago(when: datetime, now: datetime) -> str:
    return f"{render.duration((now - when).total_seconds())} ago"


def _driver(found: Summary, *, now: datetime) -> Rows:
    rows: Rows = []
    if not found.reachable:
        rows.append(("SLURM", "not reachable: what follows is what the sweep's own files say"))
    if job := found.driver:
        if job.state == "PENDING":
            start = f", starts about {render.moment(job.start, now=now)}" if job.start else ""
            never = "" if found.running else "; it never starts, sweep resume submits another"
            rows.append(("driver", f"{job.id} queued{start} ({job.reason}){never}"))
        else:
            left = f", {render.clock(job.time_left_s)} left" if job.time_left_s else ""
            rows.append(("driver", f"{job.id} {job.state.lower()} on {job.node or '-'}{left}"))
    elif found.pilots and found.reachable and not found.running:
        rows.append(("driver", "none: the pilots wait for one, then leave"))
    if found.first_start:
        rows.append(("", f"first pilot starts about {render.moment(found.first_start, now=now)}"))
    return rows


def _pilot_row(place: int, pilot: Pilot, *, now: datetime) -> list[str]:
    left = "" if pilot.time_left_s is None else render.clock(pilot.time_left_s)
    if pilot.state == "queued":
        when = f"starts about {render.moment(pilot.start, now=now)}" if pilot.start else ""
        left = f"{when} ({pilot.reason})".strip() if pilot.reason else when
    state = f"{pilot.state} (large)" if pilot.size != "normal" else pilot.state
    return [
        str(place), pilot.job, state, pilot.node or "-", str(pilot.lanes), str(pilot.done),
        left or "-",
    ]  # fmt: skip


def _cost(found: Summary) -> Rows:
    price = found.price or {}
    predicted, low, high = (price.get(key) for key in ("gpu_hours", "low", "high"))
    rows: Rows = []
    used = render.hours(found.used)
    if found.most is not None:
        rows.append(("used", f"{used} of at most {found.most:g} GPU-h"))
    elif found.used or predicted:
        rows.append(("used", f"{used} GPU-h"))
    if isinstance(predicted, float | int) and predicted > 0:
        text = f"{render.hours(predicted)} GPU-h predicted"
        if isinstance(low, float | int) and isinstance(high, float | int):
            text += f" ({render.hours(low)} to {render.hours(high)}); {_paid(found, low, high)}"
        rows.append(("price", text))
    return rows


def _paid(found: Summary, low: float, high: float) -> str:
    used = render.hours(found.used)
    if found.running or found.done < found.trials:
        return f"{used} paid so far"
    place = "below" if found.used < low else "above" if found.used > high else "within"
    return f"{used} paid, {place} the interval"


def _problems(found: Summary, state: Progress) -> Rows:
    rows: Rows = []
    causes = [_cause(cause) for cause in found.causes]
    rows += [("failures" if not place else "", text) for place, text in enumerate(causes)]
    excluded = [f"{node}: {reason}" for node, reason in state.excluded.items()]
    rows += [("excluded" if not place else "", _short(text)) for place, text in enumerate(excluded)]
    if state.held:
        rows.append(("held", "nothing new starts; packs in training finish"))
    if state.stopped:
        message = _short(state.stopped.get("message", ""))
        rows.append(("stopped", f"{state.stopped.get('reason', '')}: {message}"))
    if state.unsubmittable:
        text = f"{_short(state.unsubmittable)}\nthe driver cannot submit pilots; sweep resume can"
        rows.append(("pilots", text))
    if found.left:
        ends = ", ".join(f"{n} × {_short(why or 'unknown')}" for why, n in found.left.items())
        rows.append(("pilots", f"{sum(found.left.values())} ended: {ends}"))
    if state.late:
        rows.append(
            ("late", f"{render.many(len(state.late), 'segment')} came twice; the first counts")
        )
    return rows


def _cause(cause: Cause) -> str:
    """Say what a class of failure did and what was done about it."""
    done: list[str] = []
    if cause.split:
        done.append(
            f"{render.many(cause.split, 'pack')} again in parts of {cause.lanes} lanes or fewer"
        )
    if cause.moved:
        done.append(f"{render.many(cause.moved, 'pack')} again on larger GPUs")
    if cause.again:
        done.append(f"{render.many(cause.again, 'attempt')} made again")
    if cause.trials:
        done.append(f"{render.many(cause.trials, 'trial')} given up")
    number = cause.attempts or cause.trials
    said = f": {_short(cause.message)}" if cause.message and cause.trials else ""
    return f"{number} × {words(cause.kind)}: {', '.join(done) or 'over'}{said}"


def _short(text: str) -> str:
    text = render.clean(" ".join(text.split()))
    return text if len(text) <= MESSAGE_CHARS else f"{text[: MESSAGE_CHARS - 1]}…"


def value(name: str, found: Summary, state: Progress, jobs: Sequence[Any]) -> dict[str, Any]:
    """Describe a sweep as `status --json` prints it; `jobs` are those in the queue."""
    return {
        "sweep": name,
        "trials": found.trials, "done": found.done, "training": found.training,
        "waiting": found.waiting, "failed": found.failed, "cells": found.cells,
        "running": found.running, "slurm_reachable": found.reachable, "jobs": list(jobs),
        "failures": {cause.kind: cause.trials for cause in found.causes if cause.trials},
        "late_segments": [f"{pack}-{attempt}" for pack, attempt in state.late],
        "seconds": round(state.seconds, 3),
        "launched": _iso(found.launched), "started": _iso(found.started),
        "rate_per_min": _number(found.rate_per_min), "left_s": _number(found.left_s),
        "pilots": [_pilot_value(pilot) for pilot in found.pilots],
        "pilots_left": dict(found.left),
        "used_gpu_hours": round(found.used, 4), "max_gpu_hours": found.most,
        "price": found.price,
        "causes": [
            {
                "class": cause.kind, "attempts": cause.attempts, "trials_given_up": cause.trials,
                "again": cause.again, "split": cause.split, "moved": cause.moved,
                "message": cause.message,
            }
            for cause in found.causes
        ],
        "held": state.held, "excluded": dict(state.excluded),
        "stopped": {key: state.stopped.get(key, "") for key in ("reason", "message")}
        if state.stopped else None,
        "unsubmittable": state.unsubmittable,
        "cancelled": len(state.cancelled.intersection(state.trials)),
        "next": next_command(name, found, state),
    }  # fmt: skip


def _pilot_value(pilot: Pilot) -> dict[str, Any]:
    return {
        "id": pilot.job, "size": pilot.size, "state": pilot.state, "node": pilot.node,
        "lanes": pilot.lanes, "done": pilot.done, "time_left_s": pilot.time_left_s,
        "start": _iso(pilot.start), "reason": pilot.reason,
    }  # fmt: skip


def _iso(when: datetime | None) -> str | None:
    return when.isoformat() if when else None


def _number(amount: float) -> float | None:
    return round(amount, 3) if math.isfinite(amount) else None
