"""The trials that every system of the benchmark trains, and the cohort that they read.

A trial is a gated-attention model with a score loss on paired scans. Trials differ in seed and in
the weight of the loss; how long they take is set by their epochs.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator import spec
from tests.chaos import cohort
from training.config import TrialConfig

WEIGHTS = (0.03, 0.1, 0.3, 1.0)
SIMULATION = {
    "dev_patients": 80,
    "test_patients": 40,
    "paired_share": 0.5,
    "min_tiles": 60,
    "max_tiles": 120,
    "encoders": {"one": {"dim": 192}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Trials of one length.

    Args:
        name: of the length, such as "1 s".
        epochs: what makes a trial so long.
        num_trials: the same for all systems; a multiple of the weights.
    """

    name: str
    epochs: int
    num_trials: int


def write_data(root: Path) -> None:
    """Simulate the cohort once; it appears whole."""
    cohort.write_data(root, SIMULATION)


def write_spec(path: Path, load: Load, *, data: Path) -> None:
    """Write the sweep of these trials."""
    content: dict[str, Any] = {
        "data": str(data),
        "task": {"kind": "binary"},
        "encoders": ["one"],
        "folds": {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": 1},
        "unseen_scanners": ["E"],
        "seeds": load.num_trials // len(WEIGHTS),
        "head": {"kind": "gated_attention", "embed_dims": [64], "attention_dim": 32},
        "sampling": {"slides_per_batch": 16, "pairs_per_batch": 8, "tiles_per_bag": 48},
        "optim": {"lr": 1e-3, "epochs": load.epochs},
        "arms": {
            "score": {
                "views": "all",
                "losses": {"score": {"kind": "score"}},
                "grid": {"losses.score.weight": list(WEIGHTS)},
            }
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def configs(path: Path) -> list[TrialConfig]:
    """List the trials of a spec."""
    return [row.config for row in spec.expand(spec.read(path))]


def write_trials(folder: Path, trials: list[TrialConfig]) -> list[Path]:
    """Write a JSON file for each trial, for systems that take files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.json" for number in range(len(trials))]
    for path, trial in zip(paths, trials, strict=True):
        path.write_text(trial.model_dump_json())
    return paths


def read_marks(folder: Path) -> list[tuple[float, float]]:
    """Read when each trial's training began and ended, unix time, in order of the ends."""
    files = sorted(folder.glob("*.jsonl"))
    lines = itertools.chain.from_iterable(path.read_text().splitlines() for path in files)
    found = [json.loads(line) for line in lines]
    return sorted(((one["began"], one["ended"]) for one in found), key=lambda pair: pair[1])
