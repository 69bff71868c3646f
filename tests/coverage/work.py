"""Count how often intervals hold the truth, in parts that are kept and not computed again."""

import gc
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestrator import measure_draws, resampling, statistics
from orchestrator.resampling import Draws, Method
from tests.coverage import world
from tests.science.work import follow_parent

METHODS: tuple[Method, ...] = ("percentile", "bca", "expanded")
SIZES = (50, 200, 1000)
COHORTS = 2000
LEVEL = 0.95
NUM_DRAWS = 2000

_PART = 25
"""Cohorts of a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was found.

    Attributes:
        held: by size, metric, single or difference, and method, how many intervals hold the truth.
        rejected: by size and method, in how many families under the null anything was significant.
        cohorts: by size, how many there are.
        seconds: of CPU.
    """

    held: Counter[tuple[int, str, str, str]]
    rejected: Counter[tuple[int, str]]
    cohorts: Counter[int]
    seconds: float


def compute(
    out: Path,
    *,
    sizes: tuple[int, ...],
    cohorts: int,
    minutes: float,
    workers: int,
    say: Callable[[str], None],
) -> Counts:
    """Compute the parts that are missing, until the time is over; count all that are there."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = [(size, start) for size in sizes for start in range(0, cohorts, _PART)]
    missing = [part for part in wanted if not _file(out, *part).exists()]
    deadline = time.monotonic() + 60 * minutes
    world.truth(out / "truth.json")
    with ProcessPoolExecutor(workers, initializer=follow_parent) as pool:
        waiting = {pool.submit(_part, out, *part, deadline): part for part in missing}
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            if done % 20 == 0:
                say(f"{done} of {len(missing)} parts")
    return _count([_file(out, *part) for part in wanted])


def held(
    size: int, number: int, true: Mapping[str, np.ndarray]
) -> dict[tuple[str, str, str], bool]:
    """Draw a cohort, and say of each metric, kind and method whether the interval holds the truth.

    An interval that is not defined holds nothing.

    Args:
        size: patients.
        number: of the cohort.
        true: what `world.truth` says.
    """
    drawn = world.cohort(size, number + 1)
    found = {}
    for survival, stratum in ((False, drawn.label), (True, drawn.event.astype(np.int64))):
        own = world.cases(drawn, survival=survival, scanners=1 if survival else world.SCANNERS)
        for draws, methods in _draws(stratum, number):
            metrics = ("concordance",) if survival else ("auroc", "balanced_accuracy")
            values = measure_draws.trials(own, draws.weight, metrics=metrics)
            for metric in metrics:
                first, second = values[metric].astype(np.float64)
                each = np.stack([first, first - second])
                aims = (true[metric][0], true[metric][0] - true[metric][1])
                for method in methods:
                    low, high = resampling.intervals(
                        each, replace(draws, method=method), level=LEVEL
                    )
                    for place, kind in enumerate(("single", "difference")):
                        inside = low[place] <= aims[place] <= high[place]
                        found[metric, kind, method] = bool(inside)
    return found


def rejected(size: int, number: int) -> dict[str, bool]:
    """Compare pairs of equally good models; say by method whether Holm leaves one significant."""
    drawn = world.cohort(size, number + 1, models=2 * world.PAIRS, null=True)
    own = world.cases(drawn, survival=False, scanners=1)
    found = {}
    for draws, methods in _draws(drawn.label, number):
        values = measure_draws.trials(own, draws.weight, metrics=("auroc",))["auroc"]
        each = values[0::2].astype(np.float64) - values[1::2]
        for method in methods:
            p = resampling.p_values(each, replace(draws, method=method))
            found[method] = bool((statistics.adjust(p, "holm") <= 1 - LEVEL).any())
    return found


def _draws(stratum: np.ndarray, number: int) -> Iterator[tuple[Draws, tuple[Method, ...]]]:
    """Draw patients, once for each way of drawing: BCa's draws serve the percentiles too."""
    names = [f"{patient:07d}" for patient in range(len(stratum))]
    kinds: tuple[tuple[Method, tuple[Method, ...]], ...] = (
        ("bca", ("percentile", "bca")),
        ("expanded", ("expanded",)),
    )
    for method, methods in kinds:
        yield (
            resampling.draw(stratum, names, num_draws=NUM_DRAWS, method=method, seed=number),
            methods,
        )


def _part(out: Path, size: int, start: int, deadline: float) -> None:
    """Compute a part and keep it, whole or not at all; nothing once the time is over."""
    if time.monotonic() > deadline:
        return
    gc.freeze()  # statsmodels' Holm ends in a garbage collection
    began, true = time.process_time(), world.truth(out / "truth.json")
    numbers = range(start, start + _PART)
    inside = Counter(
        "/".join(key) for each in numbers for key, holds in held(size, each, true).items() if holds
    )
    wrong = Counter(key for each in numbers for key, any_ in rejected(size, each).items() if any_)
    content = {
        "size": size, "cohorts": _PART, "held": inside, "rejected": wrong,
        "seconds": time.process_time() - began,
    }  # fmt: skip
    temporary = out / f".{size}-{start}-{os.getpid()}"
    temporary.write_text(json.dumps(content))
    temporary.rename(_file(out, size, start))


def _file(out: Path, size: int, start: int) -> Path:
    return out / f"{size}-{start}.json"


def _count(files: list[Path]) -> Counts:
    counts = Counts(held=Counter(), rejected=Counter(), cohorts=Counter(), seconds=0.0)
    seconds = 0.0
    for file in files:
        if not file.exists():
            continue
        part = json.loads(file.read_text())
        size = part["size"]
        counts.cohorts[size] += part["cohorts"]
        for key, number in part["held"].items():
            metric, kind, method = key.split("/")
            counts.held[size, metric, kind, method] += number
        for method, number in part["rejected"].items():
            counts.rejected[size, method] += number
        seconds += part["seconds"]
    return replace(counts, seconds=seconds)
