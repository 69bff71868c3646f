"""The broker as the driver's other parts see it: calls to a process of its own."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orchestrator.custody import Lost
from orchestrator.worker import Job

log = logging.getLogger(__name__)

LOGGED = ("packs", "waiting", "training", "total", "done", "failed", "lost")


class Desk(Protocol):
    """What the driver asks of the broker."""

    def state(self) -> dict[str, Any]:
        """Count packs and trials."""

    def lost(self) -> list[Lost]:
        """List packs whose workers vanished."""

    def judge(self, worker: str, kind: str, message: str) -> None:
        """Say why a worker vanished."""

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue packs."""

    def drop(self, trials: Sequence[str]) -> None:
        """Train these no more."""

    def hold(self, held: bool) -> None:
        """Hand out nothing, or go on."""

    def stop(self, reason: str, message: str) -> None:
        """Hand out nothing more."""


class Remote:
    """The broker as a Ray actor.

    Args:
        actor: its handle.
        get: waits for an answer; `ray.get`.
    """

    def __init__(self, actor: Any, get: Callable[[Any], Any]) -> None:
        self.actor = actor
        self._get = get

    def state(self) -> dict[str, Any]:
        """Count packs and trials."""
        told: dict[str, Any] = self._get(self.actor.state.remote())
        return told

    def lost(self) -> list[Lost]:
        """List packs whose workers vanished."""
        found: list[Lost] = self._get(self.actor.lost.remote())
        return found

    def judge(self, worker: str, kind: str, message: str) -> None:
        """Say why a worker vanished."""
        self._get(self.actor.judge.remote(worker, kind, message))

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue packs."""
        self._get(self.actor.add.remote(jobs))

    def drop(self, trials: Sequence[str]) -> None:
        """Train these no more."""
        self._get(self.actor.drop.remote(trials))

    def hold(self, held: bool) -> None:
        """Hand out nothing, or go on."""
        self._get(self.actor.hold.remote(held))

    def stop(self, reason: str, message: str) -> None:
        """Hand out nothing more."""
        self._get(self.actor.stop.remote(reason, message))


def log_progress() -> Callable[[dict[str, Any]], None]:
    """Make what writes the broker's counts to the log when they change."""
    last: dict[str, Any] = {}

    def report(state: dict[str, Any]) -> None:
        shown = {name: state[name] for name in LOGGED}
        if shown != last:
            last.update(shown)
            log.info(" ".join(f"{name}={value}" for name, value in shown.items()))

    return report
