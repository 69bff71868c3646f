"""What happened to packs and pilots since the last launch, beside the folded state; pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator import fleet
from orchestrator.events import Event
from orchestrator.fleet import Record

WORDS = {
    "bug": "error in the code",
    "cancelled": "cancelled by you",
    "collateral": "fault of a neighbour on the same GPU",
    "data": "wrong data",
    "disk": "disk full or failing",
    "gpu_memory": "out of GPU memory",
    "host_memory": "out of host memory",
    "lost": "worker vanished",
    "node_fail": "node failed",
    "numeric": "loss not finite",
    "pilot_cancelled": "pilot cancelled",
    "preempted": "preempted",
    "sick_gpu": "sick GPU",
    "timeout": "time limit",
}
"""Failure classes for people."""

Attempt = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class Cause:
    """One class of failure since the last launch, and what was done about it.

    Args:
        kind: the class.
        attempts: attempts at packs that it ended.
        trials: trials given up for it.
        again: packs that were, or will be, tried again as they are.
        split: packs that were taken apart.
        lanes: most lanes of their parts.
        moved: packs that wait for a larger pilot.
        message: of the last failure.
    """

    kind: str
    attempts: int = 0
    trials: int = 0
    again: int = 0
    split: int = 0
    lanes: int = 0
    moved: int = 0
    message: str = ""


@dataclass(slots=True, kw_only=True)
class History:
    """What the events say beside the folded state.

    Args:
        launched: time of the last whole launch; empty before the first.
        began: time of the first driver since; empty before it.
        records: pilots by SLURM job id.
        places: (pack, attempt) to (worker, pilot, node).
        open: attempts that train, as far as the last driver said.
        ended: time and number of trials of packs accepted since the last driver began.
        causes: failures since the last launch, by class.
    """

    launched: str = ""
    began: str = ""
    driven: str = ""
    records: dict[str, Record] = field(default_factory=dict)
    places: dict[Attempt, tuple[str, str, str]] = field(default_factory=dict)
    open: set[Attempt] = field(default_factory=set)
    ended: list[tuple[str, int]] = field(default_factory=list)
    causes: dict[str, Cause] = field(default_factory=dict)
    _last: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event, packs: Mapping[str, Sequence[str]]) -> None:
        """Add one event, in time order; `packs` names the trials of every pack."""
        fleet.note(self.records, event)
        attempt = (event.get("pack", ""), event.get("attempt", 0))
        match event["event"]:
            case "planned" if event.get("mode", "all") == "all":
                self.launched, self.began = event["time"], ""
                self.causes.clear()
            case "driving":
                self.driven = event["time"]
                self.began = self.began or event["time"]
                self.open.clear()
                self.ended.clear()
            case "ended":
                self.open.clear()
            case "assigned":
                place = (event["worker"], event.get("pilot", ""), event.get("node", ""))
                self.places[attempt] = place
                self.open.add(attempt)
            case "accepted":
                self.open.discard(attempt)
                self.ended.append((event["time"], len(packs.get(attempt[0], ()))))
            case "released":
                self.open.discard(attempt)
            case "failed" | "split" | "moved":
                self.open.discard(attempt)
                if event.get("reason") != "cancelled":
                    self._fail(event)

    def _fail(self, event: Event) -> None:
        pack = event["pack"]
        kind = event["failure"] if event["event"] == "failed" else self._last.get(pack, "bug")
        cause = self.causes.setdefault(kind, Cause(kind=kind))
        match event["event"]:
            case "failed":
                self._last[pack] = kind
                cause.attempts += 1
                cause.message = event["message"]
                cause.again += not event["final"]
            case "split":
                cause.split += 1
                cause.again -= cause.again > 0
                cause.lanes = max(cause.lanes, *(len(ids) for ids in event["into"].values()), 0)
            case "moved":
                cause.moved += 1
                cause.again -= cause.again > 0


def words(kind: str) -> str:
    """Name a class of failure for people."""
    return WORDS.get(kind, kind.replace("_", " "))


def fingerprint(event: Event) -> str:
    """Name what is equal in failures of one cause; old events have no signature of their own."""
    trace = str(event.get("trace") or "").splitlines()
    frames = [line.strip() for line in trace if line.lstrip().startswith("File ")]
    text = json.dumps(frames) if frames else str(event.get("message", ""))
    return str(event.get("signature") or f"{event['failure']} {text}")
