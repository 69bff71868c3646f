"""Sweep folders without a sweep: events as the journals write them, under a clock of the test."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from orchestrator import events
from orchestrator.events import Journal
from orchestrator.folder import Folder

BEGAN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GOLDEN = Path(__file__).parent.parent / "golden"


class Story:
    """Writes the events of a sweep that never was.

    Args:
        root: the sweep's folder.
        monkeypatch: gives the journals a clock.
    """

    def __init__(self, root: Path, monkeypatch) -> None:
        self.folder = Folder(root)
        self.folder.create()
        self._patch = monkeypatch
        self._journals: dict[str, Journal] = {}

    def tell(self, minute: float, role: str, event: str, /, **fields) -> None:
        time = (BEGAN + timedelta(minutes=minute)).isoformat(timespec="microseconds")
        with self._patch.context() as patch:
            patch.setattr(events, "now", lambda: time)
            if role not in self._journals:
                self._journals[role] = Journal(self.folder, role)
            self._journals[role].write(event, **fields)

    def plan(self, packs: dict[str, list[str]], minute: float = 0, **fields) -> None:
        trials = [trial for ids in packs.values() for trial in ids]
        known = {
            "trials": trials, "cells": 2, "packs": packs, "retried": trials, "cluster": "local",
            "mode": "all", "max_gpu_hours": None, "price": None,
        }  # fmt: skip
        self.tell(minute, "launch", "planned", **known | fields)
        rows = [
            {
                "cell": place % 2, "trial": trial, "encoder": "tiny",
                "arm": ("erm", "info")[place % 2],
                "losses.embedding.weight": ("", "0.1")[place % 2], "fold": place % 3,
                "seed": place % 5, "config": "{}", "fingerprint": "f", "pack_family": "p",
            }
            for place, trial in enumerate(trials)
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(self.folder.plan)

    def assign(self, minute, pack, attempt=1, *, worker="w1", pilot="", node="") -> None:
        self.tell(
            minute, "driver", "assigned", pack=pack, attempt=attempt, worker=worker, pilot=pilot,
            node=node,
        )  # fmt: skip

    def accept(self, minute, pack, attempt=1, *, worker="w1", failed=None) -> None:
        self.tell(
            minute, "driver", "accepted", pack=pack, attempt=attempt, worker=worker,
            failed=failed or {}, seconds=60.0, kind="k", lanes=2, device="cpu",
        )  # fmt: skip
        (self.folder.segments / f"{pack}-{attempt}").mkdir()

    def fail(self, minute, pack, kind, message, attempt=1, *, final=False, **fields) -> None:
        known = {
            "worker": "w1", "trace": "", "pilot": "", "node": "", "signature": f"{kind} {message}",
        }  # fmt: skip
        self.tell(
            minute, "driver", "failed", pack=pack, attempt=attempt, failure=kind, message=message,
            final=final, **known | fields,
        )  # fmt: skip

    def drive(self, minute, job="") -> None:
        self.tell(minute, "driver", "driving", host="h", pid=1, job=job, packs=1)

    def end(self, minute, job="", **fields) -> None:
        known = {"done": 0, "failed": 0, "reason": "", "message": ""}
        self.tell(minute, "driver", "ended", job=job, **known | fields)

    def pilot(self, minute, job, *steps, node="gpu07", gpus=1, seconds=60.0) -> None:
        """Submit a pilot and let it take steps: started joined draining left."""
        self.tell(minute, "launch", "submitted", role="pilot", job=job, size="normal", gpus=gpus,
                  by="launch", tag=f"sweep-{job}")  # fmt: skip
        fields = {
            "started": {"node": node, "host": node, "gpus": gpus, "size": "normal",
                        "walltime_s": 7200.0},
            "joined": {}, "draining": {"reason": "time limit"},
            "left": {"reason": "time limit", "seconds": seconds, "oom_kills": 0},
        }  # fmt: skip
        for step in steps:
            self.tell(minute, f"pilot-{job}", step, job=job, **fields[step])


def compare(name: str, text: str) -> None:
    """Compare with tests/golden; `UPDATE_GOLDEN=1 pytest ...` writes what is there now."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
