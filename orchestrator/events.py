"""What happened in a sweep, appended to disk by one writer per file, and folded to states.

Nothing is stored that can be derived: a trial's state follows from the events and one listing of
the segments. No heavy import, so that `sweep status` stays quick.
"""

import json
import logging
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.event_fields import is_whole
from orchestrator.folder import Folder, file_mode
from orchestrator.progress import Event as Event
from orchestrator.progress import Observation as Observation
from orchestrator.progress import Pilot as Pilot
from orchestrator.progress import Progress as Progress
from orchestrator.progress import seconds_of, see

log = logging.getLogger(__name__)


def now() -> str:
    """Tell the time, UTC, ISO-8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Journal:
    """Appends events to a file that no other process writes."""

    def __init__(self, folder: Folder, role: str) -> None:
        self.writer = f"{role}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._path = folder.events / f"{self.writer}.jsonl"
        self._kept: list[bytes] = []

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; it is on disk when this returns.

        Raises:
            OSError: The disk is full, for example; the event did not happen.
        """
        self._append(_line(event, fields))

    def note(self, event: str, **fields: Any) -> None:
        """Append one event as soon as the disk takes it: now, or before the next one."""
        self._kept.append(_line(event, fields))
        try:
            while self._kept:
                self._append(self._kept[0])
                del self._kept[0]
        except OSError as error:
            log.warning("event=%s waits for the disk: %s", event, error)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            if not (size := os.fstat(descriptor).st_size):
                os.fchmod(descriptor, file_mode(self._path.parent))
            # What a full disk cut off must not swallow this event.
            torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
            file.write(b"\n" + line if torn else line)
            file.flush()
            os.fsync(descriptor)


def _line(event: str, fields: dict[str, Any]) -> bytes:
    text = json.dumps({"event": event, "time": now(), **fields}, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "surrogateescape")


def parse(line: bytes | str, writer: str) -> Event | None:
    """Read one line of a writer's file; None where it is torn, or no event of ours."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return {"writer": writer, **event} if is_whole(event) else None


def read_events(folder: Folder) -> list[Event]:
    """Read all events in time order; a line torn by a crash is left out."""
    events: list[Event] = []
    for path in sorted(folder.events.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            if event := parse(line, path.stem):
                events.append(event)
    events.sort(key=lambda event: event["time"])
    return events


def list_segments(folder: Folder) -> list[tuple[str, int]]:
    """List (pack, attempt) of the whole segments, by one directory listing."""
    found = []
    for entry in os.scandir(folder.segments):
        pack, _, attempt = entry.name.rpartition("-")
        if pack and attempt.isdigit() and not entry.name.startswith("."):
            found.append((pack, int(attempt)))
    return sorted(found, key=lambda key: (key[1], key[0]))


def fold(events: Iterable[Event], segments: Sequence[tuple[str, int]]) -> Progress:
    """Derive every trial's state; pure.

    The first `accepted` event of a trial whose segment is there decides; a trial without one takes
    the lowest (attempt, pack) among the segments of its packs.
    """
    state = Progress()
    events = list(events)
    there, judged = set(segments), set()
    for event in events:
        # Before all else: clocks of login and compute nodes differ.
        if event["event"] in ("planned", "split"):
            state.packs.update(event["packs" if event["event"] == "planned" else "into"])
    for event in events:
        if event["event"] == "accepted":
            if (event["pack"], event["attempt"]) not in there:
                continue
            judged.add((event["pack"], event["attempt"]))
        _apply(state, event)
    for pack, attempt in segments:
        state.attempts[pack] = max(state.attempts.get(pack, 0), attempt)
        if (pack, attempt) in judged:
            continue
        fresh = [trial for trial in state.packs.get(pack, ()) if trial not in state.accepted]
        for trial in fresh:
            if state.failed.get(trial) != "numeric":
                _settle(state, trial, (pack, attempt))
        (state.unjudged if fresh else state.late).append((pack, attempt))
    return state


def _apply(state: Progress, event: Event) -> None:
    match event["event"]:
        case "planned":
            _plan(state, event)
        case "submitting" | "refused" | "submitted" | "launching" | "launched":
            _submit(state, event)
        case "alive":
            see(state.launches, event)
        case "started" | "joined" | "left" | "gone":
            _follow(state, event)
        case "driving":
            state.driver, state.training, state.unsubmittable = event, {}, ""
        case "ended":
            state.training = {}
            state.drivers = [job for job in state.drivers if job != event["job"]]
            if event.get("reason"):
                state.stopped = event
        case "held" | "unheld":
            state.held = event["event"] == "held"
        case "rung":
            state.rungs.append(event)
        case "cancelled":
            state.cancelled.update(set(event["trials"]) - state.accepted.keys())
            for trial in event["trials"]:
                _give_up(state, trial, "cancelled")
        case "stopped":
            state.stopped = event
        case "excluded":
            state.excluded[event["node"]] = event["reason"]
        case "unsubmittable":
            state.unsubmittable = event["message"]
        case "assigned" | "accepted" | "failed" | "released" | "split" | "moved":
            _work(state, event, state.packs.get(event["pack"], ()))


def _plan(state: Progress, event: Event) -> None:
    """Take a launch: a new plan, or packs that join those of the driver that runs."""
    added = event.get("mode") == "added"
    state.trials, state.cells = tuple(event["trials"]), event["cells"]
    state.planned = tuple(dict.fromkeys([*(state.planned if added else ()), *event["packs"]]))
    state.suggested.update(event.get("suggested", {}))
    state.cancelled.difference_update(event["retried"])
    for trial in event["retried"]:
        state.failed.pop(trial, None)
        if trial in state.retired:  # some cell needs it whole now
            state.retired.discard(trial)
            del state.accepted[trial]
    if added:
        return
    state.launch_time = event.get("time", "")
    state.max_gpu_hours, state.price = event.get("max_gpu_hours"), event.get("price") or {}
    state.stopped, state.unsubmittable, state.excluded = {}, "", {}
    state.failures, state.moved = {}, {}


def _submit(state: Progress, event: Event) -> None:
    match event["event"]:
        case "launching":
            state.launches[event["writer"]] = event
        case "launched":
            state.launches.pop(event["writer"], None)
        case "submitting":
            state.untracked.append(event["tag"])
        case _ if event.get("tag") in state.untracked:
            state.untracked.remove(event["tag"])
    if event["event"] != "submitted":
        return
    state.submitted.append(event)
    if event["role"] == "driver":
        state.drivers.append(event["job"])
    else:
        pilot = state.pilots.setdefault(event["job"], Pilot(job=event["job"]))
        pilot.size, pilot.gpus = event.get("size", "normal"), event.get("gpus", 0.0)


def _follow(state: Progress, event: Event) -> None:
    """Take what a pilot, or the driver about a pilot, says."""
    pilot = state.pilots.setdefault(event["job"], Pilot(job=event["job"]))
    match event["event"]:
        case "started":
            if pilot.started:
                pilot.earlier.append((seconds_of(pilot.started), pilot.ran(event["time"])))
            pilot.started, pilot.left, pilot.reason, pilot.state = event["time"], "", "", ""
            pilot.seconds = 0.0
            pilot.node, pilot.gpus = event["node"], event["gpus"]
            pilot.walltime_s, pilot.size = event["walltime_s"], event["size"]
        case "joined":
            pilot.joined = event["time"]
        case "left":
            pilot.left, pilot.reason = event["time"], event["reason"]
            pilot.seconds = event["seconds"]
        case "gone":
            pilot.state = event["state"]
            if not pilot.left:
                pilot.left = event["time"]
                ran = seconds_of(event["time"]) - seconds_of(pilot.started or event["time"])
                # SLURM's own count where it has one: the driver may notice hours later.
                pilot.seconds = event["seconds"] or min(ran, pilot.walltime_s)


def _work(state: Progress, event: Event, ids: Sequence[str]) -> None:
    """Take what happened to a pack."""
    pack = event["pack"]
    match event["event"]:
        case "assigned":
            state.attempts[pack] = max(state.attempts.get(pack, 0), event["attempt"])
            left = [trial for trial in ids if trial not in state.accepted]
            state.training.update({trial: event["worker"] for trial in left})
        case "accepted":
            _accept(state, event, ids)
        case "failed" | "released":
            for trial in ids:
                state.training.pop(trial, None)
                if event.get("final"):
                    _give_up(state, trial, event["failure"])
            if event["event"] == "failed":
                known = (event["failure"], event.get("signature", ""))
                state.failures.setdefault(pack, []).append(known)
            state.shares[pack] = event.get("share", state.shares.get(pack, 0.0))
        case "split":
            place = state.planned.index(pack) if pack in state.planned else len(state.planned)
            parts = tuple(part for part in event["into"] if part not in state.planned)
            state.planned = (*state.planned[:place], *parts, *state.planned[place + 1 :])
            state.parents |= dict.fromkeys(event["into"], pack)
            if pack in state.moved:
                state.moved |= dict.fromkeys(event["into"], state.moved[pack])
        case "moved":
            state.moved[pack] = event


def _accept(state: Progress, event: Event, ids: Collection[str]) -> None:
    state.seconds += event["seconds"]
    state.shares.pop(event["pack"], None)
    result = (event["pack"], event["attempt"])
    if event.get("kind") and event["attempt"] == 1:
        # A later attempt may have begun at a checkpoint.
        names = ("kind", "lanes", "seconds", "device")
        state.observations.append(Observation(**{name: event[name] for name in names}))
    for trial in ids:
        if trial in event["failed"]:
            state.dead[trial] = result
            _give_up(state, trial, event["failed"][trial])
        elif trial not in state.accepted:
            _settle(state, trial, result)
            state.retired.update({trial}.intersection(event.get("retired", ())))


def _settle(state: Progress, trial: str, result: tuple[str, int]) -> None:
    state.accepted[trial] = result
    state.training.pop(trial, None)
    state.failed.pop(trial, None)
    state.cancelled.discard(trial)


def _give_up(state: Progress, trial: str, failure: str) -> None:
    state.training.pop(trial, None)
    if trial not in state.accepted:
        state.failed[trial] = failure


def progress(folder: Folder) -> Progress:
    """Fold what is on disk now."""
    return fold(read_events(folder), list_segments(folder))
