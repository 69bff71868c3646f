"""One pack in, one segment out: plain functions, run inside a reused worker process.

The only place, with the command line, that catches every exception: an attempt that fails becomes a
recorded failure and the worker takes the next pack.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import failures, halving, segment, store
from orchestrator.events import now
from orchestrator.failures import Failure
from orchestrator.folder import Folder
from orchestrator.halving import Judge
from orchestrator.spec_artefacts import NO_ARTEFACTS, Artefacts
from orchestrator.spec_search import LOWER_IS_BETTER
from training.errors import DataError

if TYPE_CHECKING:
    from training.config import TrialConfig
    from training.data.index import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One pack as the broker hands it out.

    Args:
        pack: its id.
        encoder: whose embeddings it reads.
        trials: ids with their configurations as JSON, or what differs in them from `base`.
        kind: what packs that cost the same have in common, see `orchestrator.price`.
        priority: packs of a higher one go first.
        size: "large" where it needs a larger pilot.
        alone: it may have no neighbours on its pilot.
        share: how much of it a checkpoint holds, 0 to 1.
        brackets: of the trials that a search may retire, as text (`orchestrator.halving`).
        base: the configuration of one of the family, JSON; one text for many packs.
    """

    pack: str
    encoder: str
    trials: tuple[tuple[str, str], ...]
    kind: str = ""
    priority: int = 0
    size: str = "normal"
    alone: bool = False
    share: float = 0.0
    brackets: tuple[tuple[str, str], ...] = ()
    base: str = "{}"

    def configs(self) -> "list[TrialConfig]":
        """Give the configurations of the trials."""
        from training.config import TrialConfig

        texts = (json.dumps(json.loads(self.base) | json.loads(own)) for _, own in self.trials)
        return [TrialConfig.model_validate_json(text) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt at a pack."""

    job: Job
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker is, and how long it can stay.

    Args:
        pilot: SLURM job id of its pilot; empty on one machine.
        node: of the pilot.
        seconds_left: until the pilot drains.
        walltime_s: the pilot's time in all.
        size: of the pilot, "normal" or "large".
        shares_gpu: other workers use the same GPU.
    """

    pilot: str = ""
    node: str = ""
    seconds_left: float = math.inf
    walltime_s: float = math.inf
    size: str = "normal"
    shares_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a worker that asked for a pack got.

    Args:
        assignment: the pack, or None.
        reason: why there is none: "nothing" waits, no pack fits the "time" left, the sweep is
            "held" or "stopped", a pack must be "alone" on the pilot, packs need another "size", or
            a GPU of the node is "sick".
    """

    assignment: Assignment | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every pack of a sweep shares on a worker; nothing here changes a result."""

    folder: Path
    data: Path
    device: str
    gpus: float = 0.0
    artefacts: Artefacts = NO_ARTEFACTS
    code: str = ""
    """JSON of `provenance.code()`."""
    resident_gb: float = 2.0
    """Bags of a pack are kept in memory if they take no more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt: trained, failed as a whole, or stopped for the worker's sake."""

    failure: Failure | None = None
    stopped: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    seconds: float = 0.0
    device: str = ""


def train(
    assignment: Assignment,
    setting: Setting,
    *,
    on_epoch: Callable[[int, int], None],
    stop: Callable[[], bool],
    judge: Judge | None = None,
) -> Outcome:
    """Train a pack and leave its segment.

    Args:
        assignment: the pack and the attempt.
        setting: where and how.
        on_epoch: called with epochs trained and epochs in all.
        stop: asked before each step; where true, a checkpoint is left and the pack is given back.
        judge: asked at rungs which trials of a search end there; without, none do.
    """
    from training import devices
    from training.trainer import Stopped

    job, clock = assignment.job, time.monotonic()
    ids = ",".join(trial for trial, _ in job.trials)
    log.info("pack=%s attempt=%d trials=%s epoch=0 begins", job.pack, assignment.attempt, ids)
    device = devices.name(setting.device)
    reached: list[int] = []

    def note(epoch: int, epochs: int) -> None:
        if not reached and epoch > 1:
            log.info("pack=%s attempt=%d resumed epoch=%d", job.pack, assignment.attempt, epoch - 1)
        reached[:] = [epoch]
        on_epoch(epoch, epochs)

    try:
        states = _train(assignment, setting, device=device, on_epoch=note, stop=stop, judge=judge)
        outcome = Outcome(
            failed={one: why for one, (state, why) in states.items() if state == "failed"},
            retired=tuple(one for one, (state, _) in states.items() if state == "retired"),
            seconds=time.monotonic() - clock,
            device=device,
        )
    except Stopped as stopped:
        log.info("pack=%s attempt=%d stopped %s", job.pack, assignment.attempt, stopped)
        return Outcome(stopped=True, seconds=time.monotonic() - clock, device=device)
    except Exception as error:  # noqa: BLE001 - the worker boundary
        failure = failures.classify(error)
        log.warning(
            "pack=%s attempt=%d failure=%s %s\n%s",
            job.pack, assignment.attempt, failure.kind, failure.message, failure.trace,
        )  # fmt: skip
        return Outcome(failure=failure, seconds=time.monotonic() - clock, device=device)
    finally:
        devices.leave(setting.gpus)
    log.info("pack=%s attempt=%d epoch=%d done", job.pack, assignment.attempt, *reached or [0])
    return outcome


def _train(
    assignment: Assignment,
    setting: Setting,
    *,
    device: str,
    on_epoch: Callable[[int, int], None],
    stop: Callable[[], bool],
    judge: Judge | None,
) -> dict[str, tuple[str, str]]:
    """Train and write the segment; the state of each trial, and the class of its failure."""
    import torch

    from training import trainer

    if setting.device == "cpu":
        torch.set_num_threads(1)
    began, clock, folder = now(), time.monotonic(), Folder(setting.folder)
    configs = assignment.job.configs()
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
        retire=_retire(assignment.job, configs[0], judge),
        resident_bytes=int(setting.resident_gb * 2**30),
        keep=segment.keep(setting.artefacts),
        gpu_share=min(setting.gpus, 1.0) or 1.0,
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
                "device": device,
                "started": began,
                "licence": segment.licence(dataset.index, configs[0].encoder),
                **segment.version(setting.code),
            },
        ),
        artefacts=segment.artefacts(ids, results, weights=setting.artefacts.weights == "all"),
    )
    return {
        trial: (result.state, result.failure.partition(":")[0])
        for trial, result in zip(ids, results, strict=True)
    }


def _retire(job: Job, config: "TrialConfig", judge: Judge | None) -> halving.Retire | None:
    return halving.asking(
        judge,
        [trial for trial, _ in job.trials],
        dict(job.brackets),
        lower_is_better=config.stopping.metric in LOWER_IS_BETTER,
    )


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
