"""The driver: a Ray head of our own, a broker, and tickets until no pack is left.

Results are segments, and a driver that dies is replaced by one that reads them. Ray reads its
token when it is imported: import this module with its environment set (`submission`).
"""

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray

from cluster import allocation, pilot, ray_node, slurm
from cluster.errors import ClusterError
from cluster.pilot import Offer, Visit
from cluster.profile import SlurmProfile
from cluster.ray_node import Node
from orchestrator import pool, store, tickets
from orchestrator.beats import Watch
from orchestrator.broker import Broker
from orchestrator.desk import Remote, log_progress
from orchestrator.events import Journal, progress
from orchestrator.folder import Folder
from orchestrator.jobs_left import first_outcomes, read_jobs
from orchestrator.leaving import Leaving
from orchestrator.supervisor import Supervisor
from orchestrator.worker import Job, Setting

OnProgress = Callable[[dict[str, Any]], None]
Grow = Callable[[Path], bool] | None

NOTHING: dict[str, Any] = {"done": 0, "failed": 0, "stopped": None}
"""The broker's state where there was nothing to train."""
LOOPBACK = "127.0.0.2"  # Ray replaces 127.0.0.1 by the host's outer address
HEAD_MEMORY_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """A running Ray head."""

    node: Node
    address: str


def drive_here(setting: Setting, *, workers: int, grow: Grow, on_progress: OnProgress) -> None:
    """Train the packs of the last launch on this machine, in the foreground.

    Args:
        setting: where and how.
        workers: packs trained at once.
        grow: called when nothing is left to train.
        on_progress: called about once a second with the broker's state.
    """
    folder = Folder(setting.folder)
    journal = Journal(folder, "driver")
    planned = progress(folder).planned
    jobs = _begin(folder, journal, job="")
    if not jobs:
        _end(journal, NOTHING, "")
        return
    with _head(folder, LOOPBACK, workers=workers, gpus=round(setting.gpus * workers)) as head:
        desk = _desk(folder, jobs, journal)
        supervisor = Supervisor(folder, desk, Journal(folder, "supervisor"), packs=planned)
        with Watch(supervisor):
            _train(
                setting, desk, head, workers, start_s=tickets.START_S, grow=grow,
                on_progress=on_progress,
            )  # fmt: skip
        told = desk.state()
    on_progress(told)
    _end(journal, told, "")


def drive_in_allocation(
    setting: Setting, profile: SlurmProfile, *, grow: Grow = None, on_progress: OnProgress
) -> None:
    """Train the packs of the last launch in the allocation of this process, in the foreground."""
    job = allocation.own_job()
    known = slurm.queue([job]).get(job) if job else None
    offer = pool.offer_inside(
        Folder(setting.folder), profile, walltime_s=known.time_left_s if known else None
    )
    _drive(
        setting, profile, job=job, offer=offer, foreground=True, grow=grow, on_progress=on_progress
    )


def drive_on_cluster(setting: Setting, profile: SlurmProfile, *, grow: Grow = None) -> None:
    """Train the packs of the last launch with the pilots that join: the driver's SLURM job."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    offer = pool.offer_inside(Folder(setting.folder), profile) if profile.driver.inside else None
    _drive(
        setting, profile, job=allocation.own_job(), offer=offer, foreground=False, grow=grow,
        on_progress=log_progress(),
    )  # fmt: skip


def _drive(
    setting: Setting,
    profile: SlurmProfile,
    *,
    job: str,
    offer: Offer | None,
    foreground: bool,
    grow: Grow,
    on_progress: OnProgress,
) -> None:
    folder = Folder(setting.folder)
    journal, notes = Journal(folder, "driver"), Journal(folder, "supervisor")
    told, planned = NOTHING, progress(folder).planned
    jobs = _begin(folder, journal, job=job)
    if not jobs and grow and grow(setting.folder):  # the last driver died between two rounds
        jobs = read_jobs(folder)
    visit = Visit(offer, on_event=pool.telling(Journal(folder, "pilot"))) if offer and job else None
    leaving = Leaving(folder, profile, notes, job="" if foreground else job)
    with allocation.hidden(), leaving.farewell():
        while jobs:
            told, jobs = _serve(
                setting, profile, jobs, journal=journal, notes=notes, planned=planned, job=job,
                offer=offer, visit=visit, leaving=leaving, foreground=foreground, grow=grow,
                on_progress=on_progress,
            )  # fmt: skip
            planned = (*planned, *(one.pack for one in jobs))
            on_progress(told)
    # The last word: from here on another launch may begin, whose pilots are not ours to dismiss.
    _end(journal, told, job)


def _serve(
    setting: Setting,
    profile: SlurmProfile,
    jobs: Sequence[Job],
    *,
    journal: Journal,
    notes: Journal,
    planned: Sequence[str],
    job: str,
    offer: Offer | None,
    visit: Visit | None,
    leaving: Leaving,
    foreground: bool,
    grow: Grow,
    on_progress: OnProgress,
) -> tuple[dict[str, Any], list[Job]]:
    """Run it all to the end; the broker's last state, and packs that came too late for it."""
    folder = Folder(setting.folder)
    grows = not foreground and profile.replace and profile.pilots > (visit is not None)
    ip = LOOPBACK if foreground else pilot.own_ip(profile.node_ip)
    # SLURM may take long to answer: not while pilots could join and no signal is heard.
    submitter = None if foreground else pool.Submitter(
        folder, profile, notes, by="driver", limits=pool.limits(profile)
    )  # fmt: skip
    with _stay(visit), _head(folder, ip, offer=offer, visit=visit) as head:
        desk = _desk(folder, jobs, journal, larger=profile.larger is not None and grows)
        announce = partial(leaving.announce, head.address)
        supervisor = Supervisor(
            folder, desk, notes, profile=profile, own=job if visit else "", packs=planned,
            announce=announce, grows=grow is not None, submitter=submitter,
        )  # fmt: skip
        if not foreground:
            announce()
        with Watch(
            supervisor, leave=partial(leaving.leave, desk, head.node),
            asked=partial(_own_end, visit, head.node) if visit else None,
        ):  # fmt: skip
            _train(
                setting, desk, head, profile.workers * (1 if foreground else profile.pilots),
                start_s=tickets.START_S if foreground else math.inf, grow=grow,
                on_progress=on_progress,
            )  # fmt: skip
        told = desk.state()
    late = not told["stopped"] and (supervisor.late() or told["waiting"])
    return told, read_jobs(folder) if late else []


def _begin(folder: Folder, journal: Journal, *, job: str) -> list[Job]:
    """Take over from a driver that died, and say that this one drives; the packs that are left."""
    store.adopt(folder, journal)
    jobs = read_jobs(folder)
    journal.write("driving", host=socket.gethostname(), pid=os.getpid(), job=job, packs=len(jobs))
    return jobs


@contextlib.contextmanager
def _stay(visit: Visit | None) -> Iterator[None]:
    """Be a pilot, too, where the driver serves packs itself."""
    if visit is None:
        yield
        return
    visit.begin()
    reason = "the driver left"
    try:
        yield
        reason = "the driver ended"
    finally:
        visit.end(reason)


def _own_end(visit: Visit, node: Node) -> str:
    visit.watch_memory()
    return visit.must_drain(node)


@contextlib.contextmanager
def _head(
    folder: Folder,
    ip: str,
    *,
    workers: int = 0,
    gpus: int = 0,
    offer: Offer | None = None,
    visit: Visit | None = None,
) -> Iterator[_Head]:
    """Run a Ray head of our own and connect to it."""
    port = ray_node.free_port()
    memory = HEAD_MEMORY_BYTES if not workers else psutil.virtual_memory().available
    if offer:
        workers, gpus = offer.workers, offer.gpus
        memory = int(offer.memory_gb * 0.8 * 2**30)
    node = ray_node.start_head(
        token=folder.pool / "token", ip=ip, port=port, memory_bytes=memory, workers=workers,
        gpus=gpus, place=visit.place() if visit else None,
    )  # fmt: skip
    try:
        _connect(f"{ip}:{port}", ip, node)
        if visit:
            visit.joined()
        yield _Head(node=node, address=f"{ip}:{port}")
    finally:
        ray.shutdown()
        node.end()


def _desk(folder: Folder, jobs: Sequence[Job], journal: Journal, *, larger: bool = False) -> Remote:
    state = progress(folder)
    return Remote(
        ray.remote(Broker)
        .options(name=tickets.BROKER, num_cpus=0)
        .remote(
            list(jobs), attempts=dict(state.attempts), journal=journal, larger=larger,
            observations=state.observations, history=state.histories,
            outcomes=first_outcomes(state), rungs=state.rungs,
        ),
        ray.get,
    )  # fmt: skip


def _train(
    setting: Setting,
    desk: Remote,
    head: _Head,
    workers: int,
    *,
    start_s: float,
    grow: Grow,
    on_progress: OnProgress,
) -> None:
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    while True:
        on_progress(desk.state())
        tickets.run(
            desk.actor, setting, scratch=head.node.temporary, start_s=start_s,
            on_progress=on_progress,
        )  # fmt: skip
        told = desk.state()  # packs wait again where a launch handed some over while Tune ended
        if told["stopped"] or not (told["waiting"] or (grow and grow(setting.folder))):
            return
        desk.add(read_jobs(Folder(setting.folder)))


def _end(journal: Journal, state: dict[str, Any], job: str) -> None:
    reason, message = state["stopped"] or ("", "")
    journal.write(
        "ended", job=job, done=state["done"], failed=state["failed"], reason=reason, message=message
    )


def _connect(address: str, ip: str, node: Node) -> None:
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
