"""The driver: a Ray head of our own, a broker, and tickets until no pack is left.

Results are segments, and a driver that dies is replaced by one that reads them. Ray reads its
token when it is imported: import this module with its environment set (`launch`).
"""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray

from cluster import pilot, ray_node
from cluster.errors import ClusterError
from orchestrator import tickets
from orchestrator.broker import Broker
from orchestrator.events import Journal, progress
from orchestrator.folder import Folder
from orchestrator.worker import Job, Setting

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the host's outer address, but keeps the addresses above it."""
HEAD_MEMORY_BYTES = 2**30


def drive_here(
    jobs: Sequence[Job],
    setting: Setting,
    *,
    workers: int,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    """Train packs on this machine, in the foreground.

    Args:
        jobs: packs, most urgent first.
        setting: where and how.
        workers: packs trained at once.
        on_progress: called about once a second with the broker's state.
    """
    gpus = round(setting.gpus * workers)
    with _head(setting, LOOPBACK, workers=workers, gpus=gpus) as (_, scratch):
        _drive(
            jobs, setting, scratch=scratch, workers=workers, start_s=tickets.START_S,
            on_progress=on_progress,
        )  # fmt: skip


def drive_on_cluster(
    jobs: Sequence[Job], setting: Setting, *, workers: int, node_ip: str | None
) -> None:
    """Train packs with the pilots that join; the body of the driver's SLURM job.

    Args:
        jobs: packs, most urgent first.
        setting: where and how.
        workers: places on all pilots together: tickets that may wait at once.
        node_ip: address of this node for Ray, variables expanded; default: the host's own.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    pool = Folder(setting.folder).pool
    ip = os.path.expandvars(node_ip) if node_ip else ray_node.own_address()
    with _head(setting, ip) as (address, scratch):
        pilot.announce(pool, address)
        try:
            _drive(jobs, setting, scratch=scratch, workers=workers, on_progress=_log_progress())
        finally:
            # A driver that was asked to leave has a successor, for which the pilots wait.
            if not isinstance(sys.exception(), KeyboardInterrupt):
                pilot.dismiss(pool)


@contextlib.contextmanager
def _head(
    setting: Setting, ip: str, *, workers: int = 0, gpus: int = 0
) -> Iterator[tuple[str, Path]]:
    """Run a Ray head of our own and connect to it; yields its address and scratch folder."""
    port = ray_node.free_port()
    node = ray_node.start_head(
        token=Folder(setting.folder).pool / "token",
        ip=ip,
        port=port,
        memory_bytes=HEAD_MEMORY_BYTES if not workers else psutil.virtual_memory().available,
        workers=workers,
        gpus=gpus,
    )
    try:
        _connect(f"{ip}:{port}", ip, node)
        # Ray and submitit have handlers of their own; a driver that is asked to leave leaves, and
        # its node with it.
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, _leave)
        yield f"{ip}:{port}", node.temporary
    finally:
        ray.shutdown()
        node.end()


def _drive(
    jobs: Sequence[Job],
    setting: Setting,
    *,
    scratch: Path,
    workers: int,
    start_s: float = math.inf,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    folder = Folder(setting.folder)
    journal = Journal(folder, "driver")
    journal.write(
        "driving", host=socket.gethostname(), pid=os.getpid(),
        job=os.environ.get("SLURM_JOB_ID", ""), packs=len(jobs),
    )  # fmt: skip
    state = progress(folder)
    desk = (
        ray.remote(Broker)
        .options(name=tickets.BROKER, num_cpus=0)
        .remote(list(jobs), attempts=dict(state.attempts), journal=journal)
    )
    on_progress(ray.get(desk.state.remote()))
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    pilots = [event["job"] for event in state.submitted if event["role"] == "pilot"]
    try:
        tickets.run(
            desk, setting, scratch=scratch, start_s=start_s, on_progress=on_progress,
            pilots=pilots if os.environ.get("SLURM_JOB_ID") else [],
        )  # fmt: skip
    except tickets.NoPilotsError:
        log.warning("no pilot is left; sweep resume continues")
    on_progress(ray.get(desk.state.remote()))
    ray.get(desk.close.remote(os.environ.get("SLURM_JOB_ID", "")))


def _connect(address: str, ip: str, node: ray_node.Node) -> None:
    """Join our own head, which takes some seconds to come up."""
    until = time.monotonic() + 60
    while True:
        try:
            ray.init(
                address=address, _node_ip_address=ip, log_to_driver=False, logging_level="error"
            )
            return
        except (ConnectionError, RuntimeError) as error:
            if not node.alive() or time.monotonic() > until:
                raise ClusterError(f"the Ray head did not start: {error}\n{node.log()}") from error
            time.sleep(0.5)


def _log_progress() -> Callable[[dict[str, Any]], None]:
    last: dict[str, Any] = {}

    def report(state: dict[str, Any]) -> None:
        if {**state, "shares": 0} != last:
            last.update(state, shares=0)
            log.info(" ".join(f"{name}={value}" for name, value in state.items()))

    return report


def _leave(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)
