"""Seconds per trial of packs of K lanes, beside an ordinary single model, in one warm process."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.bench import plain, trials
from tests.bench.trials import Load
from training import trainer
from training.config import TrialConfig
from training.data import index
from training.data.index import Dataset

SIZES = (1, 2, 4, 8, 16, 32)


def measure(load: Load, *, data: Path, scratch: Path) -> dict[str, float]:
    """Train an ordinary model ("plain") and packs of every size; CPU seconds per trial.

    A pack of one has a dummy companion. Reading the data counts on neither side.
    """
    torch.set_num_threads(1)
    spec = scratch / "lanes" / "lanes.yaml"
    trials.write_spec(spec, load, data=data)
    configs, dataset = trials.configs(spec), index.read(data)
    given = plain.prepare(configs[0], data)
    short = [config.model_copy(update={"optim": _short(config)}) for config in configs[:2]]
    plain.train(short[0], given)  # warms up
    trainer.train(short, dataset)
    began = time.process_time()
    plain.train(configs[0], given)
    found = {"plain": time.process_time() - began}
    for size in SIZES:
        found[str(size)] = _per_trial(configs[:size], dataset)
    return found


def _short(config: TrialConfig) -> object:
    return config.optim.model_copy(update={"epochs": 2})


def _per_trial(configs: Sequence[TrialConfig], dataset: Dataset) -> float:
    """Time a pack from the end of its first epoch, so that what it read before does not count."""
    marks: list[float] = []
    trainer.train(configs, dataset, on_epoch=lambda *_: marks.append(time.process_time()))
    epochs = configs[0].optim.epochs
    return (time.process_time() - marks[0]) * epochs / (epochs - 1) / len(configs)
