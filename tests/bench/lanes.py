"""Seconds per trial of packs of K lanes, beside an ordinary single model, in one warm process."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import TypeAdapter

from tests.bench import plain, trials
from tests.bench.trials import Load
from training import trainer
from training.config import Loss, TrialConfig
from training.data import index
from training.data.index import Dataset

SIZES = (1, 2, 4, 8, 16, 32)

LOSSES: list[Loss] = TypeAdapter(list[Loss]).validate_python(
    [
        {"kind": kind, "weight": 0.1}
        for kind in ("score", "infonce", "embedding", "vicreg", "coral", "mmd", "irm", "supcon")
    ]
)
"""Of eight kinds, for lanes that share no loss."""


def measure(load: Load, *, data: Path, scratch: Path) -> dict[str, float]:
    """Train an ordinary model ("plain") and packs of every size; CPU seconds per trial.

    A pack of one has a dummy companion. Reading the data counts on neither side.
    """
    configs, dataset = _read(load, data, scratch)
    given = plain.prepare(configs[0], data)
    plain.train(_short(configs[0]), given)  # warms up
    trainer.train([_short(config) for config in configs[:2]], dataset)
    began = time.process_time()
    plain.train(configs[0], given)
    found = {"plain": time.process_time() - began}
    for size in SIZES:
        found[str(size)] = _per_trial(configs[:size], dataset)
    return found


def measure_losses(load: Load, *, data: Path, scratch: Path) -> dict[str, float]:
    """Train eight trials that share no loss, in one pass and in packs of one; seconds per trial."""
    configs, dataset = _read(load, data, scratch)
    mixed = [configs[0].model_copy(update={"losses": (loss,)}) for loss in LOSSES]
    trainer.train([_short(config) for config in mixed], dataset)  # warms up
    one_pass = _per_trial(mixed, dataset)
    apart = [_per_trial([config], dataset) for config in mixed]
    return {"one pass": one_pass, "packs of one": statistics.fmean(apart)}


def _read(load: Load, data: Path, scratch: Path) -> tuple[list[TrialConfig], Dataset]:
    torch.set_num_threads(1)
    spec = scratch / "lanes" / "lanes.yaml"
    trials.write_spec(spec, load, data=data)
    return trials.configs(spec), index.read(data)


def _short(config: TrialConfig) -> TrialConfig:
    optim = config.optim.model_copy(update={"epochs": 2})
    return config.model_copy(update={"optim": optim})


def _per_trial(configs: Sequence[TrialConfig], dataset: Dataset) -> float:
    """Time a pack from the end of its first epoch, so that what it read before does not count."""
    marks: list[float] = []
    trainer.train(configs, dataset, on_epoch=lambda *_: marks.append(time.process_time()))
    epochs = configs[0].optim.epochs
    return (time.process_time() - marks[0]) * epochs / (epochs - 1) / len(configs)
