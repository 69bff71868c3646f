"""One pack in, one segment out: plain functions, run inside a reused worker process.

The only place, with the command line, that catches every exception: an attempt that fails becomes a
recorded failure and the worker takes the next pack.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import failures, segment, store
from orchestrator.events import now
from orchestrator.failures import Failure
from orchestrator.folder import Folder
from training.errors import DataError

if TYPE_CHECKING:
    from training.config import TrialConfig
    from training.data.index import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One pack as the broker hands it out: trial ids with their configurations as JSON."""

    pack: str
    encoder: str
    trials: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt at a pack."""

    job: Job
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every pack of a sweep shares on a worker; nothing here changes a result."""

    folder: Path
    data: Path
    device: str
    gpus: float = 0.0
    weights: str = "none"
    code: str = ""
    """JSON of `provenance.code()`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt: trained, failed as a whole, or stopped for the worker's sake."""

    failure: Failure | None = None
    stopped: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    assignment: Assignment,
    setting: Setting,
    *,
    on_epoch: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> Outcome:
    """Train a pack and leave its segment.

    Args:
        assignment: the pack and the attempt.
        setting: where and how.
        on_epoch: called with epochs trained and epochs in all.
        stop: asked before each step; where true, a checkpoint is left and the pack is given back.
    """
    from training.trainer import Stopped

    started = time.monotonic()
    try:
        failed = _train(assignment, setting, on_epoch=on_epoch, stop=stop)
    except Stopped:
        return Outcome(stopped=True, seconds=time.monotonic() - started)
    except Exception as error:  # noqa: BLE001 - the worker boundary
        failure = failures.classify(error)
        log.warning("pack=%s attempt=%d %s", assignment.job.pack, assignment.attempt, failure)
        return Outcome(failure=failure, seconds=time.monotonic() - started)
    return Outcome(failed=failed, seconds=time.monotonic() - started)


def _train(
    assignment: Assignment,
    setting: Setting,
    *,
    on_epoch: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> dict[str, str]:
    import torch

    from training import trainer
    from training.config import TrialConfig

    if setting.device == "cpu":
        torch.set_num_threads(1)
    began, clock = now(), time.monotonic()
    folder = Folder(setting.folder)
    configs = [TrialConfig.model_validate_json(text) for _, text in assignment.job.trials]
    dataset = _dataset(setting.data, _changed(setting.data))
    _require_planned_data(assignment.job, configs, dataset)
    checkpoint = folder.checkpoints / assignment.job.pack
    results = trainer.train(
        configs,
        dataset,
        device=setting.device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        stop=stop,
    )
    seconds = (time.monotonic() - clock) / len(results)
    ids = [trial for trial, _ in assignment.job.trials]
    store.write_segment(
        folder,
        assignment.job.pack,
        assignment.attempt,
        tables=segment.tables(
            ids,
            results,
            {
                "pack": assignment.job.pack,
                "attempt": assignment.attempt,
                "seconds": seconds,
                "device": setting.device,
                "started": began,
                **segment.version(setting.code),
            },
        ),
        artefacts=segment.weights(ids, results) if setting.weights == "all" else {},
    )
    return {
        trial: result.failure.partition(":")[0]
        for trial, result in zip(ids, results, strict=True)
        if result.state == "failed"
    }


def _changed(root: Path) -> tuple[int, ...]:
    """Tell versions of a data folder apart: each of its tables is replaced by a rename."""
    names = ("index.parquet", "cases.parquet", "folds.parquet")
    return tuple((root / name).stat().st_mtime_ns for name in names if (root / name).exists())


def _require_planned_data(job: Job, configs: Sequence["TrialConfig"], dataset: "Dataset") -> None:
    """Refuse data that changed since the sweep was planned: the trials would be other trials."""
    from orchestrator import trial
    from training.data import folds

    fingerprint = folds.fingerprint(dataset, configs[0])
    for (name, _), config in zip(job.trials, configs, strict=True):
        if trial.trial_id(config, fingerprint) != name:
            raise DataError(
                f"{dataset.root}: the data changed since trial {name} was planned",
                hint="launch the spec again: it plans with the data as they are now",
            )


@lru_cache(maxsize=2)
def _dataset(root: Path, _versions: tuple[int, ...]) -> "Dataset":
    from training.data import index

    return index.read(root)
