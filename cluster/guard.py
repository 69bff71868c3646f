"""Runs a command and ends it with all its descendants when its starter dies: a script.

kill -9 of the starter leaves nothing behind. The lock on `<folder>/lock` tells that the guard
lives: `cluster.ray_node` removes folders that were left without one.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def guard(temporary: Path, command: list[str], *, starter: int) -> int:
    """Run a command; end it and all its descendants when it, the starter or this process is ended.

    Args:
        temporary: the node's folder, removed when this process is told to end.
        command: program and arguments.
        starter: pid of the process whose death ends everything.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    # SLURM may signal every process of a job: these are for the starter, and would end Ray's.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    lock = (temporary / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.getppid() != starter:
        return 1
    told = False
    try:
        return subprocess.Popen(command).wait()
    except SystemExit:
        told = True
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Where the starter was killed there is no time: SLURM may kill this process next.
        _end_descendants(grace_s=1.0 if os.getppid() == starter else 0.0)
        if told:
            shutil.rmtree(temporary, ignore_errors=True)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _end_descendants(*, grace_s: float) -> None:
    if grace_s:
        processes = psutil.Process().children(recursive=True)
        for process in processes:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(processes, timeout=grace_s)
    left = psutil.Process().children(recursive=True)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=GRACE_S)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(guard(Path(sys.argv[2]), sys.argv[3:], starter=int(sys.argv[1])))
