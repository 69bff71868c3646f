"""One system, one load, once: from the command to the last trial."""

import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from orchestrator import events
from orchestrator.folder import Folder
from tests.bench import trials
from tests.bench.trials import Load

OURS = ("sweep", "sweep on slurm")
OTHERS = ("submitit", "tune function", "tune class", "shell")
LONGEST_S = 3600.0
LANES_MAX = 16
POLL_S = 0.1

Pairs = list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where measurements are made.

    Args:
        data: the cohort.
        scratch: a folder for all that the systems write.
        cores: trials at once.
        slurm_conf: of the test bed; empty: there is none, and what needs SLURM is left out.
    """

    data: Path
    scratch: Path
    cores: int
    slurm_conf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """What a system took.

    Args:
        wall_s: from the command to the end of the last trial's training.
        startup_s: from the command to the beginning of the first trial's training.
        gone_s: from the command until it has returned and nothing of it is left.
        gap_s: of sweeps, from the end of a pack's training on a worker until the next one trains
            there, the median; NaN where no worker had two.
        pilot_s: of sweeps on SLURM, from the start of the first pilot until a trial trains.
    """

    wall_s: float
    startup_s: float
    gone_s: float
    gap_s: float = math.nan
    pilot_s: float = math.nan


def measure(name: str, load: Load, bench: Bench) -> Time:
    """Train all trials of a load with a system.

    Raises:
        RuntimeError: It did not train all of them.
    """
    folder = bench.scratch / name.replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    spec = folder / "bench_load.yaml"
    trials.write_spec(spec, load, data=bench.data)
    began, of_sweep = time.time(), dict[str, float]()
    if name in OURS:
        pairs, of_sweep = _sweep(spec, bench, load, slurm=name != "sweep")
    else:
        files = trials.write_trials(folder / "trials", trials.configs(spec))
        began = time.time()
        command = [
            sys.executable, "-m", "tests.bench.others", name, files[0].parent,
            "--data", bench.data, "--out", folder / "out", "--cores", bench.cores,
        ]  # fmt: skip
        _run(command, bench, folder / "log.txt")
        pairs = trials.read_marks(folder / "out" / "marks")
    if len(pairs) != load.num_trials:
        raise RuntimeError(f"{name}: {len(pairs)} of {load.num_trials} trials in {folder}")
    return Time(
        wall_s=max(end for _, end in pairs) - began,
        startup_s=min(begin for begin, _ in pairs) - began,
        gone_s=time.time() - began,
        **of_sweep,
    )


def _sweep(spec: Path, bench: Bench, load: Load, *, slurm: bool) -> tuple[Pairs, dict[str, float]]:
    """Launch a sweep and wait for its end; when the packs of its trials began and ended, and what
    `Time` has of sweeps alone."""
    results = spec.parent / "results"
    profile = spec.parent / "profile.yaml"
    write_profile(profile, bench.cores, slurm=slurm)
    sweep = str(Path(sys.executable).with_name("sweep"))
    command = [sweep, "launch", spec, "--results", results, "--cluster", profile, "--yes", "-q"]
    _run(command, bench, spec.parent / "log.txt")
    folder = Folder(results / spec.stem)
    until = time.monotonic() + LONGEST_S
    while not _ended(folder):
        if time.monotonic() > until:
            raise RuntimeError(f"{folder.root}: the sweep does not end")
        time.sleep(POLL_S)
    accepted = {event["pack"]: event for event in _events(folder, "accepted")}
    pairs: Pairs = []
    packs: Pairs = []
    for segment in sorted(folder.segments.iterdir()):
        table = pq.read_table(segment / "trials.parquet").to_pylist()
        told, begin = accepted[table[0]["pack"]], _unix(table[0]["started"])
        end = _unix(told["time"])
        pairs += [(begin, end) for row in table if row["state"] == "done"]
        trained = begin + sum(row["seconds"] for row in table)
        packs.append((begin, trained))
    of_sweep = {"gap_s": gap(packs)}
    if started := [_unix(event["time"]) for event in _events(folder, "started")]:
        of_sweep["pilot_s"] = min(begin for begin, _ in pairs) - min(started)
    return pairs, of_sweep


def gap(packs: Pairs) -> float:
    """Find the median time from the end of a pack to the beginning of the next on that worker.

    Events name the ticket that drew a pack, not the worker: a pack counts as the next of the one
    that ended last before it and has no next yet.
    """
    gaps, ended = [], list[float]()
    for begin, end in sorted(packs):
        before = max((one for one in ended if one <= begin), default=None)
        if before is not None:
            gaps.append(begin - before)
            ended.remove(before)
        ended.append(end)
    return statistics.median(gaps) if gaps else math.nan


def _ended(folder: Folder) -> bool:
    return bool(_events(folder, "ended"))


def _events(folder: Folder, name: str) -> list[events.Event]:
    if not folder.events.is_dir():
        return []
    return [event for event in events.read_events(folder) if event["event"] == name]


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def write_profile(path: Path, cores: int, *, slurm: bool) -> None:
    """Write a profile with as many workers as cores: here, or as pilots of the test bed."""
    if not slurm:
        path.write_text(f"kind: local\nworkers: {cores}\nlanes_max: {LANES_MAX}\n")
        return
    address = "127.1.$((SLURM_JOB_ID / 250 % 250)).$((SLURM_JOB_ID % 250 + 2))"
    content = {
        "kind": "slurm", "device": "cpu", "partition": "gpu", "pilots": cores, "gpus": 1,
        "cpus": 2, "memory_gb": 3, "walltime_min": 60, "workers": 1, "lanes_max": LANES_MAX,
        "node_ip": "$SWEEP_NODE_IP", "driver": {"cpus": 1, "memory_gb": 3, "walltime_min": 60},
        "setup": [f"export SWEEP_NODE_IP={address}"],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _run(command: Sequence[object], bench: Bench, log: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if bench.slurm_conf:
        environment["SLURM_CONF"] = bench.slurm_conf
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(
            [*map(str, command)], stdout=file, stderr=subprocess.STDOUT, env=environment,
            stdin=subprocess.DEVNULL, timeout=LONGEST_S,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]}: exit code {done.returncode}\n{log.read_text()[-2000:]}")


def needs_slurm(name: str) -> bool:
    """Tell whether a system is a user of SLURM."""
    return name in ("submitit", "sweep on slurm")


Say = Callable[[str], None]
