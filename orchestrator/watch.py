"""Watching a sweep, holding it and ending it; reads small files and asks SLURM once at most."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator import control, events, jobs, lookup, render, roster, screen, status_text, summary
from orchestrator.errors import StoreError
from orchestrator.events import Progress
from orchestrator.folder import Folder
from orchestrator.render import Mode
from orchestrator.summary import Summary

INTERVAL_S = 30.0
"""How often `--watch` looks: SLURM is asked no more often than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a sweep."""

    folder: Folder
    state: Progress
    queue: Mapping[str, Any] | None
    found: Summary
    now: datetime

    @property
    def code(self) -> int:
        """The exit code: 1 where trials failed or are missing and nothing trains."""
        return 0 if self.found.running or self.found.done == self.found.trials else 1


def look(folder: Folder) -> Look:
    """Read the events, list the segments, ask SLURM once, and sum up."""
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    queue = jobs.ask(state)
    now = datetime.now(UTC)
    found = summary.make(told, state, queue, running=jobs.running(state, queue), now=now)
    return Look(folder=folder, state=state, queue=queue, found=found, now=now)


def status(folder: Folder, *, mode: Mode) -> int:
    """Show how far a sweep is; 1 where trials failed or are missing and nothing trains."""
    folder.require()
    seen = look(folder)
    _show(seen, mode)
    return seen.code


def follow(
    folder: Folder,
    *,
    mode: Mode,
    interval_s: float = INTERVAL_S,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Show how far a sweep is, again and again until nothing runs.

    On a terminal in one place; elsewhere a line, or in JSON mode a value, at each look.
    """
    folder.require()
    drawn = mode == "text" and render.on_terminal()
    with screen.take() if drawn else contextlib.nullcontext() as redraw:
        while (seen := look(folder)).found.running:
            if redraw:
                redraw(lambda: _draw(seen, interval_s))
            else:
                _tell(seen, mode)
            sleep(interval_s)
    if (mode == "text" and not drawn) or mode == "json":
        _tell(seen, mode)
    else:
        _show(seen, mode)
    return seen.code


def value(folder: Folder) -> dict[str, Any]:
    """Describe a sweep's state as `status --json` prints it."""
    return _value(look(folder))


def hold(folder: Folder, *, release: bool, mode: Mode) -> int:
    """Let no further pack begin, or let a held sweep go on.

    Raises:
        StoreError: Nothing runs that could be held.
    """
    folder.require()
    state = events.progress(folder)
    running = jobs.running(state, jobs.ask(state))
    changed = state.held == release
    if not release and not running:
        raise StoreError(
            f"{folder.root}: this sweep does not train, so there is nothing to hold",
            hint=f"see how far it is: sweep status {folder.name}",
        )
    if changed:
        (control.release if release else control.hold)(folder)
    if mode == "json":
        render.value(
            {"sweep": folder.name, "held": not release, "changed": changed, "running": running}
        )
    elif mode == "quiet":
        render.lines([folder.name] if changed else [])
    else:
        _show_hold(folder, state, release=release, changed=changed, running=running)
    return 0


def cancel(folder: Folder, *, where: Sequence[str] = (), mode: Mode) -> int:
    """End a sweep's jobs; or, given conditions, give up the trials of the cells that match."""
    folder.require()
    if where:
        return _cancel_cells(folder, where, mode)
    ended = jobs.cancel(folder)
    if mode == "json":
        render.value({"sweep": folder.name, "cancelled": ended})
    elif mode == "quiet":
        render.lines(ended)
    else:
        render.facts([("cancelled", ", ".join(ended) or "nothing was running")])
        render.next_command(f"sweep resume {folder.name}")
    return 0


def _cancel_cells(folder: Folder, where: Sequence[str], mode: Mode) -> int:
    state = events.progress(folder)
    match = lookup.where(folder, where)
    trials = [t for t in match.trials if t not in state.accepted and t not in state.cancelled]
    control.cancel_trials(folder, trials)
    if mode == "json":
        done = sum(trial in state.accepted for trial in match.trials)
        render.value({
            "sweep": folder.name, "cells": match.cells, "cancelled_trials": trials, "done": done,
            "shared": match.shared,
        })  # fmt: skip
    elif mode == "quiet":
        render.lines(trials)
    else:
        kept = f"\n{match.shared} are part of other cells too and stay" if match.shared else ""
        rest = len(match.trials) - len(trials)
        over = f"\n{rest} are done or cancelled already" if rest else ""
        text = (
            f"{render.many(len(trials), 'trial')} of {render.many(match.cells, 'cell')}{over}{kept}"
        )
        if trials:
            text += "\npacks in training that lose all their trials stop within seconds"
        render.facts([("cancelled", text)])
        if trials:
            render.next_command(f"sweep resume {folder.name} --retry cancelled")
    return 0


def _show_hold(
    folder: Folder, state: Progress, *, release: bool, changed: bool, running: bool
) -> None:
    packs = len({pack for pack, ids in state.packs.items() for t in ids if t in state.training})
    if not changed:
        render.facts([("hold", "it is not held" if release else "it is held already")])
    elif release:
        text = "the driver hands out packs and submits pilots again within seconds"
        render.facts([("released", text if running else "no driver runs that could go on")])
    else:
        text = (
            f"packs in training ({packs}) finish, nothing new starts\n"
            "queued pilots are cancelled and idle ones leave within seconds; the driver stays"
        )
        render.facts([("held", text)])
    if release and not running:
        render.next_command(f"sweep resume {folder.name}")
    elif not release:
        render.next_command(f"sweep hold {folder.name} --release")


def _show(seen: Look, mode: Mode) -> None:
    if mode == "json":
        render.value(_value(seen))
    elif mode == "quiet":
        render.lines(seen.state.to_train)
    else:
        code = _code(seen.folder)
        status_text.show(seen.folder.name, seen.found, seen.state, code=code, now=seen.now)
        render.next_command(status_text.next_command(seen.folder.name, seen.found, seen.state))


def _draw(seen: Look, interval_s: float) -> None:
    code = _code(seen.folder)
    status_text.show(seen.folder.name, seen.found, seen.state, code=code, now=seen.now)
    here = f"{seen.now.astimezone():%H:%M:%S}"
    render.block(f"\n{here}, again every {interval_s:g} s; Ctrl-C ends the watching only")


def _tell(seen: Look, mode: Mode) -> None:
    if mode == "json":
        render.json_line({"time": seen.now.isoformat(), **_value(seen)})
    elif mode == "text":
        render.block(status_text.line(seen.folder.name, seen.found, now=seen.now))


def _value(seen: Look) -> dict[str, Any]:
    queue = seen.queue
    known = [(event["job"], event["role"]) for event in seen.state.submitted]
    told = roster.untracked(seen.state.untracked, queue)
    known += [(job.id, roster.role(job.tag)) for job in told]
    entries = [
        {"id": job, "role": role, **_job_value(queue, job)}
        for job, role in known
        if queue is None or job in queue
    ]
    return status_text.value(seen.folder.name, seen.found, seen.state, entries)


def _job_value(queue: Mapping[str, Any] | None, job: str) -> dict[str, Any]:
    if not queue:
        return {"state": "unknown"}
    entry = queue[job]
    return {
        "state": entry.state, "node": entry.node, "reason": entry.reason,
        "time_left_s": entry.time_left_s,
        "start": entry.start.isoformat() if entry.start else None,
    }  # fmt: skip


def _code(folder: Folder) -> str:
    """Say at what commit a sweep was last launched; empty where its file does not."""
    try:
        code = json.loads(folder.code.read_text(encoding="utf-8"))
        commit = "" if code["commit"] == "unknown" else code["commit"][:7]
        return f"{commit} ({'clean' if code['clean'] else 'with changes'})" if commit else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
