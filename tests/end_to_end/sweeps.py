"""A small sweep that trains in seconds, and how the tests run commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator import events
from orchestrator.folder import Folder

SPEC = """\
data:
  simulate:
    dev_patients: 24
    test_patients: 16
    min_tiles: 8
    max_tiles: 12
    encoders: {tiny: {dim: 16}}
task: {kind: binary}
encoders: [tiny]
folds: {kind: cohort, train: [dev], test: [test], num_folds: 2}
unseen_scanners: [E]
seeds: SEEDS
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 8, pairs_per_batch: 4}
optim: {epochs: EPOCHS}
arms:
  erm: {views: routine}
  all_scans: {views: all}
  infonce:
    views: all
    losses: {embedding: {kind: infonce}}
    grid: {losses.embedding.weight: [0.1, 1]}
cluster: local
"""
NUM_CELLS = 4


def write_spec(folder: Path, *, seeds: int = 2, epochs: int = 3, name: str = "small") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.replace("SEEDS", str(seeds)).replace("EPOCHS", str(epochs)))
    return path


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("sweep")), *map(str, arguments)]


def sweep(*arguments: object, code: int = 0, timeout: float = 300) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def status(folder: Path) -> dict:
    done = subprocess.run(
        command("status", folder.name, "--results", folder.parent, "--json"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


def table(folder: Path) -> bytes:
    sweep("aggregate", folder.name, "--results", folder.parent)
    return (folder / "tables" / "main.csv").read_bytes()


def wait(ready, *, timeout: float = 240, every: float = 0.2) -> None:
    """Poll a real, asynchronous system; bounded."""
    until = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < until, "not ready in time"
        time.sleep(every)


def accepted(folder: Path) -> int:
    """Count finished packs, without a process."""
    return len(events.list_segments(Folder(folder))) if (folder / "segments").is_dir() else 0


def kill_driver(folder: Path) -> int:
    """Send SIGKILL to the process that wrote the last `driving` event."""
    pid = events.progress(Folder(folder)).driver["pid"]
    os.kill(pid, signal.SIGKILL)
    return pid
