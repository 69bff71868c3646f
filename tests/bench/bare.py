"""Bare training: warm processes, one per core, each in a tight loop over its share of trials."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tests.bench import plain
from training.config import TrialConfig

LONGEST_S = 3600.0


def core_seconds(trials: Sequence[TrialConfig], *, data: Path, scratch: Path, cores: int) -> float:
    """Train all trials and sum up their seconds, each on a core of its own."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(cores), context.Queue()
    workers = [
        context.Process(
            target=_train, args=([*trials[core::cores]], data, scratch, barrier, queue), daemon=True
        )
        for core in range(cores)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=LONGEST_S) for _ in workers]
    for worker in workers:
        worker.join()
    if wrong := [one for one in found if isinstance(one, str)]:
        raise RuntimeError(wrong[0])
    return float(sum(found))


def _train(
    trials: Sequence[TrialConfig], data: Path, scratch: Path, barrier: Barrier, queue: Any
) -> None:
    seconds = 0.0
    if trials:
        given = plain.prepare(trials[0], data)
        optim = trials[0].optim.model_copy(update={"epochs": 2})
        plain.train(trials[0].model_copy(update={"optim": optim}), given)  # warms up
    barrier.wait(LONGEST_S)
    for number, trial in enumerate(trials):
        name = f"{trial.seed}-{number}"
        seconds += plain.timed(trial, given, name=name, out=scratch, marks=scratch / "marks")
    queue.put(seconds)
