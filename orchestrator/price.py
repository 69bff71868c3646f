"""What packs cost, from packs of the same kind that trained before; pure.

Training time follows from the kind of trial, not from its seed, fold or weights. On a CPU it grows
with the number of lanes; on a GPU, where few lanes leave it idle, at most so.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator.events import Observation as Observation
from orchestrator.trial import hash_of
from training.config import TrialConfig, lane_key

UPPER = 1.25
"""A pack may take this much longer than the longest one like it."""
UPPER_ONE = 1.5
"""The same where only one like it is known."""
SPREAD_ONE = 0.3
"""Coefficient of variation that is assumed where no kind was seen twice."""
# Student's t, 95th percentile, by degrees of freedom (for a two-sided 90 % interval).
_T95 = ((1, 6.314), (2, 2.920), (3, 2.353), (4, 2.132), (5, 2.015), (7, 1.895), (10, 1.812))
_T95_MORE = ((20, 1.725), (40, 1.684), (120, 1.658))
_T95_LIMIT = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What packs will cost.

    Args:
        gpu_hours: expected, NaN where no pack is of a known kind.
        low: lower end of the 90 % interval.
        high: upper end.
        seconds: expected wall time with all workers busy.
        unknown: packs of kinds that were never seen; they count as the others do per lane.
        source: what it rests on, for people.
    """

    gpu_hours: float
    low: float
    high: float
    seconds: float
    unknown: int
    source: str


def kind(config: TrialConfig, losses: Collection[str], *, retires: bool = False) -> str:
    """Name what packs that cost the same have in common: all but folds, seeds and loss weights.

    How many of the lanes have which losses is not told apart.

    Args:
        config: of a trial.
        losses: the `loss_key` of each trial.
        retires: a search may end trials of the pack early, so that it costs less than others.
    """
    base = config.model_copy(update={"fold": 0, "seed": 0, "draw_seed": 0})
    compared = " ".join(sorted(set(losses)))
    return hash_of(f"kind {lane_key(base)} {compared}{' retires' if retires else ''}")


def predict(
    observations: Sequence[Observation], kind: str, lanes: int
) -> tuple[float, float] | None:
    """Predict the seconds of a pack: expected, and an upper bound; None for an unknown kind."""
    alike = [_scaled(seen, lanes) for seen in observations if seen.kind == kind]
    if not alike:
        return None
    factor = UPPER if len(alike) > 1 else UPPER_ONE
    return statistics.median(alike), max(alike) * factor


def estimate(
    packs: Sequence[tuple[str, int]],
    observations: Sequence[Observation],
    *,
    gpus_per_worker: float,
    workers: int,
) -> Price:
    """Estimate the cost of packs with a 90 % interval.

    The interval covers how packs of a kind vary and how few of them were seen (Student's t on the
    mean of each kind); a kind seen once takes the relative spread of the others, or 30 %. A kind
    that was never seen takes the mean of the others, give or take as much again. Not covered are
    waiting for SLURM, start-up of pilots, and another kind of GPU than was seen.

    Args:
        packs: kind and number of lanes of each.
        observations: packs that trained before.
        gpus_per_worker: GPUs that are billed while a pack trains.
        workers: packs trained at once.
    """
    seen: dict[str, list[Observation]] = defaultdict(list)
    for one in observations:
        seen[one.kind].append(one)
    spread, degrees = _spread(seen)
    total = variance = guess = 0.0
    counted = Counter(packs)
    unknown = sum(count for (name, _), count in counted.items() if name not in seen)
    if unknown == len(packs) and packs:
        source = "no pack of these kinds has trained yet"
        nan = math.nan
        return Price(gpu_hours=nan, low=nan, high=nan, seconds=nan, unknown=unknown, source=source)
    for (name, lanes), count in counted.items():
        alike = [_scaled(one, lanes) for one in seen.get(name, observations)]
        mean = statistics.fmean(alike)
        own = statistics.stdev(alike) if len(alike) > 1 else spread * mean
        total += count * mean
        if name in seen:
            variance += own**2 * (count + count**2 / len(alike))
        else:
            guess += count * mean
    hours = gpus_per_worker / 3600
    half = math.hypot(_t95(degrees) * math.sqrt(variance), guess)
    used = sum(len(seen[name]) for name in {name for name, _ in counted} if name in seen)
    return Price(
        gpu_hours=total * hours,
        low=max(0.0, total - half) * hours,
        high=(total + half) * hours,
        seconds=total / max(1, min(workers, len(packs))),
        unknown=unknown,
        source=f"from {used:,} packs of the same kinds" + _guess(unknown),
    )


def _guess(unknown: int) -> str:
    return f"; {unknown:,} packs of kinds never seen, as the others" if unknown else ""


def _scaled(seen: Observation, lanes: int) -> float:
    """Carry the seconds of a pack over to another number of lanes; a lone lane costs as two."""
    ratio = max(2, lanes) / max(2, seen.lanes)
    return seen.seconds * (ratio if seen.device == "cpu" else max(1.0, ratio))


def _spread(seen: dict[str, list[Observation]]) -> tuple[float, int]:
    """Pool the relative spread of kinds seen twice or more: its size and degrees of freedom."""
    squares, degrees = 0.0, 0
    for alike in seen.values():
        seconds = [_scaled(one, 2) for one in alike]
        mean = statistics.fmean(seconds)
        if len(seconds) > 1 and mean > 0:
            squares += sum((value / mean - 1) ** 2 for value in seconds)
            degrees += len(seconds) - 1
    return (math.sqrt(squares / degrees), degrees) if degrees else (SPREAD_ONE, 0)


def _t95(degrees: int) -> float:
    if degrees == 0:
        return _T95_LIMIT
    return next((t for df, t in reversed((*_T95, *_T95_MORE)) if degrees >= df), _T95_LIMIT)
