"""What a SLURM site is: partitions, configuration and limits, as its programs print them; pure.

The texts were taken from SLURM 22.05 and its manual pages; `cluster/slurm.py` asks for them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.slurm_text import UNKNOWN, parse_duration, parse_number

USER_FIELDS = (
    "DefaultAccount,Account,Partition,MaxJobs,MaxSubmit,GrpJobs,GrpSubmit,MaxWall,MaxTRES,GrpTRES,"
    "QOS,DefaultQOS"
)
QOS_FIELDS = (
    "Name,MaxJobsPU,MaxSubmitPU,GrpJobs,GrpSubmit,MaxWall,MaxTRESPU,GrpTRES,MaxJobsPA,MaxSubmitPA"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition, and what its largest node offers.

    Args:
        name: as given to sbatch --partition.
        state: UP, DOWN, DRAIN or INACTIVE.
        default: used when a job names none.
        max_time_s: longest walltime; None when unlimited.
        num_nodes: nodes of all states.
        gpus_per_node: GPUs of the node that has most.
        cpus_per_node: CPUs of the node that has most.
        memory_mb_per_node: memory of the node that has most, MB.
        preempt_mode: OFF, REQUEUE, CANCEL, SUSPEND, comma-separated.
        grace_time_s: seconds between the warning and the end of a preempted job.
        gpu_types: GPUs of each type of the node that has most of it; "" where none is named.
        qos: quality of service whose limits all its jobs obey; empty when none.
        submit_from: nodes that may submit to it, in SLURM's list form; ALL for any.
        num_gpus: GPUs of all its nodes.
        tier: jobs of a partition with a higher one go first, and may preempt where the site does.
    """

    name: str
    state: str
    default: bool
    max_time_s: int | None
    num_nodes: int
    gpus_per_node: int
    cpus_per_node: int
    memory_mb_per_node: int
    preempt_mode: str
    grace_time_s: int
    gpu_types: Mapping[str, int] = field(default_factory=dict)
    qos: str = ""
    tier: int = 1
    submit_from: str = "ALL"
    num_gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the site allows this user; None is not limited or, if `unknown`, not known.

    Limits that a parent account has as a group are not shown to users by SLURM and are not here.

    Args:
        max_array_size: most elements of one array job.
        max_job_count: jobs that the controller keeps, of all users.
        max_submit: jobs in the queue at once, running ones counted.
        max_jobs: jobs running at once.
        max_gpus: GPUs in use at once.
        max_wall_s: longest walltime, beside that of the partition.
        accounts: accounts that may be charged, the default one first.
        qos: quality-of-service names that may be used, the default one first.
        enforced: what SLURM checks at submission: associations, limits, qos, safe, wckeys.
        unknown: why limits of accounts and QOS are not known; empty when they are.
    """

    max_array_size: int | None = None
    max_job_count: int | None = None
    max_submit: int | None = None
    max_jobs: int | None = None
    max_gpus: int | None = None
    max_wall_s: int | None = None
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    enforced: frozenset[str] = frozenset()
    unknown: str = ""


def parse_partitions(shown: str, *, nodes: str) -> list[Partition]:
    """Read `scontrol --oneliner show partition` and sinfo's lines of `%R|%G|%c|%m`."""
    largest: dict[str, tuple[int, int, int]] = {}
    types: dict[str, dict[str, int]] = {}
    for fields in (line.split("|") for line in nodes.splitlines()):
        if len(fields) != 4:
            continue
        name, gres, cpus, memory = fields
        here = (num_gpus(gres), _leading_int(cpus), _leading_int(memory))
        old = largest.get(name, (0, 0, 0))
        largest[name] = (max(old[0], here[0]), max(old[1], here[1]), max(old[2], here[2]))
        kinds = types.setdefault(name, {})
        for kind, count in gpu_types(gres).items():
            kinds[kind] = max(count, kinds.get(kind, 0))
    found = []
    for line in shown.splitlines():
        value = dict(token.split("=", 1) for token in line.split() if "=" in token)
        if "PartitionName" not in value:
            continue
        gpus, cpus_most, memory_most = largest.get(value["PartitionName"], (0, 0, 0))
        found.append(
            Partition(
                name=value["PartitionName"],
                state=value.get("State", UNKNOWN),
                default=value.get("Default") == "YES",
                max_time_s=parse_duration(value.get("MaxTime", "")),
                num_nodes=_leading_int(value.get("TotalNodes", "")),
                gpus_per_node=gpus,
                cpus_per_node=cpus_most,
                memory_mb_per_node=memory_most,
                preempt_mode=value.get("PreemptMode", "OFF"),
                grace_time_s=_leading_int(value.get("GraceTime", "")),
                gpu_types=types.get(value["PartitionName"], {}),
                qos=value.get("QoS", "N/A").replace("N/A", ""),
                submit_from=value.get("AllocNodes", "ALL"),
                num_gpus=_all_gpus(value, gpus),
                tier=_leading_int(value.get("PriorityTier", "1")),
            )
        )
    return found


def parse_config(text: str) -> dict[str, str]:
    """Read the `Key = value` lines of `scontrol show config`."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def gpu_types(gres: str) -> dict[str, int]:
    """Count a node's GPUs by type in its GRES text, such as `gpu:a100:4(S:0-1),shard:8`."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    found: dict[str, int] = {}
    for part in plain.split(","):
        if match := re.fullmatch(r"gpu(?::([^:]+))?:(\d{1,9})", part):
            kind = match[1] or ""
            found[kind] = found.get(kind, 0) + int(match[2])
    return found


def num_gpus(gres: str) -> int:
    """Count the GPUs of a node in its GRES text."""
    return sum(gpu_types(gres).values())


def find(partitions: Iterable[Partition], name: str | None) -> Partition | None:
    """Find the partition of this name, or the site's default one."""
    fits = (one for one in partitions if (one.name == name if name else one.default))
    return next(fits, None)


def preempted_by(place: Partition, partitions: Iterable[Partition], *, kind: str) -> str:
    """Say whose jobs may preempt those of a partition; empty when none may.

    Args:
        place: the partition.
        partitions: all of the site; whether they share nodes is not looked at.
        kind: the configuration's PreemptType.
    """
    if place.preempt_mode in ("OFF", "") or kind in ("", "(null)", "preempt/none"):
        return ""
    if "qos" in kind:
        return "jobs of a higher quality of service"
    return ", ".join(one.name for one in partitions if one.tier > place.tier)


def merge(known: Limits, config: Mapping[str, str]) -> Limits:
    """Add the configuration's limits, and drop those of accounts where SLURM enforces none."""
    enforced = frozenset(config.get("AccountingStorageEnforce", "").replace(" ", "").split(","))
    kept = known
    if not enforced & {"limits", "safe", "all"}:
        kept = Limits(accounts=known.accounts, qos=known.qos, unknown=known.unknown)
    return replace(
        kept,
        # The largest index is MaxArraySize - 1, and 0 counts.
        max_array_size=parse_number(config.get("MaxArraySize", "")),
        max_job_count=parse_number(config.get("MaxJobCount", "")),
        enforced=enforced - {"", "none"},
    )


def parse_limits(
    users: str, *, qos: str, account: str | None, named_qos: str | None, partition: Partition | None
) -> Limits:
    """Read what `sacctmgr -nP show user … withassoc` and `show qos` print for these fields.

    Several accounts or none named: the strictest of those that a job may be charged to.

    Args:
        users: lines of `USER_FIELDS`.
        qos: lines of `QOS_FIELDS`.
        account: the account that jobs name; None when they name none.
        named_qos: the quality of service that jobs name.
        partition: where they run.
    """
    rows = [line.split("|") for line in users.splitlines() if line.count("|") == 11]
    main = rows[0][0] if rows else ""
    wanted = account or main
    place = partition.name if partition else ""
    mine = [row for row in rows if row[1] == wanted and row[2] in ("", place)]
    offered = [name for row in mine for name in [row[11], *row[10].split(",")] if name]
    used = {named_qos or next(iter(offered), ""), partition.qos if partition else ""}
    services = [line.split("|") for line in qos.splitlines() if line.count("|") == 9]
    bounds = [row[3:10] for row in mine]
    bounds += [row[1:8] for row in services if row[0] in used]
    bounds += [[row[8], row[9], *[""] * 5] for row in services if row[0] in used]
    return Limits(
        max_jobs=_least(parse_number(row[at]) for row in bounds for at in (0, 2)),
        max_submit=_least(parse_number(row[at]) for row in bounds for at in (1, 3)),
        max_wall_s=_least(parse_duration(row[4]) for row in bounds),
        max_gpus=_least(_gpus(row[at]) for row in bounds for at in (5, 6)),
        accounts=_distinct([main, *(row[1] for row in rows)]),
        qos=_distinct(offered),
    )


def _all_gpus(partition: Mapping[str, str], per_node: int) -> int:
    """Count a partition's GPUs; where SLURM does not track them, as if all nodes had as many."""
    counted = _gpus(partition.get("TRES", ""))
    return per_node * _leading_int(partition.get("TotalNodes", "")) if counted is None else counted


def _least(amounts: Iterable[int | None]) -> int | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _gpus(tres: str) -> int | None:
    """Find the GPUs in a list such as `cpu=64,gres/gpu=8,gres/gpu:a100=4`; types do not count."""
    amounts = dict(part.split("=", 1) for part in tres.split(",") if "=" in part)
    return parse_number(amounts.get("gres/gpu", ""))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name)


def _leading_int(text: str) -> int:
    match = re.match(r"\d{1,18}", text)
    return int(match[0]) if match else 0
