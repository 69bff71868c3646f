"""The sweep that chaos disturbs: its spec, its data, and a profile for each kind of trouble."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training import simulate
from training.simulation_config import Simulation

SIMULATION = {
    "dev_patients": 24,
    "test_patients": 16,
    "min_tiles": 8,
    "max_tiles": 12,
    "encoders": {"tiny": {"dim": 16}, "small": {"dim": 24}},
}
LANES_MAX = 4
NUM_ARM_CELLS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a chaotic sweep uses the cluster.

    Args:
        name: also what kinds of fault belong to it (`faults`).
        partition: of pilots; the driver is in `gpu`, which nothing preempts.
        walltime_min: of pilots.
        small_disk: results lie on a small file system of their own.
        own_data: the data are a copy that may be damaged.
    """

    name: str
    partition: str = "gpu"
    walltime_min: int = 30
    small_disk: bool = False
    own_data: bool = False


SETTINGS = (
    Setting(name="plain"),
    Setting(name="grace", partition="scavg"),
    Setting(name="disk", small_disk=True),
    Setting(name="no-grace", partition="scav"),
    Setting(name="short", walltime_min=2),
    Setting(name="data", own_data=True),
)


def write_data(root: Path, simulation: dict[str, Any] = SIMULATION) -> None:
    """Simulate a cohort once; it appears whole."""
    if root.is_dir():
        return
    half = root.with_name(f".{root.name}")
    shutil.rmtree(half, ignore_errors=True)
    simulate.write(Simulation.model_validate(simulation), half)
    half.rename(root)


def write_spec(
    path: Path, *, data: Path, seeds: int, epochs: int, folds: int = 2, encoders: int = 2
) -> int:
    """Write a spec; return how many trials it has."""
    names = list(SIMULATION["encoders"])[:encoders]  # type: ignore[call-overload]
    weights = {"grid": {"losses.embedding.weight": [0.1, 1]}}
    content: dict[str, Any] = {
        "data": str(data),
        "task": {"kind": "binary"},
        "encoders": names,
        "folds": {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": folds},
        "unseen_scanners": ["E"],
        "seeds": seeds,
        "head": {"kind": "attention", "embed_dims": [8], "attention_dim": 4},
        "sampling": {"slides_per_batch": 8, "pairs_per_batch": 4},
        "optim": {"epochs": epochs},
        "arms": {
            "erm": {"views": "routine"},
            "all_scans": {"views": "all"},
            "infonce": {
                "views": "all", "losses": {"embedding": {"kind": "infonce"}}, **weights,
            },
            "score": {
                "views": "all", "losses": {"score": {"kind": "score"}},
                "grid": {"losses.score.weight": [0.1, 1]},
            },
        },
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return len(names) * NUM_ARM_CELLS * folds * seeds


def write_profile(path: Path, setting: Setting, *, pilots: int = 2, **further: Any) -> None:
    """Write the profile of a setting, for the virtual nodes of the test bed."""
    address = "127.1.$((SLURM_JOB_ID / 250 % 250)).$((SLURM_JOB_ID % 250 + 2))"
    content = {
        "kind": "slurm", "device": "cpu", "partition": setting.partition, "pilots": pilots,
        "gpus": 1, "cpus": 2, "memory_gb": 3, "walltime_min": setting.walltime_min,
        "workers": 1, "lanes_max": LANES_MAX, "node_ip": "$SWEEP_NODE_IP",
        "driver": {"partition": "gpu", "cpus": 1, "memory_gb": 3, "walltime_min": 60},
        "setup": [f"export SWEEP_NODE_IP={address}"], **further,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def write_local_profile(path: Path, *, workers: int = 2) -> None:
    """Write the profile of the undisturbed sweep."""
    path.write_text(f"kind: local\nworkers: {workers}\nlanes_max: {LANES_MAX}\n")
