"""What a process knows of the SLURM allocation it runs in, from its environment and its cgroup."""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

KEPT = ("SLURM_CONF",)
"""The only variable of SLURM that a submission inherits."""


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Hide the job this process runs in from what it submits.

    sbatch takes options from SBATCH_* before those of a script, and what it submits inherits
    SLURM_*: a job submitted by a job would get the limits of that one. The profile decides alone.
    """
    names = [n for n in os.environ if n.startswith(("SLURM_", "SBATCH_")) and n not in KEPT]
    before = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(before)


def own_job(environment: Mapping[str, str] | None = None) -> str:
    """Return this process's SLURM job id as squeue prints it, `12` or `12_3`; empty outside."""
    known = os.environ if environment is None else environment
    if array := known.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{known['SLURM_ARRAY_TASK_ID']}"
    return known.get("SLURM_JOB_ID", "")


def own_node() -> str:
    """Return this node's name as SLURM knows it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def time_limit(walltime_s: float, *, now: float) -> float:
    """Tell when this allocation ends, unix time.

    Args:
        walltime_s: of the allocation, for SLURM versions that do not say when it ends.
        now: unix time at which it began, for these.
    """
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(told) if told.isdigit() else now + walltime_s


def oom_kills(
    *, cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """Count processes of this allocation that the kernel killed for memory; 0 if not readable.

    Args:
        cgroup: names the cgroup of this process.
        root: where cgroups, of version 1 or 2, are mounted.
    """
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return 0
    found = 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inside = path.lstrip("/")
        if controllers == "":
            found = max(found, _kills(root / inside / "memory.events"))
        elif "memory" in controllers.split(","):
            found = max(found, _kills(root / "memory" / inside / "memory.oom_control"))
    return found


def _kills(path: Path) -> int:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(pair[1]) for pair in pairs if pair[:1] == ["oom_kill"]), 0)
