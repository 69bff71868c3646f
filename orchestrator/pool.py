"""The driver job and the pilots of a sweep, through submitit: the only file that imports it.

Nothing here waits: jobs are submitted and their ids returned. The pickles that submitit writes lie
in a 0700 folder of the sweep.
"""

from collections.abc import Callable
from typing import Any

import submitit

from cluster import pilot
from cluster.errors import ClusterError
from cluster.pilot import Offer
from cluster.profile import SlurmProfile
from orchestrator.folder import Folder

SIGNAL_S = 90
"""SLURM signals a pilot this long before its time limit."""


def submit_driver(
    folder: Folder, profile: SlurmProfile, body: Callable[..., None], **arguments: Any
) -> str:
    """Submit the driver job, which calls `body`; return its SLURM job id.

    Raises:
        ClusterError: SLURM refused it.
    """
    pilot.head_file(folder.pool).unlink(missing_ok=True)
    executor = _executor(folder, profile, role="driver")
    executor.update_parameters(
        partition=profile.driver.partition or profile.partition,
        cpus_per_task=profile.driver.cpus,
        mem=_memory(profile.driver.memory_gb),
        time=profile.driver.walltime_min,
    )
    return _submit(executor, 1, body, **arguments)[0]


def submit_pilots(folder: Folder, profile: SlurmProfile, *, count: int) -> list[str]:
    """Submit pilots as one array; return their SLURM job ids.

    Raises:
        ClusterError: SLURM refused them.
    """
    executor = _executor(folder, profile, role="pilot")
    executor.update_parameters(
        partition=profile.partition,
        cpus_per_task=profile.cpus,
        mem=_memory(profile.memory_gb),
        time=profile.walltime_min,
        signal_delay_s=SIGNAL_S,
        array_parallelism=count,
    )
    if profile.gpus:
        executor.update_parameters(gpus_per_node=profile.gpus)
    offer = Offer(
        pool=folder.pool.resolve(),
        workers=profile.workers,
        gpus=profile.gpus if profile.device == "cuda" else 0,
        memory_gb=profile.memory_gb,
        walltime_min=profile.walltime_min,
        node_ip=profile.node_ip,
    )
    return _submit(executor, count, pilot.run, offer)


def _executor(folder: Folder, profile: SlurmProfile, *, role: str) -> Any:
    path = folder.pool / "submitit"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        executor = submitit.SlurmExecutor(folder=path.resolve())
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
        setup=["unset RAY_ADDRESS", *profile.setup],
        stderr_to_stdout=True,
        additional_parameters=options,
    )
    return executor


def _submit(executor: Any, count: int, function: Any, *args: Any, **kwargs: Any) -> list[str]:
    try:
        if count == 1:
            return [executor.submit(function, *args, **kwargs).job_id]
        with executor.batch():
            jobs = [executor.submit(function, *args, **kwargs) for _ in range(count)]
    except (submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
        raise ClusterError(
            f"SLURM refused the job: {error}", hint="check the profile: partition, account, limits"
        ) from error
    return [job.job_id for job in jobs]


def _memory(gigabytes: float) -> str:
    return f"{round(gigabytes * 1024)}MB"
