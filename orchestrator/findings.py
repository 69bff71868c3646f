"""What `sweep doctor` says of a SLURM site: what was read, and what `sweep` does about it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cluster import slurm_site
from cluster.doctor import Site
from cluster.profile_check import Verdict
from cluster.slurm_site import Partition

Level = Literal["ok", "note", "problem"]
KILL_WAIT_S = 30
"""Between TERM and KILL: SLURM's default, and about what a checkpoint needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: a word to find it by.
        level: `problem` where a sweep cannot work, `note` where something is worth knowing.
        found: what was read or measured.
        does: what `sweep` does about it, or what you can do.
    """

    topic: str
    level: Level = "ok"
    found: str
    does: str


def of_site(site: Site) -> list[Finding]:
    """Judge a SLURM site."""
    return [
        _controller(site),
        *(_partition(place, site) for place in site.partitions),
        *_gpus(site),
        _arrays(site),
        _limits(site),
        _accounts(site),
        _preemption(site),
        _requeue(site),
        _accounting(site),
        _kill_wait(site),
        *_addresses(site),
        _submission(site),
    ]


def of_profile(name: str, verdict: Verdict) -> list[Finding]:
    """Judge a profile at its site."""
    if not verdict.problems and not verdict.notes:
        return [Finding(topic="profile", found=f"{name} fits this site", does="use it as it is")]
    wrong = [
        Finding(topic="profile", level="problem", found=line, does=f"launch refuses; edit {name}")
        for line in verdict.problems
    ]
    noted = [
        Finding(topic="profile", level="note", found=line, does="launch works, and says so")
        for line in verdict.notes
    ]
    return wrong + noted


def _controller(site: Site) -> Finding:
    name, version = site.config.get("ClusterName", "?"), site.config.get("SLURM_VERSION", "?")
    return Finding(
        topic="slurm",
        found=f"version {version}, cluster {name}, the controller answers",
        does="the driver and the pilots of a sweep become jobs here",
    )


def _partition(place: Partition, site: Site) -> Finding:
    kinds = [f"{count} × {kind or 'GPU'}" for kind, count in sorted(place.gpu_types.items())]
    limit = "no time limit" if place.max_time_s is None else f"{place.max_time_s // 60} min"
    found = [
        f"{place.name}{' (default)' if place.default else ''}: {place.num_nodes} nodes",
        f"up to {', '.join(kinds) or 'no GPU'}, {place.cpus_per_node} cores and"
        f" {place.memory_mb_per_node / 1024:.0f} GB each",
        limit,
    ]
    kind = site.config.get("PreemptType", "")
    does = f"profiles that ask {place.name} for more are refused before anything is submitted"
    if by := slurm_site.preempted_by(place, site.partitions, kind=kind):
        found.append(f"preempted by {by} ({place.preempt_mode}, {place.grace_time_s} s of grace)")
    if place.state != "UP":
        found.append(f"state {place.state}")
        does = "jobs would wait here or be refused: choose another partition"
    level: Level = "ok" if place.state == "UP" else "note"
    return Finding(topic="partition", level=level, found=", ".join(found), does=does)


def _gpus(site: Site) -> Iterable[Finding]:
    if not site.partitions:
        yield Finding(
            topic="partition",
            level="problem",
            found="you see no partition",
            does="nothing can be submitted: ask the site for access",
        )
    elif not any(place.gpus_per_node for place in site.partitions):
        yield Finding(
            topic="partition",
            level="note",
            found="no partition has GPUs",
            does="trials train on cores: device cpu and gpus 0 in the profile",
        )


def _arrays(site: Site) -> Finding:
    size, count = site.limits.max_array_size, site.limits.max_job_count
    return Finding(
        topic="arrays",
        found=f"MaxArraySize {size or 'unknown'}, MaxJobCount {count or 'unknown'}",
        does="pilots are submitted as arrays no larger than that, at most one sbatch a second",
    )


def _limits(site: Site) -> Finding:
    limits = site.limits
    if limits.unknown:
        return Finding(
            topic="limits",
            level="note",
            found=f"unknown: {_first_line(limits.unknown)}",
            does="at most queued_max pilots pend; set max_submitted if SLURM refuses jobs",
        )
    named = {
        "in the queue": limits.max_submit,
        "running": limits.max_jobs,
        "GPUs in use": limits.max_gpus,
        "minutes of walltime": None if limits.max_wall_s is None else limits.max_wall_s // 60,
    }
    found = ", ".join(f"{most} {what}" for what, most in named.items() if most is not None)
    return Finding(
        topic="limits",
        found=f"of your account and QOS: at most {found}" if found else "none on your jobs",
        does="fewer pilots are submitted at once, and the rest when jobs end"
        if found
        else "queued_max of the profile alone bounds the pending pilots",
    )


def _accounts(site: Site) -> Finding:
    limits = site.limits
    accounts, qos = ", ".join(limits.accounts), ", ".join(limits.qos)
    strict = "SLURM checks them" if limits.enforced else "SLURM does not insist"
    return Finding(
        topic="accounts",
        level="note" if "associations" in limits.enforced and not accounts else "ok",
        found=f"accounts {accounts or 'unknown'}; QOS {qos or 'unknown'}; {strict}",
        does="account and qos of the profile are compared with these; the first is the default",
    )


def _preemption(site: Site) -> Finding:
    kind = site.config.get("PreemptType", "")
    told = "preempt_send_user_signal" in site.config.get("SlurmctldParameters", "")
    hit = [
        place
        for place in site.partitions
        if slurm_site.preempted_by(place, site.partitions, kind=kind)
    ]
    if not hit:
        return Finding(
            topic="preemption", found=f"none ({kind or 'unknown'})", does="pilots keep their time"
        )
    graces = sorted({place.grace_time_s for place in hit})
    found = f"{kind.removeprefix('preempt/')}, grace {' or '.join(map(str, graces))} s, "
    found += "pilots get their signal" if told else "TERM only (no preempt_send_user_signal)"
    return Finding(
        topic="preemption",
        level="ok" if min(graces) else "note",
        found=found,
        does="a warned pilot leaves checkpoints and its packs go on elsewhere, free of attempts;"
        " without grace they go on from their last checkpoint",
    )


def _requeue(site: Site) -> Finding:
    default = "requeued" if site.config.get("JobRequeue") == "1" else "not requeued"
    return Finding(
        topic="requeue",
        found=f"jobs are {default} by default (JobRequeue)",
        does="pilots ask for --no-requeue, the driver for --requeue, whatever the default",
    )


def _accounting(site: Site) -> Finding:
    if site.accounting:
        return Finding(
            topic="accounting",
            level="note",
            found=f"sacct does not tell: {_first_line(site.accounting)}",
            does="how a pilot ended is then unknown, never failed: files and squeue decide",
        )
    return Finding(
        topic="accounting",
        found="sacct answers",
        does="it tells why pilots ended; it lags by seconds, so files and squeue come first",
    )


def _kill_wait(site: Site) -> Finding:
    words = site.config.get("KillWait", "").split()
    seconds = int(words[0]) if words and words[0].isdecimal() else None
    short = seconds is not None and seconds < KILL_WAIT_S
    return Finding(
        topic="kill wait",
        level="note" if short else "ok",
        found=f"{'unknown' if seconds is None else f'{seconds} s'} from TERM to KILL",
        does="pilots are signalled signal_s before their limit and do not need it"
        + ("; a scancelled pack may lose work since its last checkpoint" if short else ""),
    )


def _addresses(site: Site) -> Iterable[Finding]:
    if site.one_host:
        num = len(set(site.addresses.values()))
        yield Finding(
            topic="addresses",
            level="note",
            found=f"{len(site.addresses)} nodes share {num} address",
            does="each job needs an address of its own for Ray: node_ip, as the proposal has it",
        )


def _submission(site: Site) -> Finding:
    only = {place.submit_from for place in site.partitions} - {"ALL", "(null)"}
    if only:
        return Finding(
            topic="sbatch on nodes",
            level="note",
            found=f"some partitions take jobs only from {', '.join(sorted(only))}",
            does="the driver may not replace pilots there; it says so, and sweep resume does it",
        )
    return Finding(
        topic="sbatch on nodes",
        found="not forbidden by a partition; known for sure when a driver has tried",
        does="the driver replaces pilots; where it cannot it says so, and sweep resume does it",
    )


def _first_line(text: str) -> str:
    lines = text.splitlines()
    return (lines[1] if len(lines) > 1 else text)[:200]
