"""Asynchronous successive halving: which trials of a search are not worth further epochs; pure.

Li et al., MLSys 2020, in the form of Ray Tune's `AsyncHyperBandScheduler`: at a rung a trial ends
if its value is below the (1 - 1 / reduction) quantile of the values that the rung has from others;
it is decided at once and nobody is waited for. Tune's scheduler itself decides on Tune trials,
which are tickets for whole packs here, and cannot end a lane; a test compares this rule with it.

Departure: trials of one pack come to a rung at the same moment, and each is compared with all
others known then, so that their order in the pack does not matter; one by one, it is Tune's rule.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bracket:
    """Trials that are compared with each other: they differ in their settings alone.

    Args:
        name: tells brackets apart.
        grace: epochs before the first rung.
        reduction: a rung keeps about one in so many; rungs are so many times apart.
    """

    name: str
    grace: int
    reduction: int

    @staticmethod
    def parse(text: str) -> "Bracket":
        """Read what `str` wrote."""
        name, grace, reduction = text.split(":")
        return Bracket(name, int(grace), int(reduction))

    def __str__(self) -> str:
        return f"{self.name}:{self.grace}:{self.reduction}"

    def is_rung(self, epoch: int) -> bool:
        """Tell whether trials are judged after an epoch, counted from 1."""
        rung = self.grace
        while rung < epoch:
            rung *= self.reduction
        return rung == epoch


Judge = Callable[[Bracket, int, Mapping[str, float]], list[str]]
"""Given a bracket, the epoch and values of trials by id, higher ones better: which trials end."""

Retire = Callable[[int, Mapping[int, float]], list[int]]
"""Given the epoch and validation values by lane: which lanes end; what a trainer asks."""


@dataclass(slots=True)
class Rungs:
    """What every rung has seen, and who was judged and retired there.

    Values stay where a search gets other rungs; what was decided counts for the same bracket alone.
    """

    _seen: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    _judged: dict[tuple[Bracket, int], set[str]] = field(default_factory=dict)
    _retired: dict[tuple[Bracket, int], set[str]] = field(default_factory=dict)

    def recall(self, events: Iterable[Mapping[str, Any]]) -> "Rungs":
        """Take in what an earlier driver decided: `rung` events."""
        for event in events:
            bracket, epoch = Bracket.parse(event["bracket"]), event["epoch"]
            self._seen.setdefault((bracket.name, epoch), {}).update(event["values"])
            self._judged.setdefault((bracket, epoch), set()).update(event["values"])
            self._retired.setdefault((bracket, epoch), set()).update(event["retired"])
        return self

    def judge(self, bracket: Bracket, epoch: int, values: Mapping[str, float]) -> dict[str, Any]:
        """Decide which of some trials end at a rung; the fields of a `rung` event.

        A trial that comes again, because its worker was killed, hears the same as before.

        Args:
            bracket: of the trials.
            epoch: of the rung.
            values: trial id to value, finite; the higher, the better.
        """
        seen = self._seen.setdefault((bracket.name, epoch), {})
        judged = self._judged.setdefault((bracket, epoch), set())
        retired = self._retired.setdefault((bracket, epoch), set())
        fresh = [trial for trial in values if trial not in judged]
        judged.update(fresh)
        seen.update({trial: values[trial] for trial in fresh})
        retired.update(trial for trial in fresh if _is_low(trial, seen, bracket.reduction))
        return {
            "bracket": str(bracket), "epoch": epoch, "values": dict(values),
            "retired": [trial for trial in values if trial in retired],
        }  # fmt: skip


def asking(
    judge: Judge | None, ids: Sequence[str], brackets: Mapping[str, str], *, lower_is_better: bool
) -> Retire | None:
    """Make of a judge what a trainer asks after each epoch; None where nobody may be retired.

    Args:
        judge: who decides.
        ids: of the trials by lane.
        brackets: trial id to the text of its bracket, for those that may be retired.
        lower_is_better: of the validation values. One that is not defined is not judged.
    """
    if judge is None or not brackets:
        return None
    parsed = {trial: Bracket.parse(text) for trial, text in brackets.items()}
    sign = -1 if lower_is_better else 1

    def retire(epoch: int, values: Mapping[int, float]) -> list[int]:
        asked: dict[Bracket, dict[str, float]] = {}
        for lane, value in values.items():
            own = parsed.get(ids[lane])
            if own and own.is_rung(epoch) and math.isfinite(value):
                asked.setdefault(own, {})[ids[lane]] = sign * value
        ended = {trial for own, found in asked.items() for trial in judge(own, epoch, found)}
        return [lane for lane in values if ids[lane] in ended]

    return retire


def _is_low(trial: str, seen: Mapping[str, float], reduction: int) -> bool:
    """Compare a trial with the quantile of the others, interpolated linearly."""
    others = sorted(value for name, value in seen.items() if name != trial)
    if not others:
        return False
    place = (1 - 1 / reduction) * (len(others) - 1)
    below = int(place)
    above = min(below + 1, len(others) - 1)
    cutoff = others[below] + (place - below) * (others[above] - others[below])
    return seen[trial] < cutoff
