"""Our process in a GPU allocation: a Ray node that serves the driver until it must stop.

A pilot waits for the driver's address in `<pool>/head.json`, joins, and follows: where the driver
ends it ends, where the driver is replaced it joins the new one, where it is dismissed it leaves.
The signal before the time limit, and preemption, become a drain: workers leave a checkpoint and
give their packs back. The pilot has its own handlers; submitit's requeue is not used.
"""

import json
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import allocation, machine, ray_node
from cluster.ray_node import Node

log = logging.getLogger(__name__)

OnEvent = Callable[..., None]
"""Called with an event's name and its fields."""

POLL_S = 1.0
DRAIN_S = 20.0
"""Longest wait for workers: SLURM kills what is left 30 s (KillWait) after its first signal."""
JOIN_S = 180.0
"""A node joins its driver in this time, or the address is a dead one's: Ray tries far longer."""
SERVED_S = 120.0
"""A node that was joined for this long had a driver; a shorter stay may be a node that breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a pilot brings.

    Args:
        pool: the folder with the token and the driver's address.
        workers: packs it trains at once.
        gpus: GPUs that its workers share.
        memory_gb: of the allocation.
        walltime_s: of the allocation, seconds.
        node_ip: address of a node for Ray, variables expanded; default: the host's own.
        size: "normal" or "large".
        charged_gpus: GPUs that the site charges for while it runs.
        wait_s: how long it waits for a driver, seconds.
        signal_s: it drains this long before its time limit, seconds.
    """

    pool: Path
    workers: int
    gpus: int
    memory_gb: float
    walltime_s: float
    node_ip: str | None
    size: str = "normal"
    charged_gpus: int = 0
    wait_s: float = 600.0
    signal_s: float = 90.0


def run(offer: Offer, *, on_event: OnEvent) -> str:
    """Serve packs until the driver ends, the time is over, or a signal comes.

    Returns:
        Why the pilot ended.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    visit = Visit(offer, on_event=on_event)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, visit.ask)
    visit.begin()
    reason = "error"
    try:
        reason = visit.serve()
    finally:
        visit.end(reason)
    return reason


class Visit:
    """A pilot's stay on a node: what it tells, and when it must leave.

    Args:
        offer: what it brings.
        on_event: called with `started`, `joined`, `draining`, `oom` and `left`.
    """

    def __init__(self, offer: Offer, *, on_event: OnEvent) -> None:
        self._offer = offer
        self._tell = on_event
        self._job = allocation.own_job()
        self._began = time.time()
        self._asked = ""
        self._kills = 0
        self._last_seen = 0.0
        limit = allocation.time_limit(offer.walltime_s, now=self._began)
        self.ends = limit - min(offer.signal_s, offer.walltime_s / 2)

    def place(self) -> dict[str, Any]:
        """Describe the node for its workers; `ends` is unix time."""
        offer = self._offer
        return {
            "pilot": self._job,
            "node": allocation.own_node(),
            "ends": self.ends,
            "walltime_s": offer.walltime_s,
            "size": offer.size,
            "shares_gpu": offer.workers > max(1, offer.gpus),
        }

    def ask(self, number: int, _frame: object) -> None:
        """Remember a signal."""
        self._asked = self._asked or f"signal {signal.Signals(number).name}"

    def begin(self) -> None:
        """Say that the allocation is ours."""
        self._kills = allocation.oom_kills()
        self._tell(
            "started", job=self._job, node=allocation.own_node(), host=socket.gethostname(),
            gpus=self._offer.charged_gpus, size=self._offer.size,
            walltime_s=self._offer.walltime_s, versions=machine.versions(),
        )  # fmt: skip

    def joined(self) -> None:
        """Say that the node is part of the driver's cluster."""
        self._tell("joined", job=self._job)

    def end(self, reason: str) -> None:
        """Say that the pilot ends."""
        self._tell(
            "left", job=self._job, reason=reason, seconds=round(time.time() - self._began, 3),
            oom_kills=allocation.oom_kills(),
        )  # fmt: skip

    def serve(self) -> str:
        """Wait for drivers and serve them; return why that ended."""
        self._last_seen = time.monotonic()
        while True:
            head = read_head(self._offer.pool)
            if reason := self._must_leave(head):
                return reason
            if (address := head.get("address")) and (reason := self._serve(address)):
                return reason
            if time.monotonic() - self._last_seen > self._offer.wait_s:
                return f"no driver for {self._offer.wait_s / 60:g} minutes"
            time.sleep(POLL_S)

    def must_drain(self, node: Node | None = None) -> str:
        """Tell why packs must be given back now; empty while they need not."""
        if self._asked:
            return self._asked
        if time.time() > self.ends:
            return "time limit"
        if node and node.out_of_time.exists() and not node.busy():
            return "no waiting pack fits the time left"
        return ""

    def drain(self, node: Node, reason: str) -> None:
        """Let workers leave checkpoints and give their packs back."""
        self._tell("draining", job=self._job, reason=reason)
        log.info("draining: %s", reason)
        node.release(limit_s=DRAIN_S)

    def watch_memory(self) -> None:
        """Say when the kernel killed a process of this allocation for its memory."""
        if (kills := allocation.oom_kills()) > self._kills:
            self._kills = kills
            self._tell("oom", job=self._job, oom_kills=kills)

    def _must_leave(self, head: Mapping[str, Any]) -> str:
        if head.get("ended"):
            return "the driver ended"
        if self._job in head.get("dismissed", ()):
            return "dismissed"
        return self.must_drain()

    def _serve(self, address: str) -> str:
        """Be a node of one driver; empty when the node ended and another driver may come."""
        offer = self._offer
        node = ray_node.join(
            address,
            token=offer.pool / "token",
            ip=own_ip(offer.node_ip),
            workers=offer.workers,
            gpus=offer.gpus,
            memory_bytes=int(offer.memory_gb * 0.8 * 2**30),
            place=self.place(),
        )
        try:
            return self._follow(node, address)
        finally:
            node.end()

    def _follow(self, node: Node, address: str) -> str:
        joined, began = math.nan, time.monotonic()
        while node.alive():
            head, now = read_head(self._offer.pool), time.monotonic()
            if head.get("ended"):
                node.release(limit_s=DRAIN_S if node.busy() else 0.0)
                return "the driver ended"
            if math.isnan(joined) and node.joined():
                joined = now
                self.joined()
                log.info("joined=%s workers=%d", address, self._offer.workers)
            if now - joined > SERVED_S:
                self._last_seen = now
            elif math.isnan(joined) and now - began > JOIN_S:
                log.warning("nobody answers at %s: %s", address, node.log())
                return ""
            reason = self._must_leave(head) or self.must_drain(node)
            if reason:
                self.drain(node, reason)
                return reason
            if head.get("address") != address:
                log.info("the driver makes way for another")
                node.release(limit_s=DRAIN_S)
                return ""
            self.watch_memory()
            time.sleep(POLL_S)
        log.warning("the node ended by itself: %s", node.log())
        return ""


def own_ip(template: str | None) -> str:
    """Return this node's address for Ray: the profile's, variables expanded, or the host's own."""
    return os.path.expandvars(template) if template else ray_node.own_address()


def head_file(pool: Path) -> Path:
    """Return where the driver writes its address."""
    return pool / "head.json"


def read_head(pool: Path) -> dict[str, Any]:
    """Read the driver's address; empty while there is none."""
    try:
        head: dict[str, Any] = json.loads(head_file(pool).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return head


def announce(pool: Path, address: str, *, dismissed: Iterable[str] = ()) -> None:
    """Write the driver's address for the pilots, empty while it makes way, in one step.

    Args:
        pool: the sweep's pool folder.
        address: of the Ray head.
        dismissed: SLURM job ids of pilots that must leave.
    """
    _write_head(pool, {"address": address, "dismissed": sorted(dismissed)})


def dismiss(pool: Path) -> None:
    """Tell the pilots that the driver ended and nothing is left."""
    _write_head(pool, {"ended": True})


def _write_head(pool: Path, content: Mapping[str, Any]) -> None:
    temporary = pool / f".head-{os.getpid()}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.chmod(0o600)
    temporary.rename(head_file(pool))
