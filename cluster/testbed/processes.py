"""Find and end the processes of a test bed, and never another's.

A pid file alone proves nothing: after a crash its number may belong to a stranger. A daemon counts
as the test bed's only while its command line names the test bed's directory.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from cluster.testbed.layout import Bed

KILL_GRACE_S = 10
POLL_S = 0.02
MAX_ROUNDS = 20


def running(pid_file: Path, *, root: Path) -> psutil.Process | None:
    """Give the process of a pid file, if it lives and its command line names the directory."""
    try:
        process = psutil.Process(int(pid_file.read_text().strip()))
        mentions = any(f"{root}/" in word for word in process.cmdline())
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return process if mentions else None


def end(processes: Iterable[psutil.Process], *, grace_s: float) -> None:
    """End processes with TERM, and with KILL those that are still there after the grace time."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    kill(_wait(left, timeout_s=grace_s))


def kill(processes: Iterable[psutil.Process]) -> None:
    """End processes with KILL and wait until they are gone."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(left, timeout_s=KILL_GRACE_S)


def kill_leftovers(bed: Bed) -> None:
    """Kill what is left of a test bed, again where a dying job had just started something."""
    for _ in range(MAX_ROUNDS):
        if not (found := leftovers(bed)):
            return
        kill(found)


def leftovers(bed: Bed) -> list[psutil.Process]:
    """Find what daemons without a valid pid file and crashed nodes left running.

    These are daemons that name this directory or hold a file of it open, and tasks of its jobs
    (by the cluster's and the node's name in their environment), also those that left their job's
    process tree. This process and those above it are not among them.
    """
    mine = {os.getpid()} | {parent.pid for parent in psutil.Process().parents()}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in mine and (_is_program(process, bed.root) or _is_task(process, bed))
    ]


def _wait(some: list[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Give those that still live after a while; a zombie is its parent's affair, not alive."""
    deadline = time.monotonic() + timeout_s
    while left := [process for process in some if _is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return left


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_program(process: psutil.Process, root: Path) -> bool:
    try:
        # Debian's programs are called slurmd, slurmstepd-wlm, ...
        name = Path(process.exe()).name
        words = process.cmdline()
    except psutil.Error:
        return False
    if not name.startswith("slurm") and name not in {"munged", "mariadbd"}:
        return False
    return any(f"{root}/" in word for word in (*words, *_open_files(process.pid)))


def _is_task(process: psutil.Process, bed: Bed) -> bool:
    try:
        environment = process.environ()
    except psutil.Error:
        return False
    return environment.get("SLURM_CLUSTER_NAME") == bed.cluster and "SLURMD_NODENAME" in environment


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(link.readlink())
