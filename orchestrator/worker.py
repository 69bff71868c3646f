"""One pack in, one segment out: plain functions, run inside a reused worker process.

The only place, with the command line, that catches every exception: an attempt that fails becomes a
recorded failure and the worker takes the next pack.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import failures, store
from orchestrator.events import now
from orchestrator.failures import Failure
from orchestrator.folder import Folder

if TYPE_CHECKING:
    from training.data.index import Dataset
    from training.trainer import LaneResult

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
        stop: asked after each epoch; where true, a checkpoint is left and the pack is given back.
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
    checkpoint = folder.checkpoints / assignment.job.pack
    results = trainer.train(
        configs,
        _dataset(setting.data, (setting.data / "index.parquet").stat().st_mtime_ns),
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
        tables=_tables(assignment, results, setting, seconds=seconds, began=began),
        artefacts=_weights(ids, results, setting.weights),
    )
    return {
        trial: result.failure.partition(":")[0]
        for trial, result in zip(ids, results, strict=True)
        if result.state == "failed"
    }


@lru_cache(maxsize=2)
def _dataset(root: Path, _changed_ns: int) -> "Dataset":
    from training.data import index

    return index.read(root)


def _tables(
    assignment: Assignment,
    results: Sequence["LaneResult"],
    setting: Setting,
    *,
    seconds: float,
    began: str,
) -> dict[str, Any]:
    import pandas as pd

    job, trials, curves, predictions = assignment.job, [], [], []
    versions = json.loads(setting.code or "{}")
    commit = f"{versions.pop('commit', '')}{'' if versions.pop('clean', True) else '+changes'}"
    for lane, ((trial, _), result) in enumerate(zip(job.trials, results, strict=True)):
        trials.append(
            {
                "trial": trial,
                "pack": job.pack,
                "attempt": assignment.attempt,
                "lane": lane,
                "state": result.state,
                "failure": result.failure,
                "epoch": result.epoch,
                "epochs_trained": result.epochs_trained,
                "threshold": result.threshold,
                "validation": result.validation,
                "seconds": seconds,
                "device": setting.device,
                "commit": commit,
                "versions": json.dumps(versions, sort_keys=True),
                "started": began,
            }
        )
        for quantity, values in result.curves.items():
            curves.append(
                pd.DataFrame(
                    {
                        "trial": trial,
                        "epoch": range(len(values)),
                        "quantity": quantity,
                        "value": values,
                    }
                )
            )
        predictions.append(_predictions(trial, result))
    return {
        "trials": pd.DataFrame(trials),
        "curves": pd.concat(curves, ignore_index=True),
        "predictions": pd.concat(predictions, ignore_index=True),
    }


def _predictions(trial: str, result: "LaneResult") -> Any:
    import pandas as pd

    rows = result.predictions
    score = rows.score if rows.score.ndim == 1 else list(rows.score)
    return pd.DataFrame(
        {
            "trial": trial,
            "patient": rows.patient,
            "slide": rows.slide,
            "view": rows.view,
            "scanner": rows.scanner,
            "cohort": rows.cohort,
            "part": rows.part,
            "held_out": rows.held_out,
            "label": rows.label,
            "score": score,
        }
    )


def _weights(ids: Sequence[str], results: Sequence["LaneResult"], keep: str) -> dict[str, Any]:
    if keep == "none":
        return {}
    return {
        f"weights-{trial}": result.weights
        for trial, result in zip(ids, results, strict=True)
        if result.state == "done"
    }
