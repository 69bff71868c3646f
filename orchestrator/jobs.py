"""What of a sweep runs now: its SLURM jobs or its local driver, and how to end them."""

import os
import platform
import signal
from typing import Any

import psutil

from cluster import slurm
from cluster.errors import ClusterError
from orchestrator import events
from orchestrator.folder import Folder


def running(state: events.Progress, queue: dict[str, Any] | None) -> bool:
    """Tell whether a driver works on this sweep.

    Args:
        state: the folded events.
        queue: SLURM's answer about the submitted jobs, by id; None where it could not be asked,
            which counts as running.
    """
    drivers = [event["job"] for event in state.submitted if event["role"] == "driver"]
    if drivers and (queue is None or drivers[-1] in queue):
        return True
    driver = state.driver
    if state.ended or not driver or driver["job"]:
        return False
    here: bool = driver["host"] == platform.node() and psutil.pid_exists(driver["pid"])
    return here


def ask(state: events.Progress) -> dict[str, Any] | None:
    """Ask SLURM once about the sweep's jobs; None where it cannot be reached."""
    ids = [event["job"] for event in state.submitted]
    if not ids:
        return {}
    try:
        return dict(slurm.queue(ids))
    except ClusterError:
        return None


def cancel(folder: Folder) -> list[str]:
    """End a sweep's own jobs or local driver; results stay.

    Returns:
        SLURM job ids, or the local driver's pid, that were asked to end.
    """
    folder.require()
    state = events.progress(folder)
    queue = ask(state)
    ids = [event["job"] for event in state.submitted if queue is None or event["job"] in queue]
    if ids:
        slurm.cancel(ids)
    if not ids and running(state, queue):
        os.kill(state.driver["pid"], signal.SIGINT)
        ids = [str(state.driver["pid"])]
    return ids
