"""What the failures of a sweep so far say about its nodes, and about the sweep as a whole."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from orchestrator import failures
from orchestrator.failures import Failure
from orchestrator.worker import Place

FREE = frozenset(kind for kind, policy in failures.POLICIES.items() if policy.attempts is None)
"""Classes of failure that tell nothing about a pack."""


class Health:
    """Remembers faults of GPUs and how the first attempts of packs ended.

    Args:
        outcomes: how first attempts ended before, see `failures.breaker`.
        clock: seconds, monotonic.
    """

    def __init__(
        self, outcomes: Sequence[str] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first = list(outcomes)
        self._clock = clock
        self._faults: dict[str, float] = {}
        self._sick: set[str] = set()
        self._groups: dict[str, set[str]] = {}
        self._spent: set[str] = set()

    def blame(self, failure: Failure, place: Place) -> Failure:
        """Tell the victim of a neighbour's fault on the same GPU from its cause.

        Only failures of a GPU change. The node of a sick one is remembered.
        """
        if not (failure.cuda or failure.kind == "sick_gpu"):
            return failure
        now = self._clock()
        since = now - self._faults.get(place.pilot, -math.inf)
        if place.shares_gpu and since < failures.NEIGHBOUR_S:
            return replace(failure, kind="collateral")
        self._faults[place.pilot] = now
        if failure.kind == "sick_gpu":
            self._sick.add(place.node)
        return failure

    def is_sick(self, place: Place) -> bool:
        """Tell whether a GPU of this node failed; on one machine there is no other to go to."""
        return bool(place.pilot) and place.node in self._sick

    def divided(self, parts: Collection[str]) -> None:
        """Let the parts of a pack count as one, which failed where all of them failed."""
        group = set(parts)
        self._groups |= dict.fromkeys(parts, group)

    def succeeded(self, pack: str) -> None:
        """Note a pack whose first attempt ended well."""
        if pack not in self._spent:
            self._first.append("")
        self._spent |= self._groups.get(pack, set())

    def failed(self, pack: str, failure: Failure) -> bool:
        """Note how the first attempt at a pack failed; tell whether that is common to the sweep."""
        if failure.kind in FREE:
            return False
        group = self._groups.get(pack, set())
        group.discard(pack)
        if group or pack in self._spent:
            return False
        mark = failure.signature if failure.kind in failures.COMMON else ""
        self._first.append(mark)
        return mark != "" and failures.breaker(self._first) == mark
