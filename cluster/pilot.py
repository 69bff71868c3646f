"""Our process in a GPU allocation: a Ray node that serves the driver until it must stop.

A pilot waits for the driver's address in `<pool>/head.json`, joins, and follows: where the driver
ends it ends, where the driver is replaced it joins the new one. The signal before the time limit,
and preemption, become a drain: workers leave a checkpoint and give their packs back. The pilot has
its own handlers; submitit's requeue is not used.
"""

import json
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import ray_node
from cluster.ray_node import Node

log = logging.getLogger(__name__)

POLL_S = 1.0
DRAIN_S = 20.0
SERVED_S = 120.0
"""A node that lived this long had a driver; a shorter life was an attempt at a dead address."""
MARGIN_S = 60.0
"""A pilot drains this long before its time limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a pilot brings."""

    pool: Path
    workers: int
    gpus: int
    memory_gb: float
    walltime_min: int
    node_ip: str | None
    wait_min: float = 10.0


def head_file(pool: Path) -> Path:
    """Return where the driver writes its address."""
    return pool / "head.json"


def run(offer: Offer) -> str:
    """Serve packs until the driver ends, the time is over, or a signal comes.

    Returns:
        Why the pilot ended.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ends = time.monotonic() + 60 * offer.walltime_min - MARGIN_S
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: asked.append(received))
    last_seen = time.monotonic()
    while not asked and time.monotonic() < ends:
        head = read_head(offer.pool)
        if head.get("ended"):
            return "the driver ended"
        began = time.monotonic()
        if head and (reason := _serve(head["address"], offer, asked, ends)):
            return reason
        if time.monotonic() - began > SERVED_S:
            last_seen = time.monotonic()
        if time.monotonic() - last_seen > 60 * offer.wait_min:
            return f"no driver for {offer.wait_min:g} minutes"
        time.sleep(POLL_S)
    return f"signal {asked[0]}" if asked else "time limit"


def read_head(pool: Path) -> dict[str, str]:
    """Read the driver's address; empty while there is none."""
    try:
        head: dict[str, str] = json.loads(head_file(pool).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return head


def _serve(address: str, offer: Offer, asked: list[int], ends: float) -> str:
    """Be a node of one driver; empty when the node ended and another driver may come."""
    ip = os.path.expandvars(offer.node_ip) if offer.node_ip else ray_node.own_address()
    node = ray_node.join(
        address,
        token=offer.pool / "token",
        ip=ip,
        workers=offer.workers,
        gpus=offer.gpus,
        memory_bytes=int(offer.memory_gb * 0.8 * 2**30),
    )
    log.info("joined=%s ip=%s workers=%d", address, ip, offer.workers)
    try:
        return _follow(node, address, offer, asked=asked, ends=ends)
    finally:
        node.end()


def _follow(node: Node, address: str, offer: Offer, *, asked: list[int], ends: float) -> str:
    while node.alive():
        head = read_head(offer.pool)
        if head.get("ended"):
            return "the driver ended"
        if head.get("address") != address:
            return ""
        if asked or time.monotonic() > ends:
            node.drain.touch()
            log.info("draining: %s", f"signal {asked[0]}" if asked else "time limit")
            _wait_for_release(node)
            return f"signal {asked[0]}" if asked else "time limit"
        time.sleep(POLL_S)
    log.warning("the node ended by itself: %s", node.log())
    return ""


def _wait_for_release(node: Node) -> None:
    """Give workers time to leave their checkpoints; they exit with the node."""
    until = time.monotonic() + DRAIN_S
    while node.alive() and time.monotonic() < until:
        time.sleep(POLL_S)


def announce(pool: Path, address: str) -> None:
    """Write the driver's address for the pilots, in one step."""
    _write_head(pool, {"address": address})


def dismiss(pool: Path) -> None:
    """Tell the pilots that the driver ended and nothing is left."""
    _write_head(pool, {"ended": "yes"})


def _write_head(pool: Path, content: dict[str, str]) -> None:
    temporary = pool / f".head-{os.getpid()}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.chmod(0o600)
    temporary.rename(head_file(pool))
