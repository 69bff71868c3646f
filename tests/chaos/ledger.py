"""What a results folder says, read a second time and independently of `orchestrator.events`.

Deliberately naive: every file is read anew, and the rule of acceptance is written out as the
numeric contract has it. It shares no code with what it checks.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

Event = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Events and segments of a sweep.

    Attributes:
        events: in time order.
        segments: (pack, attempt) on disk.
        trials: ids of the last plan.
        packs: pack id to trial ids, split packs too.
        winner: trial to the (pack, attempt) that counts.
        reason: trial without a winner to the class for which it was given up.
    """

    events: list[Event] = field(default_factory=list)
    segments: list[tuple[str, int]] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)
    packs: dict[str, list[str]] = field(default_factory=dict)
    winner: dict[str, tuple[str, int]] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Trials with neither a result nor a reason."""
        return [t for t in self.trials if t not in self.winner and t not in self.reason]

    @property
    def share(self) -> float:
        """Share of trials that have a result."""
        done = sum(trial in self.winner for trial in self.trials)
        return done / len(self.trials) if self.trials else 0.0

    def jobs(self, role: str) -> list[str]:
        """SLURM job ids that were submitted in this role, oldest first."""
        return [
            event["job"]
            for event in self.events
            if event["event"] == "submitted" and event["role"] == role
        ]

    def of(self, kind: str) -> list[Event]:
        """Events of one kind."""
        return [event for event in self.events if event["event"] == kind]


def read(root: Path) -> Ledger:
    """Read a sweep's folder; empty where there is none yet."""
    ledger = Ledger(events=_events(root / "events"), segments=_segments(root / "segments"))
    for event in ledger.events:
        if event["event"] == "planned":
            ledger.trials = event["trials"]
            ledger.packs.update(event["packs"])
        elif event["event"] == "split":
            ledger.packs.update(event["into"])
    _judge(ledger)
    return ledger


def results(root: Path) -> dict[str, dict[tuple[str, int], bytes]]:
    """Read every segment: trial to its predictions in each segment that has it as done."""
    found: dict[str, dict[tuple[str, int], bytes]] = defaultdict(dict)
    for pack, attempt in _segments(root / "segments"):
        folder = root / "segments" / f"{pack}-{attempt}"
        trials = pd.read_parquet(folder / "trials.parquet")
        predictions = pd.read_parquet(folder / "predictions.parquet")
        for trial in trials.loc[trials["state"] == "done", "trial"]:
            rows = predictions[predictions["trial"] == trial].drop(columns="trial")
            found[trial][(pack, attempt)] = rows.to_csv(index=False).encode()
    return found


def _judge(ledger: Ledger) -> None:
    """The first accepted event with a segment decides; else the lowest (attempt, pack)."""
    on_disk = set(ledger.segments)
    died: set[str] = set()
    for event in ledger.events:
        kind, pack = event["event"], event.get("pack", "")
        if kind == "planned":
            for trial in event.get("retried", ()):
                ledger.reason.pop(trial, None)
                died.discard(trial)
        elif kind == "accepted" and (pack, event["attempt"]) in on_disk:
            for trial in ledger.packs.get(pack, ()):
                if trial in event["failed"]:
                    ledger.reason[trial] = event["failed"][trial]
                    died.add(trial)
                else:
                    ledger.winner.setdefault(trial, (pack, event["attempt"]))
        elif kind == "failed" and event["final"]:
            for trial in ledger.packs.get(pack, ()):
                ledger.reason[trial] = event["failure"]
        elif kind == "cancelled":
            ledger.reason.update(dict.fromkeys(event["trials"], "cancelled"))
    for pack, attempt in sorted(ledger.segments, key=lambda key: (key[1], key[0])):
        for trial in ledger.packs.get(pack, ()):
            if trial not in died:
                ledger.winner.setdefault(trial, (pack, attempt))
    for trial in ledger.winner:
        ledger.reason.pop(trial, None)


def _events(folder: Path) -> list[Event]:
    events: list[Event] = []
    for path in folder.glob("*.jsonl") if folder.is_dir() else ():
        for line in path.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # torn by a crash or a full disk
            if isinstance(event, dict) and {"event", "time"} <= event.keys():
                events.append(event)
    return sorted(events, key=lambda event: event["time"])


def _segments(folder: Path) -> list[tuple[str, int]]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    parts = [name.rpartition("-") for name in names if not name.startswith(".")]
    return [(pack, int(attempt)) for pack, _, attempt in parts]
