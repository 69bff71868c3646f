"""Who has which pack: workers that train, and packs whose workers vanished."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.worker import Assignment, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A pack whose worker vanished, until somebody says why.

    Args:
        worker: its name.
        pilot: SLURM job id of its pilot; empty on one machine.
        node: of the pilot.
        since: when it was missed, seconds of the monotonic clock.
    """

    worker: str
    pilot: str
    node: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A pack in a worker's hands, and where that is."""

    assignment: Assignment
    place: Place


class Custody:
    """Keeps account of packs that were handed out; a worker has one at most."""

    def __init__(self) -> None:
        self._training: dict[str, Holding] = {}
        self._lost: dict[str, tuple[Lost, Holding]] = {}
        self._shares: dict[str, float] = {}

    def __len__(self) -> int:
        """Count the packs in training."""
        return len(self._training)

    def __iter__(self) -> Iterator[tuple[Holding, float]]:
        """Go through the packs in training with the share of each that is trained."""
        for worker, holding in self._training.items():
            yield holding, self._shares.get(worker, 0.0)

    def hand(self, worker: str, assignment: Assignment, place: Place) -> None:
        """Hand a pack to a worker."""
        self._shares.pop(worker, None)
        self._training[worker] = Holding(assignment=assignment, place=place)

    def of(self, worker: str) -> Holding | None:
        """Return what a worker has."""
        return self._training.get(worker)

    def at(self, pilot: str) -> list[Holding]:
        """List what workers of a pilot have."""
        return [one for one in self._training.values() if one.place.pilot == pilot]

    def note(self, worker: str, share: float) -> None:
        """Note how much of its pack a worker has trained, 0 to 1."""
        if worker in self._training:
            self._shares[worker] = share

    def share(self, worker: str) -> float:
        """Tell how much of its pack a worker has trained, 0 to 1."""
        return self._shares.get(worker, 0.0)

    def forget(self, worker: str, assignment: Assignment) -> Holding | None:
        """Close an attempt, also one that was taken for lost; None if somebody else has it now."""
        holding = self._training.get(worker)
        if holding and holding.assignment == assignment:
            self._shares.pop(worker, None)
            return self._training.pop(worker)
        known = self._lost.get(assignment.job.pack)
        if known and known[1].assignment == assignment:
            return self._lost.pop(assignment.job.pack)[1]
        return None

    def lose(self, worker: str) -> Lost | None:
        """Set aside what a vanished worker had; None if it had nothing."""
        holding = self._training.pop(worker, None)
        self._shares.pop(worker, None)
        if holding is None:
            return None
        place = holding.place
        one = Lost(worker=worker, pilot=place.pilot, node=place.node, since=time.monotonic())
        self._lost[holding.assignment.job.pack] = one, holding
        return one

    def find(self, worker: str) -> Holding | None:
        """Take out what a vanished worker had, the oldest first; None if nothing is known."""
        for pack, (one, holding) in self._lost.items():
            if one.worker == worker:
                del self._lost[pack]
                return holding
        return None

    def lost(self) -> list[Lost]:
        """List packs whose workers vanished."""
        return [one for one, _ in self._lost.values()]

    def packs(self) -> set[str]:
        """Name all packs that are out."""
        return {*self._lost, *(one.assignment.job.pack for one in self._training.values())}

    def busy(self) -> dict[str, int]:
        """Count the packs in training by pilot."""
        return dict(Counter(one.place.pilot for one in self._training.values()))
