"""Whether a site can give what a profile asks for; pure.

SLURM accepts jobs that it never starts (walltime over the partition's limit) and refuses others
one by one: here all problems are found at once, before anything is submitted.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster import slurm_site
from cluster.profile import SlurmProfile
from cluster.slurm_site import Limits, Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a profile at its site.

    Attributes:
        problems: jobs would be refused or pend for ever; one line each, key first.
        notes: jobs will run, yet not quite as the profile says.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    prefix: str
    partition: str | None
    gpus: int
    gpu_type: str | None
    cpus: int
    memory_gb: float
    walltime_min: int


def check(profile: SlurmProfile, *, partitions: Sequence[Partition], limits: Limits) -> Verdict:
    """Compare every kind of job of a profile with the site's partitions and limits."""
    problems: list[str] = []
    notes: list[str] = []
    for job in _jobs(profile):
        wrong, noted = _place(job, partitions)
        problems += wrong
        notes += noted
        if limits.max_wall_s is not None and 60 * job.walltime_min > limits.max_wall_s:
            most = limits.max_wall_s // 60
            problems.append(
                f"{job.prefix}walltime_min: {job.walltime_min} is over the {most} minutes that"
                " your account or quality of service allows"
            )
    names = (("account", profile.account, limits.accounts), ("qos", profile.qos, limits.qos))
    for key, named, known in names:
        if named is not None and known and named not in known:
            text = f"{key}: {named!r} is not one of yours{_near(named, known)}"
            (problems if limits.enforced else notes).append(text)
    wrong, noted = _amounts(profile, limits)
    return Verdict(problems=tuple(problems + wrong), notes=tuple(notes + noted))


def _jobs(profile: SlurmProfile) -> list[_Job]:
    jobs = [_pilot(profile, "")]
    if profile.larger is not None:
        jobs.append(_pilot(profile.enlarged(), "larger."))
    if not profile.driver.inside:
        driver = profile.driver
        place = driver.partition or profile.partition
        jobs.append(
            _Job(
                prefix="driver.",
                partition=place,
                gpus=0,
                gpu_type=None,
                cpus=driver.cpus,
                memory_gb=driver.memory_gb,
                walltime_min=driver.walltime_min,
            )
        )
    return jobs


def _pilot(profile: SlurmProfile, prefix: str) -> _Job:
    return _Job(
        prefix=prefix,
        partition=profile.partition,
        gpus=profile.gpus,
        gpu_type=profile.gpu_type,
        cpus=profile.cpus,
        memory_gb=profile.memory_gb,
        walltime_min=profile.walltime_min,
    )


def _place(job: _Job, partitions: Sequence[Partition]) -> tuple[list[str], list[str]]:
    """Check a job against its partition; of several (`a,b`), one that takes it is enough."""
    wanted = job.partition.split(",") if job.partition else [None]
    found = [(name, slurm_site.find(partitions, name)) for name in wanted]
    unknown = [name for name, partition in found if partition is None]
    if unknown:
        return [_absent(job, name, partitions) for name in unknown], []
    places = [partition for _, partition in found if partition is not None]
    wrong = [_misfits(job, place) for place in places]
    if all(wrong):
        return min(wrong, key=len), []
    notes = [line for lines in wrong for line in lines]
    return [], notes + [note for place in places for note in _remarks(job, place)]


def _absent(job: _Job, name: str | None, partitions: Sequence[Partition]) -> str:
    known = [partition.name for partition in partitions]
    if name is None:
        return f"{job.prefix}partition: none is named and the site has no default; {_of(known)}"
    return f"{job.prefix}partition: there is no {name!r} here{_near(name, known)}"


def _misfits(job: _Job, place: Partition) -> list[str]:
    name = place.name
    wrong = []
    if place.state in ("DRAIN", "INACTIVE"):
        wrong.append(f"partition: {name} takes no jobs now, its state is {place.state}")
    if place.max_time_s is not None and 60 * job.walltime_min > place.max_time_s:
        wrong.append(
            f"walltime_min: {job.walltime_min} is over the {place.max_time_s // 60} minutes of"
            f" partition {name}; SLURM would keep the job pending for ever"
        )
    if job.gpu_type and job.gpus and job.gpu_type not in place.gpu_types:
        wrong.append(
            f"gpu_type: partition {name} has no {job.gpu_type!r}"
            f"{_near(job.gpu_type, [kind for kind in place.gpu_types if kind])}"
        )
    here = place.gpu_types.get(job.gpu_type or "", 0) if job.gpu_type else place.gpus_per_node
    amounts = (
        ("gpus", job.gpus, here or place.gpus_per_node, "GPUs"),
        ("cpus", job.cpus, place.cpus_per_node, "CPUs"),
        ("memory_gb", job.memory_gb, place.memory_mb_per_node / 1024, "GB"),
    )
    wrong += [
        f"{key}: {asked:g} is more than the {most:.4g} {unit} of the largest node of {name}"
        for key, asked, most, unit in amounts
        if asked > most
    ]
    return [job.prefix + line for line in wrong]


def _remarks(job: _Job, place: Partition) -> list[str]:
    notes = []
    if place.state == "DOWN":
        notes.append(f"{job.prefix}partition: {place.name} is down; jobs wait until it is up")
    if job.gpus and not job.gpu_type and len(place.gpu_types) > 1:
        kinds = ", ".join(sorted(kind or "untyped" for kind in place.gpu_types))
        notes.append(f"{job.prefix}gpu_type: any of {kinds} may come in {place.name}; name one")
    return notes


def _amounts(profile: SlurmProfile, limits: Limits) -> tuple[list[str], list[str]]:
    """Compare numbers of jobs with what may be in the queue and run at once."""
    problems, notes = [], []
    drivers = 0 if profile.driver.inside else 1
    jobs = profile.pilots + drivers
    if limits.max_submit is not None and limits.max_submit < drivers + 1:
        problems.append(
            f"pilots: the site lets you have {limits.max_submit} job in the queue; a driver and a"
            " pilot are two: set driver.inside"
        )
    elif limits.max_submit is not None and limits.max_submit < jobs:
        notes.append(
            f"pilots: {profile.pilots} and a driver are more than the {limits.max_submit} jobs you"
            " may have in the queue; the rest follow as jobs end"
        )
    if limits.max_jobs is not None and limits.max_jobs < jobs:
        notes.append(
            f"pilots: of {jobs} jobs, driver counted, the site runs {limits.max_jobs} at once"
        )
    if limits.max_gpus is not None and limits.max_gpus < profile.gpus:
        problems.append(f"gpus: {profile.gpus} is over the {limits.max_gpus} that you may use")
    elif limits.max_gpus is not None and limits.max_gpus < profile.gpus * profile.pilots:
        most = limits.max_gpus // profile.gpus
        notes.append(f"pilots: you may use {limits.max_gpus} GPUs, so {most} pilots run at once")
    return problems, notes


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; {_of(names)}"


def _of(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"there are: {shown}" if names else "there are none"
