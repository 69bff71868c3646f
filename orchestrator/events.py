"""What happened in a sweep, appended to disk by one writer per file, and folded to states.

Nothing is stored that can be derived: a trial's state follows from the events and one listing of
the segments. No heavy import, so that `sweep status` stays quick.
"""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.folder import Folder

Event = dict[str, Any]


def now() -> str:
    """Tell the time, UTC, ISO-8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Journal:
    """Appends events to a file that no other process writes."""

    def __init__(self, folder: Folder, role: str) -> None:
        self.writer = f"{role}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._path = folder.events / f"{self.writer}.jsonl"

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; it is on disk when this returns."""
        line = json.dumps({"event": event, "time": now(), **fields}, ensure_ascii=False)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def read_events(folder: Folder) -> list[Event]:
    """Read all events in time order; a line torn by a crash is left out."""
    events: list[Event] = []
    for path in sorted(folder.events.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event and "time" in event:
                events.append({"writer": path.stem, **event})
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


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a sweep's events and segments add up to.

    Attributes:
        trials: ids of the trials of the last launched plan.
        cells: rows of the result table.
        packs: pack id to its trial ids, over all launches.
        planned: ids of the packs of the last launch, most urgent first.
        accepted: trial id to the (pack, attempt) whose result counts.
        failed: trial id to its failure class, for trials without a result that were given up.
        dead: trial id to the last (pack, attempt) in which its lane died.
        training: trial id to the worker that has it, as far as the last driver said.
        attempts: pack id to the highest attempt seen.
        unjudged: segments that count although no driver lived to say so.
        late: segments that arrived although another result counts.
        submitted: SLURM job ids with their role, in order.
        driver: the last driver's `driving` event, empty before the first.
        launches: `launching` events of commands that did not say that they ended, by writer.
        drivers: SLURM job ids of drivers that did not say that they ended.
        seconds: training seconds of accepted packs, summed.
    """

    trials: tuple[str, ...] = ()
    cells: int = 0
    packs: dict[str, Sequence[str]] = field(default_factory=dict)
    planned: tuple[str, ...] = ()
    accepted: dict[str, tuple[str, int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    dead: dict[str, tuple[str, int]] = field(default_factory=dict)
    training: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    unjudged: list[tuple[str, int]] = field(default_factory=list)
    late: list[tuple[str, int]] = field(default_factory=list)
    submitted: list[Event] = field(default_factory=list)
    driver: Event = field(default_factory=dict)
    launches: dict[str, Event] = field(default_factory=dict)
    drivers: list[str] = field(default_factory=list)
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


def fold(events: Iterable[Event], segments: Sequence[tuple[str, int]]) -> Progress:
    """Derive every trial's state; pure.

    The first `accepted` event of a trial decides; a trial without one takes the lowest
    (attempt, pack) among the segments of its packs.
    """
    state = Progress()
    judged: set[tuple[str, int]] = set()
    events = list(events)
    for event in events:
        # Before all else: clocks of login and compute nodes differ.
        if event["event"] == "planned":
            state.packs.update(event["packs"])
    for event in events:
        _apply(state, event)
        if event["event"] == "accepted":
            judged.add((event["pack"], event["attempt"]))
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
    pack = event.get("pack", "")
    ids = state.packs.get(pack, ())
    match event["event"]:
        case "planned":
            state.trials, state.cells = tuple(event["trials"]), event["cells"]
            state.planned = tuple(event["packs"])
            for trial in event["retried"]:
                state.failed.pop(trial, None)
        case "launching":
            state.launches[event["writer"]] = event
        case "launched":
            state.launches.pop(event["writer"], None)
        case "submitted":
            state.submitted.append(event)
            if event["role"] == "driver":
                state.drivers.append(event["job"])
        case "driving":
            state.driver, state.training = event, {}
        case "ended":
            state.training = {}
            state.drivers = [job for job in state.drivers if job != event["job"]]
        case "assigned":
            state.attempts[pack] = max(state.attempts.get(pack, 0), event["attempt"])
            state.training.update({trial: event["worker"] for trial in ids})
        case "accepted":
            state.seconds += event["seconds"]
            for trial in ids:
                if trial in event["failed"]:
                    state.dead[trial] = (pack, event["attempt"])
                    _give_up(state, trial, event["failed"][trial])
                elif trial not in state.accepted:
                    _settle(state, trial, (pack, event["attempt"]))
        case "failed" | "released":
            for trial in ids:
                state.training.pop(trial, None)
                if event.get("final"):
                    _give_up(state, trial, event["failure"])


def _settle(state: Progress, trial: str, result: tuple[str, int]) -> None:
    state.accepted[trial] = result
    state.training.pop(trial, None)
    state.failed.pop(trial, None)


def _give_up(state: Progress, trial: str, failure: str) -> None:
    state.training.pop(trial, None)
    if trial not in state.accepted:
        state.failed[trial] = failure


def progress(folder: Folder) -> Progress:
    """Fold what is on disk now."""
    return fold(read_events(folder), list_segments(folder))
