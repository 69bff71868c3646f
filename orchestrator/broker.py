"""The driver's queue: which pack next for this worker, how many attempts, whose result counts.

Plain and synchronous; the driver runs one as a Ray actor. Attempts live here and in the events, so
a driver that is killed loses nothing: the next one reads events and segments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import failures, store
from orchestrator.events import Journal, progress
from orchestrator.failures import Failure
from orchestrator.folder import Folder
from orchestrator.worker import Assignment, Job


class Broker:
    """Hands packs to workers and judges what comes back.

    Args:
        jobs: packs to train, most urgent first.
        attempts: highest attempt of each pack so far, over all drivers.
        journal: where decisions are written, before they take effect.
    """

    def __init__(
        self, jobs: Sequence[Job], *, attempts: Mapping[str, int], journal: Journal
    ) -> None:
        self._journal = journal
        self._waiting = list(jobs)
        self._training: dict[str, Assignment] = {}
        self._attempts = dict(attempts)
        self._failures: dict[str, list[Failure]] = {}
        self._closed: dict[str, str] = {}
        self._shares: dict[str, float] = {}
        self._done = 0
        self._failed = 0
        self._packs = len(jobs)
        self._total = sum(len(job.trials) for job in jobs)

    def draw(self, worker: str, *, resident: str = "") -> Assignment | None:
        """Give a worker its next pack: one that reads the resident encoder's embeddings if any.

        Args:
            worker: name of the asking worker; it holds at most one pack.
            resident: the encoder whose embeddings the worker read last.
        """
        if not self._waiting:
            return None
        alike = (i for i, job in enumerate(self._waiting) if job.encoder == resident)
        place = next(alike, 0)
        job = self._waiting[place]
        attempt = self._attempts.get(job.pack, 0) + 1
        self._journal.write("assigned", pack=job.pack, attempt=attempt, worker=worker)
        del self._waiting[place]
        self._attempts[job.pack] = attempt
        assignment = Assignment(job=job, attempt=attempt)
        self._training[worker] = assignment
        return assignment

    def report(self, worker: str, share: float) -> None:
        """Note how much of its pack a worker has trained, 0 to 1."""
        self._shares[worker] = share

    def accept(
        self, worker: str, assignment: Assignment, *, failed: Mapping[str, str], seconds: float
    ) -> bool:
        """Count a pack whose segment is in place; the first one counts.

        Args:
            worker: who trained it; it may have been taken for lost meanwhile.
            assignment: what it trained.
            failed: trial id to failure class, for lanes that died.
            seconds: wall time of the attempt.
        """
        self._forget(worker, assignment)
        job = assignment.job
        if job.pack in self._closed:
            return False
        self._waiting = [other for other in self._waiting if other.pack != job.pack]
        self._closed[job.pack] = "accepted"
        self._done += len(job.trials) - len(failed)
        self._failed += len(failed)
        self._journal.write(
            "accepted", pack=job.pack, attempt=assignment.attempt, worker=worker,
            failed=dict(failed), seconds=round(seconds, 3),
        )  # fmt: skip
        return True

    def fail(self, worker: str, assignment: Assignment, failure: Failure) -> None:
        """Take back a pack that ended in an error: again, or given up."""
        self._forget(worker, assignment)
        job = assignment.job
        if job.pack in self._closed:
            return
        history = self._failures.setdefault(job.pack, [])
        history.append(failure)
        final = failures.final(history)
        self._journal.write(
            "failed", pack=job.pack, attempt=assignment.attempt, worker=worker,
            failure=failure.kind, message=failure.message, trace=failure.trace, final=final,
        )  # fmt: skip
        if final:
            self._closed[job.pack] = failure.kind
            self._failed += len(job.trials)
        else:
            self._waiting.append(job)

    def release(self, worker: str, assignment: Assignment) -> None:
        """Take back a pack whose worker must stop; it costs no attempt's credit."""
        self._forget(worker, assignment)
        if assignment.job.pack not in self._closed:
            self._journal.write(
                "released", pack=assignment.job.pack, attempt=assignment.attempt, worker=worker
            )
            self._waiting.insert(0, assignment.job)

    def lose(self, worker: str) -> None:
        """Take back the pack of a worker that vanished."""
        if assignment := self._training.get(worker):
            self.fail(worker, assignment, Failure(kind="lost", message=f"worker {worker} vanished"))

    def state(self) -> dict[str, Any]:
        """Count packs and trials.

        Returns:
            `packs` in all, `waiting` and `training` ones; `total`, `done` and `failed` trials;
            `shares`: trials that the packs in training amount to so far.
        """
        shares = sum(
            self._shares.get(worker, 0.0) * len(assignment.job.trials)
            for worker, assignment in self._training.items()
        )
        return {
            "packs": self._packs, "waiting": len(self._waiting),
            "training": len(self._training), "total": self._total,
            "done": self._done, "failed": self._failed, "shares": shares,
        }  # fmt: skip

    def close(self, job: str) -> None:
        """Write that this driver, with this SLURM job id if it has one, ended."""
        self._journal.write("ended", job=job, done=self._done, failed=self._failed)

    def _forget(self, worker: str, assignment: Assignment) -> None:
        self._shares.pop(worker, None)
        if self._training.get(worker) == assignment:
            del self._training[worker]


def read_jobs(folder: Folder) -> list[Job]:
    """Read the packs of the last launch that still miss a result, with their configurations."""
    plan = store.read_plan(folder).drop_duplicates("trial").set_index("trial")
    state = progress(folder)
    missing = set(state.to_train) - set(state.given_up)
    jobs = []
    for pack in state.planned:
        trials = state.packs[pack]
        if missing.intersection(trials):
            rows = plan.loc[list(trials)]
            pairs = tuple(zip(trials, rows["config"], strict=True))
            jobs.append(Job(pack=pack, encoder=rows["encoder"].iloc[0], trials=pairs))
    return jobs
