"""What of a sweep runs now: its SLURM jobs, or a launch on this machine, and how to end them."""

import os
import platform
import signal
from collections.abc import Mapping
from typing import Any

import psutil

from cluster import slurm
from cluster.errors import ClusterError
from orchestrator import events
from orchestrator.events import Event
from orchestrator.folder import Folder


def identity() -> dict[str, Any]:
    """Name this process so that it is told from a later one with its pid."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
    }


def ask(state: events.Progress) -> dict[str, Any] | None:
    """Ask SLURM once about the sweep's jobs; None where it cannot be reached."""
    ids = [event["job"] for event in state.submitted]
    if not ids:
        return {}
    try:
        return dict(slurm.queue(ids))
    except ClusterError:
        return None


def running(state: events.Progress, queue: Mapping[str, Any] | None) -> bool:
    """Tell whether a driver, or a launch that will start one, works on this sweep.

    Args:
        state: the folded events.
        queue: SLURM's answer about the submitted jobs, by id; None where it could not be asked,
            which counts as running unless the driver said that it ended.
    """
    drivers = [job for job in state.drivers if queue is None or job in queue]
    return bool(drivers) or any(_alive(launch) for launch in state.launches.values())


def pilots(state: events.Progress, queue: Mapping[str, Any] | None) -> list[str]:
    """List the sweep's pilots that SLURM still has."""
    ids = [event["job"] for event in state.submitted if event["role"] == "pilot"]
    return [job for job in ids if queue and job in queue]


def first(state: events.Progress, writer: str) -> bool:
    """Tell whether of all launches that are alive this writer's came first."""
    alive = [name for name, launch in state.launches.items() if _alive(launch)]
    return not alive or alive[0] == writer


def cancel(folder: Folder) -> list[str]:
    """End a sweep's own SLURM jobs and local launches; results stay.

    Returns:
        SLURM job ids, and pids of launches on this machine, that were asked to end.
    """
    folder.require()
    state = events.progress(folder)
    queue = ask(state)
    ids = [event["job"] for event in state.submitted if queue is None or event["job"] in queue]
    if ids:
        slurm.cancel(ids)
    local = [launch["pid"] for launch in state.launches.values() if _alive(launch)]
    for pid in local:
        os.kill(pid, signal.SIGTERM)
    return [*ids, *map(str, local)]


def _alive(launch: Event) -> bool:
    """Tell whether a launch still runs; that of another host cannot be seen and counts as over."""
    if launch["host"] != platform.node():
        return False
    try:
        created: float = psutil.Process(launch["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    same: bool = abs(created - launch["created"]) < 1
    return same
