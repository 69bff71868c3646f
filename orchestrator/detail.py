"""A closer look at a sweep: its failed trials, one trial, and whether its files are whole."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from orchestrator import events, lookup, render, store
from orchestrator.events import Event, Progress
from orchestrator.folder import Folder
from orchestrator.history import words
from orchestrator.render import Mode

ATTEMPT_COLUMNS = ("Attempt", "Where", "Began", "Took", "Outcome")


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try at a pack that holds the trial; times are ISO-8601, empty while unknown."""

    pack: str
    attempt: int
    worker: str = ""
    pilot: str = ""
    node: str = ""
    began: str = ""
    ended: str = ""
    outcome: str = "training"
    message: str = ""
    trace: str = ""


def failed(folder: Folder, *, mode: Mode) -> int:
    """List the trials that were given up; 1 where there are any."""
    folder.require()
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    rows = lookup.failed(told, state)
    if mode == "json":
        values = [{"trial": r.trial, "class": r.kind, **_rest(r)} for r in rows]
        render.value({"sweep": folder.name, "failed": values})
    elif mode == "quiet":
        render.lines([row.trial for row in rows])
    else:
        _show_failed(rows, state)
    return 1 if rows else 0


def trial(folder: Folder, start: str, *, mode: Mode) -> int:
    """Show one trial: its cell, its state, every attempt, and where its result is."""
    folder.require()
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    name = lookup.find(state, start)
    tries = attempts(told, state, name)
    cells = [dict(row) for row in lookup.read_cells(folder) if row["trial"] == name]
    what, pack = _state_of(state, name, tries)
    segment = folder.segments / "{}-{}".format(*state.accepted[name]) if pack else None
    if mode == "json":
        render.value({
            "sweep": folder.name, "trial": name, "state": what, "cells": cells,
            "segment": str(segment) if segment else None,
            "attempts": [asdict(one) for one in tries],
        })  # fmt: skip
    elif mode == "quiet":
        render.lines([str(segment)] if segment else [])
    else:
        rows = [("trial", name), ("state", what), *(("cell", _cell(row)) for row in cells)]
        if not cells:
            rows.append(("cell", "none: an earlier plan had it"))
        rows.append(("segment", str(segment) if segment else "none"))
        render.facts(rows)
        show_attempts(tries)
        if what.startswith("failed"):
            render.next_command(f"sweep logs {folder.name} {name}")
    return 0


def check(folder: Folder, *, mode: Mode) -> int:
    """Read every segment and every line of the events; 1 where something is damaged."""
    folder.require()
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    damaged = store.damaged(folder)
    lines = _unreadable(folder)
    late = [f"{pack}-{attempt}" for pack, attempt in state.late]
    kept = _checkpoints(folder)
    whole = len(events.list_segments(folder)) - len(damaged)
    if mode == "json":
        render.value({
            "sweep": folder.name, "whole_segments": whole, "damaged": damaged,
            "late_segments": late, "unreadable_lines": lines, "checkpoints": kept,
        })  # fmt: skip
    elif mode == "quiet":
        render.lines(sorted(damaged))
    else:
        _show_check(whole, damaged, late, lines, kept)
        if damaged:
            render.next_command(f"sweep resume {folder.name} --retry damaged")
    return 1 if damaged else 0


def attempts(told: Iterable[Event], state: Progress, name: str) -> list[Attempt]:
    """List every try at a pack that holds this trial, oldest first."""
    found: dict[tuple[str, int], Attempt] = {}
    for event in told:
        pack, number = event.get("pack", ""), event.get("attempt", 0)
        if not number or name not in state.packs.get(pack, ()):
            continue
        one = found.setdefault((pack, number), Attempt(pack=pack, attempt=number))
        _note(one, event, name)
    for pack, number in (*state.unjudged, *state.late):
        if name in state.packs.get(pack, ()):
            one = found.setdefault((pack, number), Attempt(pack=pack, attempt=number))
            late = (pack, number) in state.late
            one.outcome = "late: another result counts" if late else "result, not judged yet"
    for one in found.values():
        if one.outcome == "training" and name not in state.training:
            one.outcome = "its driver ended"
        if one.outcome == "result" and state.accepted.get(name) != (one.pack, one.attempt):
            other = "another counts" if name in state.accepted else "its segment is gone"
            one.outcome = f"result, but {other}"
    return list(found.values())


def show_attempts(tries: Sequence[Attempt]) -> None:
    """Print a table of attempts, where there are any."""
    if tries:
        render.table(ATTEMPT_COLUMNS, [_attempt_row(one) for one in tries], prose=True)


def _note(one: Attempt, event: Event, name: str) -> None:
    match event["event"]:
        case "assigned":
            one.began = event["time"]
        case "accepted":
            died = event["failed"].get(name)
            one.ended, one.outcome = event["time"], f"lane ended: {died}" if died else "result"
        case "failed":
            one.ended, one.outcome = event["time"], event["failure"]
            one.message, one.trace = event["message"], event.get("trace", "")
        case "released":
            one.ended, one.outcome = event["time"], "given back"
            one.message = event.get("reason", "")
        case _:
            return
    for key in ("worker", "pilot", "node"):
        setattr(one, key, event.get(key) or getattr(one, key))


def _state_of(state: Progress, name: str, tries: Sequence[Attempt]) -> tuple[str, str]:
    """Name a trial's state, and the pack of its result if it has one."""
    if name in state.accepted:
        word = "retired by its search" if name in state.retired else "done"
        return word, state.accepted[name][0]
    if name in state.failed:
        return f"failed ({state.failed[name]})", ""
    if name in state.training:
        return f"training on {state.training[name]}", ""
    if name not in state.trials:
        return "not in the plan", ""
    return f"waiting, after {render.many(len(tries), 'attempt')}" if tries else "waiting", ""


def _cell(row: lookup.Row) -> str:
    parts = [f"{key}={value}" for key, value in row.items() if key != "trial" and value != ""]
    return render.clean("  ".join(parts))


def _attempt_row(one: Attempt) -> list[str]:
    place = " ".join(part for part in (one.pilot, one.node) if part) or one.worker
    said = f"{one.outcome}: {one.message}" if one.message else one.outcome
    began, took = "-", "-"
    if one.began:
        began = f"{one.began[:10]} {one.began[11:19]}"
        start, end = (datetime.fromisoformat(time) for time in (one.began, one.ended or one.began))
        took = render.clock((end - start).total_seconds()) if one.ended else "-"
    return [f"{one.pack}-{one.attempt}", place or "-", began, took, said]


def _rest(row: lookup.Failed) -> dict[str, Any]:
    return {
        "message": row.message, "pack": row.pack, "attempts": row.attempts, "node": row.node,
    }  # fmt: skip


def _show_failed(rows: Sequence[lookup.Failed], state: Progress) -> None:
    """Show groups and then trials on a terminal; elsewhere one table with everything."""
    columns = ["Trial", "Class", "Pack", "Attempts", "Node"]
    cells = [[r.trial, r.kind, r.pack or "-", str(r.attempts), r.node or "-"] for r in rows]
    if not render.on_terminal():
        full = [[*cell, row.message] for cell, row in zip(cells, rows, strict=True)]
        render.table([*columns, "Message"], full)
        return
    groups = Counter((row.kind, row.message) for row in rows)
    facts = [
        (f"{number} × {words(kind)}", message or "-") for (kind, message), number in groups.items()
    ]
    none = [("failed", f"none of {render.many(len(state.trials), 'trial')}")]
    render.facts(facts or none)
    if cells:
        render.table(columns, cells)


def _unreadable(folder: Folder) -> dict[str, int]:
    """Count the lines that are no events, by file; a crash may leave one torn line in a file."""
    found: dict[str, int] = {}
    for path in sorted(folder.events.glob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")
        found[path.name] = sum(not events.parse(line, path.stem) for line in lines if line)
    return {name: count for name, count in found.items() if count}


def _checkpoints(folder: Folder) -> list[str] | None:
    """List the packs with a checkpoint; None where only the sweep's owner may look."""
    try:
        return sorted(path.name for path in folder.checkpoints.iterdir())
    except PermissionError:
        return None


def _show_check(
    whole: int,
    damaged: dict[str, str],
    late: Sequence[str],
    lines: dict[str, int],
    kept: Sequence[str] | None,
) -> None:
    rows = [("segments", f"{whole} whole, {len(damaged)} damaged")]
    rows += [("", f"{name}: {reason}") for name, reason in damaged.items()]
    twice = f"{render.many(len(late), 'segment')} came twice; the first counts: "
    rows.append(("late", f"{twice}{' '.join(late[:8])}" if late else "none"))
    text = ", ".join(f"{number} in {name}" for name, number in lines.items()) or "all lines read"
    rows.append(("events", f"not read: {text}" if lines else text))
    if kept is None:
        rows.append(("checkpoints", "not looked at: only the sweep's owner may"))
    else:
        rows.append(("checkpoints", f"{len(kept)} kept {' '.join(kept[:8])}".rstrip()))
    render.facts(rows)
