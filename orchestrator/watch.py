"""Watching a sweep: its status, its failures, and ending it; reads small files only."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator import events, jobs, render
from orchestrator.events import Progress
from orchestrator.folder import Folder
from orchestrator.render import Mode


def status(folder: Folder, *, mode: Mode) -> int:
    """Show how far a sweep is; 1 where trials failed or are missing and nothing trains."""
    folder.require()
    state = events.progress(folder)
    queue = jobs.ask(state)
    alive = jobs.running(state, queue)
    counts = _counts(state, alive=alive)
    if mode == "json":
        render.value(value(folder, state, queue, alive=alive))
    elif mode == "quiet":
        render.lines(state.to_train)
    else:
        _show(folder, state, queue, alive=alive)
    return 0 if alive or counts["done"] == counts["trials"] else 1


def logs(folder: Folder, *, mode: Mode) -> int:
    """Show failures grouped by traceback, and where the logs are."""
    folder.require()
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in events.read_events(folder):
        if event["event"] == "failed":
            key = (event["failure"], event["trace"] or event["message"])
            groups[key].append(f"{event['pack']}-{event['attempt']}")
        elif event["event"] == "accepted":
            for trial, failure in event["failed"].items():
                groups[(failure, "the loss of this lane was not finite")].append(trial)
    files = sorted(str(path) for path in (folder.pool / "submitit").glob("*.out"))
    if mode == "json":
        failures = [
            {"class": kind, "trace": trace, "of": of} for (kind, trace), of in groups.items()
        ]
        render.value({"sweep": folder.name, "failures": failures, "logs": files})
    elif mode == "quiet":
        render.lines(files)
    else:
        for (kind, trace), of in groups.items():
            render.facts([(f"{len(of)} × {kind}", ", ".join(of[:8])), ("", trace)])
        render.facts(
            [("failures", str(sum(map(len, groups.values())))), ("logs", "\n".join(files))]
        )
    return 0


def cancel(folder: Folder, *, mode: Mode) -> int:
    """End a sweep's jobs."""
    ended = jobs.cancel(folder)
    if mode == "json":
        render.value({"sweep": folder.name, "cancelled": ended})
    elif mode == "quiet":
        render.lines(ended)
    else:
        render.facts([("cancelled", ", ".join(ended) or "nothing was running")])
        render.next_command(f"sweep resume {folder.name}")
    return 0


def _counts(state: Progress, *, alive: bool) -> dict[str, int]:
    trials, done, failed = len(state.trials), len(state.done), len(state.given_up)
    training = sum(trial in state.training for trial in state.trials) if alive else 0
    waiting = trials - done - failed - training
    return {
        "trials": trials, "done": done, "training": training, "waiting": waiting, "failed": failed
    }  # fmt: skip


def value(
    folder: Folder, state: Progress, queue: Mapping[str, Any] | None, *, alive: bool
) -> dict[str, Any]:
    """Describe a sweep's state as `status --json` prints it."""
    entries = [
        {"id": event["job"], "role": event["role"], **_job_value(queue, event["job"])}
        for event in state.submitted
        if queue is None or event["job"] in queue
    ]
    return {
        "sweep": folder.name,
        **_counts(state, alive=alive),
        "cells": state.cells,
        "running": alive,
        "slurm_reachable": queue is not None,
        "jobs": entries,
        "failures": dict(Counter(state.failed[trial] for trial in state.given_up)),
        "late_segments": [f"{pack}-{attempt}" for pack, attempt in state.late],
        "seconds": round(state.seconds, 3),
    }


def _job_value(queue: Mapping[str, Any] | None, job: str) -> dict[str, Any]:
    if not queue:
        return {"state": "unknown"}
    entry = queue[job]
    return {
        "state": entry.state, "node": entry.node, "reason": entry.reason,
        "time_left_s": entry.time_left_s,
    }  # fmt: skip


def _show(folder: Folder, state: Progress, queue: Mapping[str, Any] | None, *, alive: bool) -> None:
    counts = _counts(state, alive=alive)
    words = "   ".join(f"{counts[k]:,} {k}" for k in ("done", "training", "waiting", "failed"))
    share = counts["done"] / max(counts["trials"], 1)
    rows = [
        (folder.name, f"{counts['trials']:,} trials in {state.cells:,} cells{_age(state)}"),
        ("", f"{words}   {share:.0%}{'' if alive else '   nothing runs'}"),
    ]
    if queue is None:
        rows.append(("SLURM", "not reachable"))
    if state.late:
        rows.append(("late", f"{len(state.late)} segments came twice; the first counts"))
    for kind, count in Counter(state.failed[trial] for trial in state.given_up).items():
        rows.append(("failed", f"{count} × {kind}"))
    render.facts(rows)
    values = value(folder, state, queue, alive=alive)["jobs"]
    if values:
        columns = ["Job", "SLURM id", "State", "Node", "Reason", "Time left"]
        render.table(columns, [_job_row(entry) for entry in values])
    if not alive:
        done = counts["done"] == counts["trials"]
        failed = "logs" if counts["failed"] else "resume"
        render.next_command(f"sweep {'aggregate' if done else failed} {folder.name}")


def _job_row(entry: Mapping[str, Any]) -> list[str]:
    left = entry.get("time_left_s")
    return [
        entry["role"], entry["id"], entry["state"], entry.get("node") or "-",
        entry.get("reason") or "-", "-" if left is None else render.duration(left),
    ]  # fmt: skip


def _age(state: Progress) -> str:
    if not state.driver:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(state.driver["time"])).total_seconds()
    return f" · last started {render.duration(seconds)} ago"
