"""What a driver knows of its pilots: the events that they and others append, and SLURM's answers.

The truth is the events and SLURM's answers together; what SLURM does not know stays unknown.
"""

import contextlib
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cluster import slurm, slurm_text
from cluster.errors import ClusterError
from cluster.profile import SlurmProfile
from orchestrator import events, fleet, vanished
from orchestrator.events import Event, Journal
from orchestrator.fleet import Record
from orchestrator.folder import Folder
from orchestrator.tail import Tail

log = logging.getLogger(__name__)

KEPT = frozenset(
    {
        "planned", "submitting", "submitted", "refused", "started", "joined", "draining", "left",
        "gone", "held", "unheld", "cancelled", "excluded", "unsubmittable",
    }
)  # fmt: skip
"""The events that tell about pilots and what the user asked for; few, also in a large sweep."""
SEARCH_S = 300.0
"""So long pilots are looked for that SLURM may have taken without a word, once it answers."""


def new_tag(role: str) -> str:
    """Make a comment that finds the jobs of one submission again; "driver" or "pilot"."""
    return f"sweep-{role}-{secrets.token_hex(8)}"


def role(tag: str) -> str:
    """Tell the role of the jobs with this tag."""
    return tag.split("-")[1]


def untracked(
    tags: Collection[str], queue: Mapping[str, Any] | None, of: str = ""
) -> list[slurm_text.Job]:
    """List the jobs in the queue, of a role or of any, that only their tags tell of."""
    found = [job for job in (queue or {}).values() if getattr(job, "tag", "") in tags]
    return [job for job in found if not of or role(job.tag) == of]


class Roster:
    """The sweep's pilots.

    Args:
        folder: the sweep's.
        journal: where it writes; no other thread does.
        profile: how the cluster is used; None on one machine, where there are no pilots.
        own: SLURM job id of the driver's allocation if it serves packs itself.
    """

    def __init__(
        self, folder: Folder, journal: Journal, *, profile: SlurmProfile | None, own: str
    ) -> None:
        self._journal = journal
        self._profile = profile
        self._own = own
        self._folder = folder
        self._tail = Tail()
        self._kept: list[Event] = []
        self._states: dict[str, slurm.Job] = {}
        self._missing: dict[str, float] = {}
        self._cancelled: set[str] = set()
        self._earlier: set[str] = set()
        self._sought: dict[str, float] = {}
        self.records: dict[str, Record] = {}
        self.read()

    def read(self) -> list[Event]:
        """Take in, and return, what was appended since the last look."""
        fresh: list[Event] = []
        for path in self._folder.events.glob("*.jsonl"):
            while lines := self._read(path):
                parsed = (events.parse(line, path.stem) for line in lines)
                fresh += [event for event in parsed if event]
        fresh.sort(key=lambda event: event["time"])
        for event in fresh:
            self._take(event)
        return fresh

    def _read(self, path: Path) -> list[str]:
        """Read on in a file; one that cannot be read now is read later."""
        with contextlib.suppress(OSError):
            return self._tail.read(path)
        return []

    def write(self, event: str, **fields: Any) -> None:
        """Append an event and take it in at once."""
        self._journal.write(event, **fields)
        self._take({"event": event, "time": events.now(), "writer": "", **fields})

    def progress(self) -> events.Progress:
        """Fold what is known of pilots and of what the user asked for."""
        return events.fold(self._kept, [])

    def alive(self) -> list[Record]:
        """List the pilots that have not ended."""
        return [one for one in self.records.values() if one.phase != "over"]

    def queued(self) -> list[str]:
        """List the SLURM job ids of pilots that have no allocation yet."""
        return [one.job for one in self.alive() if self.phase(one) == "queued"]

    def phase(self, record: Record) -> fleet.Phase:
        """Tell a pilot's phase, by its events and the last answer of SLURM."""
        waits = ("", "PENDING", "CONFIGURING")
        if record.phase == "queued" and self.state(record.job) not in waits:
            return "starting"
        return record.phase

    def state(self, job: str) -> str:
        """Tell SLURM's state of a pilot; empty where it is not known."""
        if job == self._own:
            return "RUNNING"
        record, queue = self.records.get(job), self._states.get(job)
        return (record.state if record else "") or (queue.state if queue else "")

    def unclear(self) -> bool:
        """Tell whether a pilot was ended by a signal and SLURM did not say yet whose it was."""
        return any(one.phase == "over" and _is_open(one) for one in self.records.values())

    def num_cancelled(self) -> int:
        """Count the pilots of this launch that the user cancelled."""
        new = [one for job, one in self.records.items() if job not in self._earlier]
        return sum(one.state == "CANCELLED" and not one.ours for one in new)

    def ask(self, now: float) -> None:
        """Learn how pilots ended: one squeue, and sacct for what squeue does not know any more."""
        self._search(now)
        asked = [one.job for one in self.records.values() if _is_open(one) and one.job != self._own]
        try:
            found = slurm.queue(asked, ended=True)
        except ClusterError as error:
            log.warning("slurm does not answer: %s", error.message)
            return
        self._states = found
        absent = [job for job in asked if job not in found]
        accounts = slurm.account(absent, since=self._before()) if absent else {}
        for job in asked:
            known: slurm.Job | slurm.Account | None = found.get(job) or accounts.get(job)
            if known and known.state in slurm_text.ENDED:
                self._close(job, known.state, known.elapsed_s)
            elif job in found:
                self._missing.pop(job, None)
            elif now - self._missing.setdefault(job, now) >= vanished.UNKNOWN_S:
                self._close(job, slurm_text.UNKNOWN, 0)

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel queued pilots, and write down that it was not the user."""
        if not jobs:
            return
        slurm.cancel(jobs)
        self._cancelled.update(jobs)
        for job in jobs:
            self.write("gone", job=job, state="CANCELLED", seconds=0, node="", by="driver")

    def exclude(self, node: str, reason: str) -> None:
        """Keep this sweep's pilots off a node, those that wait in the queue too."""
        if self._profile is None or node in self.progress().excluded:
            return
        self.write("excluded", node=node, reason=reason)
        log.warning("node=%s excluded: %s", node, reason)
        fixed = [self._profile.exclude] if self._profile.exclude else []
        try:
            slurm.update_excluded(self.queued(), [*fixed, *self.progress().excluded])
        except ClusterError as error:
            log.warning("pilots that wait may still get node %s: %s", node, error.message)

    def _take(self, event: Event) -> None:
        if event["event"] in KEPT:
            self._kept.append(event)
        if event["event"] == "planned" and event.get("mode", "all") == "all":
            # A new launch: how pilots of earlier ones ended, or will end, counts no more.
            self.records = {one.job: one for one in self.alive()}
            self._earlier = set(self.records)
        if event["event"] == "driving":
            # Pilots that nobody answered while there was no driver did not die of themselves.
            self.records = {job: one for job, one in self.records.items() if not _in_vain(one)}
        fleet.note(self.records, event)

    def _search(self, now: float) -> None:
        """Find the pilots whose submission a driver did not survive, or SLURM did not answer."""
        tags = [tag for tag in self.progress().untracked if role(tag) == "pilot"]
        lost = [tag for tag in tags if now - self._sought.get(tag, now) < SEARCH_S]
        try:
            found = slurm.queue_by_tag(lost)
        except ClusterError as error:
            log.warning("slurm does not answer: %s", error.message)
            return
        self._sought = {tag: self._sought.get(tag, now) for tag in tags}
        for job in found.values():
            self.write("submitted", role="pilot", job=job.id, by="driver", tag=job.tag)

    def _close(self, job: str, state: str, seconds: float) -> None:
        record = self.records[job]
        if record.phase == "over":
            record.state = state  # it said that it left; only SLURM's word was missing
        else:
            by = {"by": "driver"} if job in self._cancelled else {}
            self.write("gone", job=job, state=state, seconds=seconds, node=record.node, **by)
            log.warning("pilot=%s node=%s gone: %s", job, record.node, state)
        if state in ("NODE_FAIL", "BOOT_FAIL") and record.node:
            self.exclude(record.node, f"{state} of pilot {job}")

    def _before(self) -> datetime:
        """Tell a time before any of the sweep's jobs was submitted."""
        first = self._kept[0]["time"] if self._kept else events.now()
        return datetime.fromisoformat(first) - timedelta(hours=1)


def _is_open(record: Record) -> bool:
    """Tell whether SLURM's word about a pilot is still missing."""
    return record.phase != "over" or (record.reason.startswith("signal") and not record.state)


def _in_vain(record: Record) -> bool:
    return record.phase == "over" and not record.joined and record.reason.startswith("no driver")
