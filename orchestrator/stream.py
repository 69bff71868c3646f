"""New events of a sweep, and new lines of its driver's log, as they come."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from orchestrator import events, jobs, logs, render, tail
from orchestrator.events import Event
from orchestrator.folder import Folder
from orchestrator.render import Mode

POLL_S = 2.0
ASK_S = 30.0
"""How often `--follow` looks into files, and asks SLURM."""
TURNS = ("ended", "launched")
"""Events after which nothing may run any more."""
RECENT = 10
"""Events before the present ones that `--follow` begins with."""
LONG_FIELDS = ("event", "time", "writer", "trace", "trials", "packs", "into", "retried")


def follow(
    folder: Folder, *, with_driver: bool, mode: Mode, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Show new events, and with `with_driver` new lines of the driver's log, until nothing runs."""
    folder.require()
    reader = tail.Tail()
    recent = _fresh(folder, reader)
    while part := _fresh(folder, reader):
        recent += part
    log = logs.driver_log(folder, events.progress(folder)) if with_driver else None
    if log:
        reader.skip(log)
    _stream(recent[-RECENT:], mode)
    asked, running = -ASK_S, True
    while running:
        fresh = _fresh(folder, reader)
        if time.monotonic() - asked >= ASK_S or any(e["event"] in TURNS for e in fresh):
            asked = time.monotonic()
            running = _running(folder)
            fresh += _fresh(folder, reader)  # what was written before the last process ended
        _stream(fresh, mode)
        _stream_log(log, reader.read(log) if log else [], mode)
        if running:
            sleep(POLL_S)
    return 0


def _running(folder: Folder) -> bool:
    state = events.progress(folder)
    return jobs.running(state, jobs.ask(state))


def _fresh(folder: Folder, reader: tail.Tail) -> list[Event]:
    found: list[Event] = []
    for path in sorted(folder.events.glob("*.jsonl")):
        for line in reader.read(path):
            if event := events.parse(line, path.stem):
                found.append(event)
    return sorted(found, key=lambda event: event["time"])


def _stream(fresh: Iterable[Event], mode: Mode) -> None:
    for event in fresh:
        if mode == "json":
            render.json_line(event)
        elif mode == "text" and event["event"] != "alive":
            render.block(_event_text(event))
        elif event.get("pack"):
            render.block(event["pack"])


def _stream_log(path: Path | None, lines: Iterable[str], mode: Mode) -> None:
    for line in lines:
        if mode == "json":
            writer = path.name if path else ""
            render.json_line({"event": "log", "time": events.now(), "writer": writer, "line": line})
        elif mode == "text":
            render.block(f"driver    {line}")


def _event_text(event: Event) -> str:
    fields: dict[str, Any] = {key: one for key, one in event.items() if key not in LONG_FIELDS}
    said = " ".join(f"{key}={render.clean(str(one))}" for key, one in fields.items() if one != "")
    return f"{str(event['time'])[11:19]}  {event['event']:<10} {said}"
