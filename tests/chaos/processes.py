"""The processes of a sweep's SLURM jobs, and what of a sweep was left behind.

A process belongs to a job if its environment names the test bed's cluster and the job's id, or if
it descends from one that does (Ray's workers overwrite the memory that holds their environment).
"""

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SCRATCH = re.compile(r"/tmp/sweepray-[A-Za-z0-9_]+")


def of_job(cluster: str, job: str) -> list[psutil.Process]:
    """List a job's living processes; `job` is `12` or `12_3`."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get("SLURM_CLUSTER_NAME") != cluster:
                continue
            array = f"{environment.get('SLURM_ARRAY_JOB_ID')}_"
            names = {environment.get("SLURM_JOB_ID")}
            names.add(array + environment.get("SLURM_ARRAY_TASK_ID", ""))
            if job in names:
                found.setdefault(process.pid, process)
                for child in process.children(recursive=True):
                    found.setdefault(child.pid, child)
    return list(found.values())


def main(processes: list[psutil.Process]) -> psutil.Process | None:
    """Give the job's own Python among its processes: the driver or the pilot."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "submitit.core._submit" in words and "python" in Path(words[0]).name:
                return process
    return None


def workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Give the Ray actors that train among a job's processes."""
    names = [(process, _words(process)) for process in processes]
    return [
        process for process, name in names if re.match(r"ray::(?!IDLE)\S*Trainable|ray::Pack", name)
    ]


def raylet(processes: list[psutil.Process]) -> psutil.Process | None:
    """Give the Ray node daemon among a job's processes."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.name() == "raylet":
                return process
    return None


@dataclass(slots=True, kw_only=True)
class Watch:
    """Remembers what a sweep starts, so that what it leaves can be told from others' things.

    Args:
        cluster: the test bed's name for itself.
        root: the sweep's folder.
    """

    cluster: str
    root: Path
    scratch: set[str] = field(default_factory=set)
    seen: dict[int, float] = field(default_factory=dict)

    def look(self) -> None:
        """Note the processes that belong to the sweep now, and their scratch folders."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if self._is_ours(process):
                    for each in [process, *process.children(recursive=True)]:
                        self.seen[each.pid] = each.create_time()
                        self.scratch.update(SCRATCH.findall(_words(each)))

    def strays(self) -> list[str]:
        """Describe the living processes of the sweep."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                known = self.seen.get(process.pid) == process.create_time()
                words = _words(process)
                ours = known or self._is_ours(process)
                ours = ours or bool(self.scratch.intersection(SCRATCH.findall(words)))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {words[:160]}")
        return found

    def folders(self) -> list[str]:
        """List the scratch folders of the sweep that are still there."""
        return sorted(name for name in self.scratch if Path(name).exists())

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        environment = process.environ()
        token = environment.get("RAY_AUTH_TOKEN_PATH", "")
        if token.startswith(f"{self.root.resolve()}/"):
            return True
        if environment.get("SLURM_CLUSTER_NAME") != self.cluster:
            return False
        return f"{self.root.resolve()}/" in _words(process)


def gone(processes: list[psutil.Process], *, timeout_s: float) -> bool:
    """Wait until processes ended."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return not alive


def wait_until(ready: Callable[[], bool], *, timeout_s: float, every_s: float = 0.5) -> bool:
    """Poll a real, asynchronous system; bounded."""
    until = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(every_s)
    return True


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
