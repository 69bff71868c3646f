"""Which waiting pack may train where, by priority, time, memory and what is resident; pure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator import price
from orchestrator.events import Observation
from orchestrator.trial import hash_of
from orchestrator.worker import Job, Place
from training.config_lanes import loss_key_of

MARGIN_S = 30.0
"""Time that a pack must leave of the pilot's."""
UNKNOWN_SHARE = 0.25
"""A pack of unknown length begins while this share of the longest time of a pilot is left."""
FRESH_SHARE = 0.8
"""A pack longer than any pilot begins on one that has this share of the longest time left."""
SEEN_MAX = 50
"""Packs of a kind that are remembered: the driver's memory does not grow with the sweep."""


class Lengths:
    """How long packs train, from those of the same kind.

    Args:
        observations: what packs took before.
    """

    def __init__(self, observations: Sequence[Observation] = ()) -> None:
        self._seen: dict[str, list[Observation]] = {}
        self._known: dict[tuple[str, int], tuple[float, float] | None] = {}
        self._longest: dict[str, float] = {}
        for one in observations:
            self._keep(one)

    def see(self, job: Job, seconds: float, device: str) -> None:
        """Learn from a pack that was trained in one go."""
        self._keep(
            Observation(kind=job.kind, lanes=len(job.trials), seconds=seconds, device=device)
        )

    def visit(self, place: Place) -> None:
        """Note how much time a place has left."""
        if math.isfinite(place.seconds_left):
            known = self._longest.get(place.size, 0.0)
            self._longest[place.size] = max(known, place.seconds_left)

    def longest(self, place: Place) -> float:
        """Tell the most seconds that any place like this one had left: what a pack may hope for.

        That is less than the walltime by the pilot's start, and much less for short walltimes.
        """
        return self._longest.get(place.size, place.walltime_s)

    def expected(self, job: Job) -> float:
        """Predict the seconds of a whole pack; NaN for an unknown kind."""
        found = self._predict(job)
        return found[0] if found else math.nan

    def remaining(self, packs: Iterable[tuple[Job, float]]) -> float:
        """Predict the seconds of packs of which a share is trained; NaN where one is unknown."""
        return math.fsum(self.expected(job) * (1 - share) for job, share in packs)

    def upper(self, job: Job) -> float:
        """Bound the seconds of a whole pack from above; NaN for an unknown kind."""
        found = self._predict(job)
        return found[1] if found else math.nan

    def _keep(self, one: Observation) -> None:
        seen = self._seen.setdefault(one.kind, [])
        seen.append(one)
        del seen[:-SEEN_MAX]
        self._known.clear()

    def _predict(self, job: Job) -> tuple[float, float] | None:
        key = (job.kind, len(job.trials))
        if key not in self._known:
            self._known[key] = price.predict(self._seen.get(job.kind, ()), *key)
        return self._known[key]


def choose(
    waiting: Sequence[Job], place: Place, *, resident: str, lengths: Lengths, neighbours: int
) -> tuple[Job | None, str]:
    """Choose a pack for a place.

    Args:
        waiting: in the order in which they came.
        place: where.
        resident: the encoder whose embeddings are in memory there.
        lengths: how long packs train.
        neighbours: packs that train on the same pilot.

    Returns:
        The pack, or None with the reason, see `Draw`.
    """
    best: Job | None = None
    fitting: dict[tuple[str, int, float], bool] = {}
    reasons: set[str] = set()
    for job in waiting:
        if best is not None and job.priority <= best.priority:
            better = job.priority == best.priority and best.encoder != resident == job.encoder
            if not better:
                continue
        if job.size != place.size and not (job.size == "normal" and place.size == "large"):
            reasons.add("size")
            continue
        if job.alone and neighbours:
            reasons.add("alone")
            continue
        key = (job.kind, len(job.trials), job.share)
        if key not in fitting:
            fitting[key] = fits(job, place, lengths)
        if not fitting[key]:
            reasons.add("time")
            continue
        best = job
    if best is not None:
        return best, ""
    return None, next((word for word in ("alone", "time", "size") if word in reasons), "nothing")


def fits(job: Job, place: Place, lengths: Lengths) -> bool:
    """Tell whether a pack is worth beginning with the time that a place has left."""
    if math.isinf(place.seconds_left):
        return True
    upper = lengths.upper(job) * (1 - job.share)
    longest = lengths.longest(place)
    if math.isnan(upper):
        return place.seconds_left >= UNKNOWN_SHARE * longest
    if upper + MARGIN_S <= place.seconds_left:
        return True
    too_long = upper + MARGIN_S > FRESH_SHARE * longest
    return too_long and place.seconds_left >= FRESH_SHARE * longest


def halves(job: Job) -> list[tuple[tuple[str, str], ...]]:
    """Divide the trials of a pack that does not fit."""
    middle = len(job.trials) // 2
    return [job.trials[:middle], job.trials[middle:]]


def by_losses(job: Job) -> list[tuple[tuple[str, str], ...]]:
    """Divide the trials of a pack by the kinds of their losses."""
    base = json.loads(job.base)
    found: dict[str, list[tuple[str, str]]] = {}
    for pair in job.trials:
        losses = (base | json.loads(pair[1])).get("losses", ())
        found.setdefault(loss_key_of(losses), []).append(pair)
    return [tuple(pairs) for pairs in found.values()]


def part(job: Job, trials: tuple[tuple[str, str], ...]) -> Job:
    """Make a pack of some trials of another; its id follows from theirs, and its share is 0."""
    name = hash_of(" ".join(trial for trial, _ in trials))
    return replace(job, pack=name, trials=trials, share=0.0)
