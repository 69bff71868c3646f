"""What of a sweep runs now: its SLURM jobs, or a launch on this machine, and how to end them."""

import os
import platform
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from cluster import allocation, slurm
from cluster.errors import ClusterError
from orchestrator import events, roster
from orchestrator.errors import StoreError
from orchestrator.events import Event
from orchestrator.folder import Folder
from orchestrator.progress import seconds_of

LAUNCH_S = 300.0
"""A launch on another host, in no allocation, that says nothing for so long is over."""

SAME_S = 2.0
"""Starts of one process differ by less: the machine's own is known to the second."""


def identity() -> dict[str, Any]:
    """Name this process so that it is told from a later one with its pid."""
    return {"host": platform.node(), "job": allocation.own_job(), **_process(os.getpid())}


def _process(pid: int) -> dict[str, Any]:
    """Name a process of this machine by its start, too: by the clock, and since the machine's.

    Raises:
        NoSuchProcess: There is none.
    """
    created: float = psutil.Process(pid).create_time()
    return {"pid": pid, "created": created, "since_boot": created - psutil.boot_time()}


def ask(state: events.Progress) -> dict[str, Any] | None:
    """Ask SLURM once about the sweep's jobs; None where it cannot be reached.

    Jobs whose submission was cut off before their ids were written down are found by their tags.
    """
    ids = [event["job"] for event in state.submitted]
    ids += [launch["job"] for launch in state.launches.values() if launch.get("job")]
    try:
        known = slurm.queue(ids) if ids else {}
        return {**known, **slurm.queue_by_tag(state.untracked)}
    except ClusterError:
        return None


def running(state: events.Progress, queue: Mapping[str, Any] | None) -> bool:
    """Tell whether a driver, or a launch that will start one, works on this sweep.

    Args:
        state: the folded events.
        queue: SLURM's answer about the submitted jobs, by id; None where it could not be asked,
            which counts as running unless the driver said that it ended.
    """
    held = stuck(state, queue)
    drivers = [job for job in state.drivers if queue is None or job in queue]
    drivers += _untracked(state, queue, "driver")
    return any(job not in held for job in drivers) or any(
        _alive(launch, queue) for launch in state.launches.values()
    )


def ending(state: events.Progress, queue: Mapping[str, Any] | None) -> list[str]:
    """List the drivers that SLURM is ending, or starting again: who asks now may not be heard."""
    return [job for job in state.drivers if queue and job in queue and _completes(queue[job])]


def stuck(state: events.Progress, queue: Mapping[str, Any] | None) -> list[str]:
    """List the sweep's jobs that SLURM holds: they never start by themselves.

    A job is held by its user, by an administrator, or by SLURM after a node failed to launch it.
    """
    own = {event["job"] for event in state.submitted}
    found = [job for job in (queue or {}).values() if job.state == "PENDING" and job.id in own]
    return [job.id for job in found if "held" in job.reason.lower()]


def pilots(state: events.Progress, queue: Mapping[str, Any] | None) -> list[str]:
    """List the sweep's pilots that SLURM still has."""
    ids = [event["job"] for event in state.submitted if event["role"] == "pilot"]
    held = stuck(state, queue)
    found = [job for job in ids if queue and job in queue and job not in held]
    return found + _untracked(state, queue, "pilot")


def first(state: events.Progress, writer: str) -> bool:
    """Tell whether of all launches that are alive this writer's came first."""
    unseen = any(_is_far(launch) and launch.get("job") for launch in state.launches.values())
    queue = ask(state) if unseen else {}
    alive = [name for name, launch in state.launches.items() if _alive(launch, queue)]
    return not alive or alive[0] == writer


def cancel(folder: Folder) -> list[str]:
    """End a sweep's own SLURM jobs and local launches; results stay.

    Returns:
        SLURM job ids, and pids of launches on this machine, that were asked to end.

    Raises:
        StoreError: It runs on in a process on another host, which cannot be ended from here.
        ClusterError: SLURM refused, or does not answer.
    """
    folder.require()
    state = events.progress(folder)
    queue = ask(state)
    ids = [event["job"] for event in state.submitted if queue is None or event["job"] in queue]
    tagged = slurm.queue_by_tag(state.untracked) if queue is None else queue
    ids += _untracked(state, tagged, "driver") + _untracked(state, tagged, "pilot")
    if ids:
        slurm.cancel(ids)
    alive = [launch for launch in state.launches.values() if _alive(launch, queue)]
    local = [launch["pid"] for launch in alive if not _is_far(launch)]
    for pid in local:
        os.kill(pid, signal.SIGTERM)
    ended = [*ids, *map(str, local)]
    if far := [launch for launch in alive if _is_far(launch)]:
        raise _out_of_reach(folder, far[0], ended)
    return ended


def _out_of_reach(folder: Folder, launch: Event, ended: Sequence[str]) -> StoreError:
    """Name a process on another host: SLURM signals the steps of a job, and it need be in none."""
    job = launch.get("job")
    trains = job or launch.get("seen")
    what = "it trains in the foreground" if trains else "it is being launched"
    text = f"{what} on {launch['host']}, process {launch['pid']}; end it there with Ctrl-C"
    rest = [f"{one} is cancelled" for one in ended]
    return StoreError(
        "\n".join([f"{folder.root}: {text}", *rest]),
        hint=f"or give its allocation back: scancel {job}" if job else "",
    )


def _untracked(state: events.Progress, queue: Mapping[str, Any] | None, role: str) -> list[str]:
    """List jobs in the queue that only their tags tell of."""
    return [job.id for job in roster.untracked(state.untracked, queue, role)]


def _alive(launch: Event, queue: Mapping[str, Any] | None) -> bool:
    """Tell whether a launch still runs.

    One on another host cannot be seen: it is over once SLURM has its allocation no more or, where
    it is in none, `LAUNCH_S` after it began or last said that it trains; clocks of login nodes
    differ by seconds at most.
    """
    if _is_far(launch):
        if job := launch.get("job"):
            return queue is None or job in queue
        seen = launch.get("seen") or launch["time"]
        return seconds_of(events.now()) - seconds_of(seen) < LAUNCH_S
    try:
        process = _process(launch["pid"])
    except psutil.NoSuchProcess:
        return False
    if "since_boot" in launch:  # a clock that is stepped takes the other one along
        return bool(abs(process["since_boot"] - launch["since_boot"]) < SAME_S)
    return bool(abs(process["created"] - launch["created"]) < 1)


def _completes(job: Any) -> bool:
    return bool(job.state == "COMPLETING")


def _is_far(launch: Event) -> bool:
    """Tell whether a launch was made on another host."""
    return bool(launch["host"] != platform.node())
