"""Read what SLURM's programs print; pure functions, and the records they return.

The texts were taken from SLURM 22.05 and its manual pages; `cluster/slurm.py` asks for them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cluster.errors import ClusterError

UNKNOWN = "UNKNOWN"
# squeue(1), "JOB STATE CODES": the states that a job does not leave again.
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job (or an element of an array) that the controller knows.

    Args:
        id: `12`, or `12_3` for element 3 of array 12.
        state: SLURM's long name, as in squeue(1).
        reason: why it waits or ended; `None` (the text) when there is none.
        node: where it runs, in SLURM's list form; empty while it waits.
        start: when it began, or is expected to begin; None when SLURM has no estimate.
        time_left_s: seconds to its time limit; None when unlimited or not known.
    """

    id: str
    state: str
    reason: str
    node: str
    start: datetime | None
    time_left_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What accounting (sacct) knows of a job.

    Args:
        id: as in `Job`.
        state: SLURM's long name without "by UID", or `UNKNOWN` when accounting is off, does not
            answer or has not heard of the job yet. OUT_OF_MEMORY also when only a step says so.
        exit_code: of the batch script; None when unknown.
        signal: that ended it, 0 for none; None when unknown.
        elapsed_s: seconds it ran.
        node: where it ran, in SLURM's list form; empty when it never started.
        start: None when it never started.
        end: None while it waits or runs.
    """

    id: str
    state: str = UNKNOWN
    exit_code: int | None = None
    signal: int | None = None
    elapsed_s: int = 0
    node: str = ""
    start: datetime | None = None
    end: datetime | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """When and where SLURM thinks a job would start."""

    start: datetime
    node: str


def parse_queue(text: str, *, wanted: Iterable[str]) -> list[Job]:
    """Read lines of `%i|%T|%N|%S|%L|%r`; keep the wanted ids and the elements of wanted arrays."""
    asked = set(wanted)
    jobs = []
    for line in text.splitlines():
        ids, state, node, start, left, reason = line.split("|", 5)
        kept = [job_id for job_id in expand(ids) if _is_asked(job_id, asked)]
        when, left_s = parse_time(start), parse_duration(left)
        jobs += [
            Job(id=i, state=state, reason=reason, node=node, start=when, time_left_s=left_s)
            for i in kept
        ]
    return jobs


def parse_account(text: str, *, wanted: Iterable[str]) -> list[Account]:
    """Read sacct's lines; a step that ran out of memory speaks for its job (srun hides it)."""
    asked = set(wanted)
    found: dict[str, Account] = {}
    out_of_memory: set[str] = set()
    for line in text.splitlines():
        ids, *fields = line.split("|")
        base, _, step = ids.partition(".")
        if step:
            out_of_memory |= {base} if fields[0] == "OUT_OF_MEMORY" else set()
            continue
        for job_id in expand(base):
            # The line of a whole array lags behind those of its elements.
            if _is_asked(job_id, asked) and (job_id == base or job_id not in found):
                found[job_id] = _account(job_id, *fields)
    return [_explained(one, out_of_memory) for one in found.values()]


def parse_partitions(shown: str, *, nodes: str) -> list[Partition]:
    """Read `scontrol --oneliner show partition` and sinfo's lines of `%R|%G|%c|%m`."""
    largest: dict[str, tuple[int, int, int]] = {}
    for line in nodes.splitlines():
        name, gres, cpus, memory = line.split("|")
        here = (num_gpus(gres), _leading_int(cpus), _leading_int(memory))
        old = largest.get(name, (0, 0, 0))
        largest[name] = (max(old[0], here[0]), max(old[1], here[1]), max(old[2], here[2]))
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
            )
        )
    return found


def parse_config(text: str) -> dict[str, str]:
    """Read the `Key = value` lines of `scontrol show config`."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def parse_estimate(text: str) -> Estimate:
    """Read what `sbatch --test-only` says on stderr when the job could run.

    Raises:
        ClusterError: It says something else.
    """
    match = re.search(r"to start at (\S+) .*on nodes (\S+)", text)
    start = parse_time(match[1]) if match else None
    if match is None or start is None:
        raise ClusterError(f"sbatch --test-only gave no estimate: {text.strip()!r}")
    return Estimate(start=start, node=match[2])


def expand(job_ids: str) -> list[str]:
    """Name each element of an array expression: `12_[4-9:5,11%2]` is 12_4, 12_9 and 12_11.

    Raises:
        ClusterError: The expression was cut short or is of another form.
    """
    match = re.fullmatch(r"(\d+)_\[([^%\]]*)(?:%\d+)?\]", job_ids)
    if match is None:
        return [job_ids]
    elements: list[str] = []
    for part in match[2].split(","):
        span = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if span is None:
            raise ClusterError(f"cannot read the array elements {job_ids!r}")
        first, last, step = int(span[1]), int(span[2] or span[1]), int(span[3] or 1)
        elements += [f"{match[1]}_{index}" for index in range(first, last + 1, step)]
    return elements


def parse_duration(text: str) -> int | None:
    """Read `[days-][hours:]minutes:seconds` as seconds; None for UNLIMITED, N/A and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_time(text: str) -> datetime | None:
    """Read a time that SLURM printed under TZ=UTC; None for N/A, Unknown and None."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text.strip()):
        return None
    return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)


def num_gpus(gres: str) -> int:
    """Count the GPUs of a node in its GRES text, such as `gpu:a100:4(S:0-1),shard:8`."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    counts = (re.fullmatch(r"gpu(?::[^:]+)?:(\d+)", part) for part in plain.split(","))
    return sum(int(count[1]) for count in counts if count)


def array(job_id: str) -> str:
    """Give the id of the array that an element belongs to; of a plain job, its own id."""
    return re.split(r"[_+]", job_id, maxsplit=1)[0]


def _is_asked(job_id: str, asked: set[str]) -> bool:
    return job_id in asked or array(job_id) in asked


def _account(
    job_id: str, state: str, exit_code: str, elapsed: str, node: str, start: str, end: str
) -> Account:
    code, _, signal = exit_code.partition(":")
    return Account(
        id=job_id,
        state=state.split(" ", 1)[0],
        exit_code=int(code),
        signal=int(signal),
        elapsed_s=int(elapsed or 0),
        node="" if node == "None assigned" else node,
        start=parse_time(start),
        end=parse_time(end),
    )


def _explained(one: Account, out_of_memory: set[str]) -> Account:
    if one.id in out_of_memory and one.state in {"FAILED", "CANCELLED"}:
        return replace(one, state="OUT_OF_MEMORY")
    return one


def _leading_int(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0
