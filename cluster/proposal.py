"""A first profile for a site, from what was read of it; pure. A user edits it afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.slurm_site import Limits, Partition, preempted_by

WALLTIME_MIN = 360
DRIVER_MIN = 24 * 60
PILOTS = 8
CPUS = 16
MEMORY_GB = 3, 128
"""A Ray node and one worker need about the first; few trials need more than the second."""
NODE_IP = "$SWEEP_NODE_IP"
NODE_IP_SETUP = (
    "export SWEEP_NODE_IP=127.1.$((SLURM_JOB_ID / 250 % 250)).$((SLURM_JOB_ID % 250 + 2))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A profile's content, and why it is so."""

    content: Mapping[str, Any]
    reasons: tuple[str, ...]

    def text(self) -> str:
        """Write it as the YAML of a profile."""
        comments = ["Written by `sweep doctor --write`. Keys: cluster/README.md.", *self.reasons]
        head = "".join(f"# {line}\n" for line in comments)
        return head + yaml.safe_dump(
            dict(self.content), sort_keys=False, allow_unicode=True, width=1000
        )


def local(*, num_gpus: int) -> Proposal:
    """Propose a profile for a machine without SLURM."""
    content: dict[str, Any] = {"kind": "local"}
    if num_gpus:
        content |= {"device": "cuda", "gpus": num_gpus, "workers": num_gpus, "lanes_max": 32}
    return Proposal(content=content, reasons=("There is no SLURM here.",))


def propose(
    partitions: Sequence[Partition],
    *,
    limits: Limits,
    preemption: str,
    one_host: bool = False,
    real_gpus: bool = True,
) -> Proposal:
    """Propose a profile: pilots where most GPUs are, the driver where none is.

    Args:
        partitions: of the site.
        limits: of the user.
        preemption: the configuration's PreemptType.
        one_host: several nodes share one address, so jobs need their own for Ray.
        real_gpus: whether trials can train on what SLURM calls a GPU.
    """
    usable = [one for one in partitions if one.state == "UP"] or list(partitions)
    # The default partition wins among equals; max() keeps the first.
    risky = {one.name: preempted_by(one, partitions, kind=preemption) for one in partitions}
    place = max(usable, key=lambda one: (one.num_gpus, one.default, not risky[one.name]))
    gpus = 1 if place.gpus_per_node else 0
    share = max(place.gpus_per_node, 1) if gpus else 4
    kind = max(place.gpu_types, key=lambda name: place.gpu_types[name], default="")
    content: dict[str, Any] = {
        "kind": "slurm",
        "device": "cuda" if gpus and real_gpus else "cpu",
        "partition": place.name,
        **({"account": limits.accounts[0]} if limits.accounts else {}),
        "pilots": _pilots(place, limits),
        "gpus": gpus,
        **({"gpu_type": kind} if kind and len(place.gpu_types) > 1 else {}),
        "cpus": max(1, min(CPUS, place.cpus_per_node // share)),
        "memory_gb": _memory(place, share),
        "walltime_min": _walltime(place, limits, WALLTIME_MIN),
        "lanes_max": 32 if gpus and real_gpus else 16,
    }
    if content["walltime_min"] < 10:
        content["signal_s"] = 30
    if one_host:
        content |= {"node_ip": NODE_IP, "setup": [NODE_IP_SETUP]}
    quiet = _driver_place(usable, place, risky)
    content["driver"] = {
        "partition": quiet.name,
        "cpus": min(2, quiet.cpus_per_node),
        "memory_gb": _memory(quiet, 1, most=4),
        "walltime_min": _walltime(quiet, limits, DRIVER_MIN),
    }
    reasons = _reasons(place, quiet, limits, preempters=risky[place.name])
    return Proposal(content=content, reasons=tuple(reasons))


def _driver_place(
    usable: Sequence[Partition], pilots: Partition, risky: Mapping[str, str]
) -> Partition:
    """Choose a partition without GPUs that lets the driver run long, else the pilots' own."""
    free = [one for one in usable if not one.gpus_per_node and one.cpus_per_node]
    return max(
        free,
        key=lambda one: (
            not risky[one.name],
            min(one.max_time_s or 60 * DRIVER_MIN, 60 * DRIVER_MIN),
            one.default,
        ),
        default=pilots,
    )


def _pilots(place: Partition, limits: Limits) -> int:
    amount = place.num_gpus or place.num_nodes
    bounds = [PILOTS, max(1, amount // 4)]
    bounds += [most - 1 for most in (limits.max_jobs, limits.max_submit) if most is not None]
    bounds += [limits.max_gpus] if limits.max_gpus is not None else []
    return max(1, min(bounds))


def _walltime(place: Partition, limits: Limits, wanted: int) -> int:
    bounds = [most for most in (place.max_time_s, limits.max_wall_s) if most is not None]
    return max(1, min([wanted, *(seconds // 60 for seconds in bounds)]))


def _memory(place: Partition, share: int, *, most: int = MEMORY_GB[1]) -> int:
    """Give a share of the largest node's memory, in whole GB, with a tenth left to the system."""
    node = place.memory_mb_per_node / 1024
    part = min(max(0.9 * node / share, MEMORY_GB[0]), most)
    return max(1, int(min(part, node)))


def _reasons(place: Partition, quiet: Partition, limits: Limits, *, preempters: str) -> list[str]:
    lines = [
        f"Pilots: partition {place.name}, {place.num_gpus} GPUs on {place.num_nodes} nodes;"
        " cores and memory are one GPU's share of its largest node."
        if place.num_gpus
        else f"No partition has GPUs: trials train on the cores of {place.name}."
    ]
    if len(place.gpu_types) > 1:
        lines.append(f"GPU types there: {', '.join(sorted(filter(None, place.gpu_types)))}.")
    if preempters:
        lines.append(f"Preempted by {preempters}; packs go on from their checkpoints.")
    if quiet.gpus_per_node:
        lines.append("No partition without GPUs: the driver takes cores of a GPU node.")
    if len(limits.accounts) > 1:
        lines.append(f"Accounts you may charge: {', '.join(limits.accounts)}.")
    return lines
