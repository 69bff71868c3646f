"""The driver job and the pilots of a sweep, through submitit: the only file that imports it.

Nothing here waits for a job: jobs are submitted, one sbatch a second at most, and their ids
returned. Each submission carries a tag in SLURM's comment, which the journal holds before sbatch
is called: a crash in between loses no job. The pickles that submitit writes lie in a 0700 folder of
the sweep. What SLURM refused is written down; what it may have taken stays known by its tag.
"""

import logging
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit

from cluster import pilot, slurm, slurm_text
from cluster.errors import ClusterError, NoAnswerError
from cluster.pilot import Offer
from cluster.profile import SlurmProfile
from cluster.slurm import Limits
from orchestrator import roster
from orchestrator.events import Journal
from orchestrator.folder import Folder

log = logging.getLogger(__name__)

PACE_S = 1.0
"""At least this long between two calls of sbatch."""
ARRAY_MAX = 1000
"""Elements of an array where the site's MaxArraySize is not known; SLURM's own default."""
HINT = "check the profile: partition, account, limits; or: sweep doctor"
SILENT_HINT = "what it took is shown by: sweep status {0}; and is ended by: sweep cancel {0}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What SLURM took of the pilots that it was offered.

    Args:
        jobs: SLURM job ids.
        refused: why it took no more; empty where it took all.
        limited: whether that is a limit on jobs in the queue, so that there is room later.
        silent: whether SLURM did not say if it took more.
    """

    jobs: tuple[str, ...] = ()
    refused: str = ""
    limited: bool = False
    silent: bool = False


class Submitter:
    """Submits a sweep's jobs and writes them down.

    Args:
        folder: the sweep's.
        profile: how the cluster is used.
        journal: of the process that submits; no other thread writes it.
        by: "launch" or "driver".
        limits: of the site; what is None is tried.
    """

    def __init__(
        self, folder: Folder, profile: SlurmProfile, journal: Journal, *, by: str, limits: Limits
    ) -> None:
        self._folder = folder
        self._profile = profile
        self._journal = journal
        self._by = by
        self._limits = limits
        self._next = time.monotonic()

    def driver(self, body: Callable[..., None], **arguments: Any) -> str:
        """Submit the driver job, which calls `body`; return its SLURM job id.

        Raises:
            ClusterError: SLURM refused it, or (NoAnswerError) did not say if it took it.
        """
        executor = _driver_executor(self._folder, self._profile)
        inside = self._profile.driver.inside
        gpus = self._profile.billed_gpus if inside else 0
        return self._submit(
            executor, "driver", 1, body, size="normal", gpus=gpus, **arguments
        )[0]  # fmt: skip

    def pilots(
        self, count: int, *, size: str = "normal", avoid: Collection[str] = (), others: int = 1
    ) -> Taken:
        """Submit pilots as arrays, as many as the site takes.

        A refusal for a limit on jobs is met with half as many, down to one.

        Args:
            count: how many.
            size: "normal", or "large" for the profile's larger class.
            avoid: nodes to avoid beside the profile's.
            others: jobs of this sweep that the queue holds already.
        """
        profile = self._profile.enlarged() if size == "large" else self._profile
        executor = pilot_executor(self._folder, profile, avoid=avoid)
        offer = _offer(self._folder, profile, size)
        most = self._profile.max_submitted or self._limits.max_submit
        room = count if most is None else min(count, max(0, most - others))
        step = min(room, self._limits.max_array_size or ARRAY_MAX)
        jobs: list[str] = []
        refused = "" if room == count else f"at most {most} jobs may be in the queue"
        while len(jobs) < room:
            number = min(step, room - len(jobs))
            try:
                jobs += self._submit(
                    executor, "pilot", number, serve, offer, self._folder.root.resolve(),
                    size=size, gpus=profile.billed_gpus,
                )  # fmt: skip
            except ClusterError as error:
                refused, silent = error.message, isinstance(error, NoAnswerError)
                if silent or not slurm_text.is_limit(refused):
                    return Taken(jobs=tuple(jobs), refused=refused, silent=silent)
                if number == 1:
                    break
                step = number // 2
        return Taken(jobs=tuple(jobs), refused=refused, limited=bool(refused))

    def _submit(
        self, executor: Any, role: str, count: int, function: Any, *args: Any, size: str,
        gpus: int, **kwargs: Any,
    ) -> list[str]:  # fmt: skip
        tag = roster.new_tag(role)
        executor.update_parameters(comment=tag, array_parallelism=count)
        self._journal.write("submitting", role=role, count=count, tag=tag)
        time.sleep(max(0.0, self._next - time.monotonic()))
        try:
            jobs = sbatch(executor, count, function, *args, **kwargs)
        except NoAnswerError as error:
            hint = SILENT_HINT.format(self._folder.name)
            raise NoAnswerError(error.message, hint=hint) from error
        except ClusterError as error:
            self._journal.write("refused", role=role, count=count, tag=tag, message=error.message)
            raise
        finally:
            self._next = time.monotonic() + PACE_S
        for job in jobs:
            self._journal.write(
                "submitted", role=role, job=job, size=size, gpus=gpus, by=self._by, tag=tag
            )
        return jobs


def serve(offer: Offer, root: Path) -> str:
    """Be a pilot, with a journal of its own; the body of a pilot's SLURM job."""
    journal = Journal(Folder(root), "pilot")
    return pilot.run(offer, on_event=telling(journal))


def telling(journal: Journal) -> Callable[..., None]:
    """Write a pilot's events; a disk that is full does not end the pilot."""

    def tell(event: str, **fields: Any) -> None:
        try:
            journal.write(event, **fields)
        except OSError as error:
            log.warning("event=%s not written: %s", event, error)

    return tell


def scripts(folder: Folder, profile: SlurmProfile) -> dict[str, str]:
    """Show the batch scripts that would be submitted, by role; nothing is written."""
    driver = _driver_executor(folder, profile, write=False)
    pilots = pilot_executor(folder, profile, avoid=(), write=False)
    return {
        role: executor._make_submission_file_text(executor._submitit_command_str, "")
        for role, executor in (("driver", driver), ("pilot", pilots))
    }


def offer_inside(
    folder: Folder, profile: SlurmProfile, *, walltime_s: float | None = None
) -> Offer:
    """Say what a driver offers that serves packs itself; `walltime_s` where not the profile's."""
    offer = _offer(folder, profile, "normal")
    return offer if walltime_s is None else replace(offer, walltime_s=walltime_s)


def limits(profile: SlurmProfile) -> Limits:
    """Ask what the site allows; nothing is known where it does not answer."""
    try:
        return slurm.limits(partition=profile.partition, account=profile.account, qos=profile.qos)
    except ClusterError as error:
        return Limits(unknown=error.message)


def _offer(folder: Folder, profile: SlurmProfile, size: str) -> Offer:
    return Offer(
        pool=folder.pool.resolve(), node_ip=profile.node_ip, size=size,
        workers=profile.workers, memory_gb=profile.memory_gb,
        gpus=profile.gpus if profile.device == "cuda" else 0, charged_gpus=profile.billed_gpus,
        walltime_s=60.0 * profile.walltime_min, wait_s=60 * profile.wait_min,
        signal_s=profile.signal_s,
    )  # fmt: skip


def _driver_executor(folder: Folder, profile: SlurmProfile, *, write: bool = True) -> Any:
    executor = _executor(folder, profile, role="driver", write=write)
    if profile.driver.inside:
        _give_pilot(executor, profile)
        return executor
    executor.update_parameters(
        partition=profile.driver.partition or profile.partition,
        cpus_per_task=profile.driver.cpus,
        mem=_memory(profile.driver.memory_gb),
        time=profile.driver.walltime_min,
    )
    return executor


def pilot_executor(
    folder: Folder, profile: SlurmProfile, *, avoid: Collection[str], write: bool = True
) -> Any:
    """Make an executor of jobs that are like pilots: resources, and nodes to avoid."""
    executor = _executor(folder, profile, role="pilot", write=write)
    _give_pilot(executor, profile)
    nodes = [*([profile.exclude] if profile.exclude else []), *sorted(avoid)]
    executor.update_parameters(exclude=",".join(nodes) or None)
    return executor


def _give_pilot(executor: Any, profile: SlurmProfile) -> None:
    executor.update_parameters(
        partition=profile.partition,
        cpus_per_task=profile.cpus,
        mem=_memory(profile.memory_gb),
        time=profile.walltime_min,
    )
    if profile.gpus:
        executor.update_parameters(gpus_per_node=profile.gpus_per_node)


def _executor(folder: Folder, profile: SlurmProfile, *, role: str, write: bool) -> Any:
    path = folder.pool / "submitit"
    if write:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        executor = submitit.SlurmExecutor(folder=path.resolve(), python=profile.python)
    except RuntimeError as error:
        raise ClusterError(
            f"SLURM is not here: {error}", hint="on one machine, use: --cluster local"
        ) from error
    further = {key.replace("-", "_"): value for key, value in profile.sbatch.items()}
    # Requeueing is the driver's business: a requeued pilot would come back on SLURM's terms.
    options: dict[str, Any] = {"no-requeue" if role == "pilot" else "requeue": True, **further}
    executor.update_parameters(
        job_name=f"sweep-{folder.name}-{role}",
        nodes=1,
        ntasks_per_node=1,
        account=profile.account,
        qos=profile.qos,
        constraint=profile.constraint,
        exclude=profile.exclude,
        signal_delay_s=profile.signal_s,
        setup=["unset RAY_ADDRESS", *profile.setup],
        stderr_to_stdout=True,
        wckey=None,  # submitit's own one is refused where these are tracked
        additional_parameters=options,
    )
    return executor


def sbatch(executor: Any, count: int, function: Any, *args: Any, **kwargs: Any) -> list[str]:
    """Submit a function once, or as an array of tasks; return their SLURM job ids.

    Raises:
        ClusterError: SLURM refused them, or (NoAnswerError) did not say if it took them.
    """
    try:
        if count == 1:
            return [executor.submit(function, *args, **kwargs).job_id]
        with executor.batch():
            jobs = [executor.submit(function, *args, **kwargs) for _ in range(count)]
    except (submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
        if _is_refusal(error):
            raise ClusterError(f"SLURM refused the job: {error}", hint=HINT) from error
        text = f"SLURM did not say whether it took the job: {error}"
        raise NoAnswerError(text, hint="what it took is shown by: squeue --me") from error
    return [job.job_id for job in jobs]


def _is_refusal(error: Exception) -> bool:
    """Tell whether sbatch ran to its end and said no."""
    ran = error.__cause__
    ended = isinstance(ran, subprocess.CalledProcessError) and ran.returncode > 0
    return ended and not slurm_text.is_silent(str(error))


def _memory(gigabytes: float) -> str:
    return f"{round(gigabytes * 1024)}MB"
