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
SILENT_WORDS = ("Unable to contact", "Socket timed out", "Connection refused", "temporarily")
LIMIT_WORDS = ("submit limit", "MaxSubmit", "MaxJobs", "job limit", "GrpSubmit", "Job count")


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
        elapsed_s: seconds since it began; 0 while it waits.
        tag: the comment it was submitted with; empty when none.
    """

    id: str
    state: str
    reason: str
    node: str
    start: datetime | None
    time_left_s: int | None
    elapsed_s: int = 0
    tag: str = ""


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
class Estimate:
    """When and where SLURM thinks a job would start."""

    start: datetime
    node: str


def parse_queue(text: str, *, wanted: Iterable[str]) -> list[Job]:
    """Read lines of `%i|%T|%N|%S|%L|%M|%r`; keep wanted ids and the elements of wanted arrays."""
    asked = set(wanted)
    lines = (line.split("|", 6) for line in text.splitlines())
    whole = (fields for fields in lines if len(fields) == 7)
    return [job for fields in whole for job in _jobs(*fields) if _is_asked(job.id, asked)]


def parse_tagged(text: str, *, tags: Iterable[str]) -> list[Job]:
    """Read lines of `%i|%T|%N|%S|%L|%M|%r|%k`; keep jobs whose comment is one of the tags.

    Other jobs of the user may have any comment, of several lines too: their lines do not count.
    """
    asked = set(tags)
    lines = (line.split("|", 7) for line in text.splitlines())
    kept = (fields for fields in lines if len(fields) == 8 and fields[7] in asked)
    return [replace(job, tag=fields[7]) for fields in kept for job in _jobs(*fields[:7])]


def parse_account(text: str, *, wanted: Iterable[str]) -> list[Account]:
    """Read sacct's lines; a step that ran out of memory speaks for its job (srun hides it)."""
    asked = set(wanted)
    found: dict[str, Account] = {}
    out_of_memory: set[str] = set()
    for line in text.splitlines():
        ids, *fields = line.split("|")
        base, _, step = ids.partition(".")
        if len(fields) != 6:
            continue
        if step:
            out_of_memory |= {base} if fields[0] == "OUT_OF_MEMORY" else set()
            continue
        for job_id in expand(base):
            # The line of a whole array lags behind those of its elements.
            if _is_asked(job_id, asked) and (job_id == base or job_id not in found):
                found[job_id] = _account(job_id, *fields)
    return [_explained(one, out_of_memory) for one in found.values()]


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


def is_silent(said: str) -> bool:
    """Tell whether a program that failed had no answer: SLURM may have done what it asked for."""
    return not said or any(words in said for words in SILENT_WORDS)


def is_limit(said: str) -> bool:
    """Tell whether a job was refused for a limit on jobs, so that there is room later."""
    return any(words in said for words in LIMIT_WORDS)


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
        span = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7})(?::([1-9]\d{0,6}))?)?", part)
        if span is None:
            raise ClusterError(f"cannot read the array elements {job_ids!r}")
        first, last, step = int(span[1]), int(span[2] or span[1]), int(span[3] or 1)
        elements += [f"{match[1]}_{index}" for index in range(first, last + 1, step)]
    return elements


def parse_duration(text: str) -> int | None:
    """Read `[days-][hours:]minutes:seconds` as seconds; None for UNLIMITED, N/A and the like."""
    match = re.fullmatch(r"(?:(\d{1,9})-)?(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_time(text: str) -> datetime | None:
    """Read a time that SLURM printed under TZ=UTC; None for N/A, Unknown and None."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text.strip()):
        return None
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError:  # such as a month 13
        return None


def parse_number(text: str) -> int | None:
    """Read a whole number; None where the text is none."""
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def parse_restarts(text: str) -> int:
    """Read how often a job was requeued from `scontrol --oneliner show job`."""
    match = re.search(r"\bRestarts=(\d{1,9})", text)
    return int(match[1]) if match else 0


def array(job_id: str) -> str:
    """Give the id of the array that an element belongs to; of a plain job, its own id."""
    return re.split(r"[_+]", job_id, maxsplit=1)[0]


def _is_asked(job_id: str, asked: set[str]) -> bool:
    return job_id in asked or array(job_id) in asked


def _jobs(
    ids: str, state: str, node: str, start: str, left: str, ran: str, reason: str
) -> list[Job]:
    return [
        Job(
            id=job_id,
            state=state,
            reason=reason,
            node=node,
            start=parse_time(start),
            time_left_s=parse_duration(left),
            elapsed_s=parse_duration(ran) or 0,
        )
        for job_id in expand(ids)
    ]


def _account(
    job_id: str, state: str, exit_code: str, elapsed: str, node: str, start: str, end: str
) -> Account:
    code, _, signal = exit_code.partition(":")
    return Account(
        id=job_id,
        state=state.split(" ", 1)[0],
        exit_code=parse_number(code),
        signal=parse_number(signal),
        elapsed_s=parse_number(elapsed) or 0,
        node="" if node == "None assigned" else node,
        start=parse_time(start),
        end=parse_time(end),
    )


def _explained(one: Account, out_of_memory: set[str]) -> Account:
    if one.id in out_of_memory and one.state in {"FAILED", "CANCELLED"}:
        return replace(one, state="OUT_OF_MEMORY")
    return one
