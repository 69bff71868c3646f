"""How a driver leaves: for good, or to come back under its SLURM job id."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from cluster import pilot, slurm
from cluster.errors import ClusterError
from cluster.profile import SlurmProfile
from cluster.ray_node import Node
from orchestrator.desk import Desk
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.roster import Roster

log = logging.getLogger(__name__)

RELEASE_S = 20.0
"""Longest wait for workers to leave their checkpoints before the head ends."""
ASKS = 3
"""How often SLURM is asked whether this driver comes back."""


class Leaving:
    """A driver's end; made while the environment still tells of its SLURM job.

    Args:
        folder: the sweep's.
        profile: how the cluster is used.
        journal: of the supervisor.
        job: the driver's SLURM job id; empty where it is not a job that can come back.
    """

    def __init__(
        self, folder: Folder, profile: SlurmProfile, journal: Journal, *, job: str
    ) -> None:
        self._folder = folder
        self._profile = profile
        self._journal = journal
        self._job = job
        self._restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        self._successor = False
        self._began = False
        self._lock = threading.Lock()

    def announce(self, address: str, dismissed: Iterable[str] = ()) -> None:
        """Tell the pilots where the driver is and which are dismissed, unless it leaves already."""
        with self._lock:
            if not self._began:
                pilot.announce(self._folder.pool, address, dismissed=dismissed)

    def leave(self, desk: Desk, node: Node, reason: str) -> bool:
        """Let workers leave checkpoints, then ask for a successor where there can be one.

        Args:
            desk: the broker.
            node: the head, which may have workers of its own.
            reason: why; "signal SIGTERM" is scancel or a requeue that began.

        Returns:
            Whether this process must be interrupted; else it ends when the tickets do.
        """
        log.info("leaving: %s", reason)
        with self._lock:
            self._began = True
        self._try(pilot.announce, "")  # first of all: SLURM may take long to answer
        terminated = reason == "signal SIGTERM"
        if terminated:  # for good by scancel, or by a requeue that began; SLURM kills soon
            self._successor = self._is_requeued()
        if self._job and terminated and not self._successor:
            self._try(pilot.dismiss)
        with contextlib.suppress(OSError):  # the signal may have ended the node
            node.drain.touch()
        until = time.monotonic() + RELEASE_S
        while desk.state()["training"] and time.monotonic() < until:
            time.sleep(0.2)
        if not self._job:
            desk.stop("no pilots", f"the allocation is over: {reason}")
            return reason.startswith("signal")
        if not terminated:
            self._requeue()
        return True

    @contextlib.contextmanager
    def farewell(self) -> Iterator[None]:
        """Let go of the pilots at the end, unless a successor will want them."""
        try:
            yield
        finally:
            if not self._successor:
                pilot.dismiss(self._folder.pool)
                self._cancel_queued()

    def _try(self, tell: Callable[..., None], *what: str) -> None:
        """Tell the pilots something; a full disk is no reason to stay."""
        try:
            tell(self._folder.pool, *what)
        except OSError as error:
            log.warning("the pilots were not told: %s", error)

    def _is_requeued(self) -> bool:
        """Ask SLURM, more than once if it does not answer; then there may be a successor."""
        for _ in range(ASKS if self._job else 0):
            try:
                return slurm.restarts(self._job) > self._restarts
            except ClusterError as error:
                log.warning("whether this driver comes back is not known: %s", error.message)
        return bool(self._job)

    def _requeue(self) -> None:
        try:
            slurm.requeue(self._job)
            self._successor = True
        except ClusterError as error:
            log.warning("this driver does not come back: %s", error.message)

    def _cancel_queued(self) -> None:
        roster = Roster(self._folder, self._journal, profile=self._profile, own="")
        try:
            roster.cancel(roster.queued())
        except ClusterError as error:
            log.warning("pilots that wait are not cancelled: %s", error.message)
