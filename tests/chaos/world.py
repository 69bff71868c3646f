"""What a fault acts on: the sweep's folder, its jobs in SLURM, the test bed, and what to mend."""

import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from cluster import slurm
from cluster.errors import ClusterError
from cluster.slurm import Job
from cluster.testbed import lifecycle
from tests.chaos import ledger, processes
from tests.chaos.cohort import Setting
from tests.chaos.ledger import Ledger

APPLIED, REFUSED, NOTHING = "applied", "refused", "nothing"
"""A fault happened; SLURM refused it; there was nothing that it could have hit."""


@dataclass(slots=True, kw_only=True)
class World:
    """One sweep under test.

    Args:
        bed: the test bed's directory.
        cluster: its name for itself.
        root: the sweep's folder.
        data: the data folder that it reads.
        setting: how it uses the cluster.
        rng: draws whom a fault hits.
    """

    bed: Path
    cluster: str
    root: Path
    data: Path
    setting: Setting
    rng: Random
    repairs: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    corrupt: list[str] = field(default_factory=list)
    intruders: list[str] = field(default_factory=list)
    hogs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def read(self) -> Ledger:
        """Read the sweep's folder now."""
        return ledger.read(self.root)

    def jobs(self, role: str) -> list[Job]:
        """Ask SLURM for the jobs of a role that it still has; empty where it does not answer."""
        return [job for job in self.queue() if job.id in set(self.read().jobs(role))]

    def queue(self) -> list[Job]:
        """Ask SLURM for all jobs of the sweep that it still has."""
        known = self.read()
        ids = known.jobs("driver") + known.jobs("pilot")
        with contextlib.suppress(ClusterError):
            return list(slurm.queue(ids).values())
        return []

    def running(self, role: str) -> Job | None:
        """Draw one of the running jobs of a role."""
        found = sorted((j for j in self.jobs(role) if j.state == "RUNNING"), key=lambda j: j.id)
        return self.rng.choice(found) if found else None

    def processes(self, job: Job) -> list[psutil.Process]:
        """List the living processes of a job."""
        return processes.of_job(self.cluster, job.id)

    def call(self, *command: str) -> str:
        """Run one of SLURM's programs: `applied`, or `refused` with what it said."""
        try:
            slurm.call(command, timeout_s=15)
        except ClusterError as error:
            return f"{REFUSED}: {error.message.splitlines()[-1]}"
        return APPLIED

    def later(self, seconds: float, repair: Callable[[], None]) -> None:
        """Mend something after a while."""
        self.repairs.append((time.monotonic() + seconds, repair))

    def mend(self, *, everything: bool = False) -> None:
        """Make the repairs that are due."""
        now = time.monotonic()
        due = [entry for entry in self.repairs if everything or entry[0] <= now]
        self.repairs = [entry for entry in self.repairs if entry not in due]
        for _, repair in due:
            repair()

    def up(self) -> None:
        """Repair the test bed: daemons run, nodes take jobs."""
        lifecycle.up(self.bed)
