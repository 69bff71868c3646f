"""The driver's queue: which pack next for this worker, how many attempts, whose result counts.

Plain and synchronous; the driver runs one as a Ray actor. Attempts live here and in the events, so
a driver that is killed loses nothing: the next one reads events and segments.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from orchestrator import failures, queueing
from orchestrator.custody import Custody, Holding, Lost
from orchestrator.events import Event, Journal, Observation
from orchestrator.failures import Failure
from orchestrator.halving import Bracket, Rungs
from orchestrator.health import Health
from orchestrator.worker import Assignment, Draw, Job, Place


class Broker:
    """Hands packs to workers and judges what comes back.

    Args:
        jobs: packs to train, most urgent first.
        attempts: highest attempt of each pack so far, over all drivers.
        journal: where decisions are written, before they take effect if the disk takes them.
        observations: what packs took before.
        history: class and signature of each pack's failures since the launch.
        larger: whether packs that do not fit may ask for larger pilots.
        outcomes: how the first attempts of packs ended since the launch, see `failures.breaker`.
        rungs: what earlier drivers decided about trials of a search.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        attempts: Mapping[str, int],
        journal: Journal,
        observations: Sequence[Observation] = (),
        history: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({}),
        larger: bool = False,
        outcomes: Sequence[str] = (),
        rungs: Sequence[Event] = (),
    ) -> None:
        self._journal, self._waiting = journal, list(jobs)
        self._out = Custody()
        self._attempts = dict(attempts)
        self._failures = failures.recall(history)
        self._closed: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {}
        self._dropped: set[str] = set()
        self._lengths = queueing.Lengths(observations)
        self._held, self._larger = False, larger
        self._health = Health(outcomes)
        self._rungs = Rungs().recall(rungs)
        self._stopped: tuple[str, str] | None = None
        self._done = self._failed = 0
        self._packs, self._total = len(jobs), sum(len(job.trials) for job in jobs)

    def draw(self, worker: str, *, resident: str = "", place: Place | None = None) -> Draw:
        """Give a worker its next pack; of equally urgent ones one that reads what is resident.

        Args:
            worker: name of the asking worker; it holds at most one pack.
            resident: the encoder whose embeddings the worker read last.
            place: where it is; by default a place without limits.
        """
        place = place or Place()
        self.lose(worker)  # what it still has: it would not ask
        if self._stopped or self._held:
            return Draw(reason="stopped" if self._stopped else "held")
        if self._health.is_sick(place):
            return Draw(reason="sick")
        self._lengths.visit(place)
        here = self._out.at(place.pilot)
        if any(one.assignment.job.alone for one in here):
            return Draw(reason="alone")
        job, reason = queueing.choose(
            self._waiting, place, resident=resident, lengths=self._lengths, neighbours=len(here)
        )
        if job is None:
            return Draw(reason=reason)
        attempt = self._attempts.get(job.pack, 0) + 1
        self._journal.note(
            "assigned", pack=job.pack, attempt=attempt, worker=worker, pilot=place.pilot,
            node=place.node,
        )  # fmt: skip
        self._waiting.remove(job)
        self._attempts[job.pack] = attempt
        assignment = Assignment(job=job, attempt=attempt)
        self._out.hand(worker, assignment, place)
        return Draw(assignment=assignment)

    def report(self, worker: str, share: float) -> bool:
        """Note how much of its pack a worker has trained, 0 to 1; return whether it must stop."""
        self._out.note(worker, share)
        return self.stopping(worker)

    def stopping(self, worker: str) -> bool:
        """Tell whether a worker must give its pack back."""
        if (held := self._out.of(worker)) is None:
            return False
        job = held.assignment.job
        dropped = all(trial in self._dropped for trial, _ in job.trials)
        return self._stopped is not None or dropped or job.pack in self._closed

    def judge_rung(self, bracket: Bracket, epoch: int, values: Mapping[str, float]) -> list[str]:
        """Name those of some trials that end at a rung of a search, see `orchestrator.halving`."""
        told = self._rungs.judge(bracket, epoch, values)
        self._journal.note("rung", **told)
        return list(told["retired"])

    def accept(
        self,
        worker: str,
        assignment: Assignment,
        *,
        failed: Mapping[str, str],
        retired: Sequence[str] = (),
        seconds: float,
        device: str = "cpu",
    ) -> bool:
        """Count a pack whose segment is in place; the first one counts.

        Args:
            worker: who trained it; it may have been taken for lost meanwhile.
            assignment: what it trained.
            failed: trial id to failure class, for lanes that died.
            retired: trials that a search ended.
            seconds: wall time of the attempt.
            device: what trained it.
        """
        self._out.forget(worker, assignment)
        job = assignment.job
        if job.pack in self._closed:
            return False
        self._journal.note(
            "accepted", pack=job.pack, attempt=assignment.attempt, worker=worker, kind=job.kind,
            failed=dict(failed), retired=list(retired), seconds=round(seconds, 3),
            lanes=len(job.trials), device=device,
        )  # fmt: skip
        self._waiting = [other for other in self._waiting if other.pack != job.pack]
        self._closed[job.pack] = "accepted"
        self._done += len(job.trials) - len(failed)
        self._failed += len(failed)
        if assignment.attempt == 1:
            self._lengths.see(job, seconds, device)
            self._health.succeeded(job.pack)
        return True

    def fail(self, worker: str, assignment: Assignment, failure: Failure) -> list[str] | None:
        """Take back a pack that ended in an error; the packs that it was divided into, if it was.

        A worker that was taken for lost, and whose pack somebody else has now, is not heard.
        """
        if holding := self._out.forget(worker, assignment):
            self._fail(worker, holding, failure)
        pack = assignment.job.pack
        return self._parts.get(pack) if self._closed.get(pack) == "split" else None

    def _fail(self, worker: str, holding: Holding, failure: Failure) -> None:
        assignment, place = holding.assignment, holding.place
        job = assignment.job
        if job.pack in self._closed:
            return
        failure = self._health.blame(failure, place)
        history = [*self._failures.get(job.pack, ()), failure]
        action = failures.decide(
            history, lanes=len(job.trials), losses=len(queueing.by_losses(job)), size=job.size,
            alone=job.alone, larger=self._larger,
        )  # fmt: skip
        self._journal.note(
            "failed", pack=job.pack, attempt=assignment.attempt, worker=worker,
            failure=failure.kind, message=failure.message, trace=failure.trace,
            signature=failure.signature, final=action == "give up", pilot=place.pilot,
            node=place.node,
        )  # fmt: skip
        self._failures[job.pack] = history
        self._act(action, job, failure)
        if action == "apart":
            self._health.divided(self._parts[job.pack])
        elif assignment.attempt == 1 and self._health.failed(job.pack, failure):
            self.stop("breaker", f"most packs fail alike: {failure.message[:500]}")

    def release(self, worker: str, assignment: Assignment, *, reason: str = "") -> None:
        """Take back a pack whose worker must stop; it costs no attempt's credit."""
        job, share = assignment.job, max(self._out.share(worker), assignment.job.share)
        if self._out.forget(worker, assignment) is None or job.pack in self._closed:
            return
        self._journal.note(
            "released", pack=job.pack, attempt=assignment.attempt, worker=worker, reason=reason,
            share=round(share, 3),
        )  # fmt: skip
        self._queue(replace(job, share=share), first=True)

    def lose(self, worker: str) -> None:
        """Take back the pack of a worker that vanished, once it is known why; at once if local."""
        if (one := self._out.lose(worker)) and not one.pilot:
            self.judge(worker, "lost", f"worker {worker} vanished")

    def lost(self) -> list[Lost]:
        """List the packs whose workers vanished and that nobody judged yet."""
        return self._out.lost()

    def judge(self, worker: str, kind: str, message: str) -> None:
        """Say why a worker vanished: a class of failure for its pack."""
        if holding := self._out.find(worker):
            self._fail(worker, holding, Failure(kind=kind, message=message))

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue packs behind those that wait, again if they were given up or cancelled before."""
        known = {*self._out.packs(), *(job.pack for job in self._waiting)}
        new = [job for job in jobs if job.pack not in known]
        for job in new:
            self._closed.pop(job.pack, None)
            self._failures.pop(job.pack, None)
            self._dropped.difference_update(trial for trial, _ in job.trials)
        self._packs += len(new)
        self._total += sum(len(job.trials) for job in new)
        self._waiting += new

    def drop(self, trials: Collection[str]) -> None:
        """Train these trials no more: packs that wait go on without them."""
        self._dropped.update(trials)
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._queue(job)

    def hold(self, held: bool) -> None:
        """Hand out nothing, or go on; packs in training are left alone."""
        self._held = held

    def stop(self, reason: str, message: str) -> None:
        """Hand out nothing more, and ask workers to give back what they train."""
        if self._stopped is None:
            self._journal.note("stopped", reason=reason, message=message)
            self._stopped = reason, message

    def state(self) -> dict[str, Any]:
        """Count packs and trials.

        Returns:
            `packs`, of them `waiting`, `training` and `lost`; `large`: waiting, for a large pilot;
            `busy`: training, by pilot; `total`, `done` and `failed` trials; `shares`: trials that
            packs in training amount to; `remaining_s`: predicted, or NaN; `held`; `stopped`: why.
        """
        waiting = [(job, job.share) for job in self._waiting]
        training = [(one.assignment.job, share) for one, share in self._out]
        return {
            "packs": self._packs, "waiting": len(self._waiting), "training": len(self._out),
            "lost": len(self._out.lost()), "busy": self._out.busy(),
            "large": sum(job.size == "large" for job in self._waiting),
            "total": self._total, "done": self._done, "failed": self._failed,
            "shares": sum(share * len(job.trials) for job, share in training),
            "remaining_s": self._lengths.remaining([*waiting, *training]),
            "held": self._held, "stopped": self._stopped,
        }  # fmt: skip

    def _act(self, action: failures.Action, job: Job, failure: Failure) -> None:
        match action:
            case "give up":
                self._closed[job.pack] = failure.kind
                self._failed += len(job.trials)
            case "smaller" | "apart":
                parts = queueing.halves(job) if action == "smaller" else queueing.by_losses(job)
                self._split(job, parts, reason=failure.kind, first=True)
            case "alone":
                self._move(replace(job, alone=True))
            case "large":
                self._move(replace(job, size="large"))
            case "again":
                self._queue(job)

    def _move(self, job: Job) -> None:
        self._journal.note("moved", pack=job.pack, size=job.size, alone=job.alone)
        self._queue(job)

    def _queue(self, job: Job, *, first: bool = False) -> None:
        """Let a pack wait, without the trials that were dropped."""
        kept = [pair for pair in job.trials if pair[0] not in self._dropped]
        if len(kept) < len(job.trials):
            self._failed += len(job.trials) - len(kept)
            self._split(job, [tuple(kept)] if kept else [], reason="cancelled", first=first)
        else:
            self._waiting.insert(0 if first else len(self._waiting), job)

    def _split(
        self, job: Job, parts: Sequence[tuple[tuple[str, str], ...]], *, reason: str, first: bool
    ) -> None:
        made = [queueing.part(job, pairs) for pairs in parts]
        into = {part.pack: [trial for trial, _ in part.trials] for part in made}
        self._journal.note("split", pack=job.pack, into=into, reason=reason)
        self._closed[job.pack], self._parts[job.pack] = "split", list(into)
        self._packs += len(made) - 1
        for one in reversed(made) if first else made:
            self._closed.pop(one.pack, None)
            self._failures[one.pack] = self._failures.get(job.pack, [])
            self._queue(one, first=first)
